"""Each rule's loss, slope, steps and gradients as curves."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from ..export.output_file import output_file
from ..ops import binary_sign, paper_staircase
from ..rules import Rule

SHOWN = 2.5
POINTS = 1001
STEPS = 3
# Two rules a row, three panels a rule.
IN_A_ROW = 2
LIMITS = (-0.6, 2.6)
# A gallery of many rules is a page of its own, whose file stays small.
DPI, PAGE_DPI, PAGE_ROWS = 110, 72, 8
STEP_STYLE = {"color": "0.7", "linewidth": 1, "label": "output"}


def draw_rules(rules: Sequence[Rule], path: Path, *, overwrite: bool = False) -> None:
    """Save three panels a rule: loss and slope, sign with its gradient, a staircase with its own.

    Gradients are those that pass for an incoming one of ±1, taken from the quantizers themselves.

    Raises:
        ImportError: if matplotlib is missing; says how to install it.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("plots need matplotlib: pip install 'brevitas-ftprop[cli]'") from error
    columns = min(IN_A_ROW, len(rules))
    rows = -(-len(rules) // columns)
    figure = Figure(figsize=(6.6 * columns, 1.9 * rows + 0.8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, 3 * columns, squeeze=False)
    for position, rule in enumerate(rules):
        row, column = divmod(position, columns)
        _draw(rule, axes[row][3 * column : 3 * column + 3])
    # Above the panels, where it covers no curve; of a line in every panel, once.
    lines = {line.get_label(): line for axis in axes.flat for line in axis.get_lines()}
    figure.legend(
        lines.values(), lines.keys(), loc="outside upper center", ncols=4 * columns, fontsize=7
    )
    for panel in range(3):
        _share(list(axes[:, panel::3].flat[: len(rules)]))
    for axis in axes.flat[3 * len(rules) :]:
        axis.set_axis_off()
    with output_file(path, overwrite=overwrite) as stream:
        dpi = DPI if rows < PAGE_ROWS else PAGE_DPI
        figure.savefig(stream, format=path.suffix[1:].lower(), dpi=dpi)


def _draw(rule: Rule, panels: Sequence[Any]) -> None:
    margins, sign, staircase = panels
    m = torch.linspace(-SHOWN, SHOWN, POINTS)
    if rule.has_loss:
        margins.plot(m, rule.loss(m), "--", color="0.5", label="loss")
    slope = rule.slope(m)
    margins.plot(m, slope, color="C0", label="slope")
    # A steep loss may leave the panel; what a rule does near its threshold may not.
    peak = float(slope[m.abs() < 1].max())
    margins.set(
        title=rule.spec,
        xlabel="margin m",
        ylabel="loss, slope",
        ylim=(LIMITS[0], max(LIMITS[1], 1.1 * peak)),
    )
    on_sign = partial(binary_sign, scale=torch.tensor(1.0), rule=rule.spec, weighting="grad")
    sign.plot(m, on_sign(m), **STEP_STYLE)
    for grad, style in ((1.0, "-"), (-1.0, "--")):
        sign.plot(m, _gradient(m, grad, on_sign), style, color="C1", label=f"sign, g = {grad:+.0f}")
    sign.set(title="sign(z)", xlabel="pre-activation z", ylabel="output, gradient")
    x = torch.linspace(-1, 2, POINTS)
    on_steps = partial(
        paper_staircase, steps=STEPS, max_val=1.0, rule=rule.spec, weighting="grad", form="single"
    )
    staircase.plot(x, on_steps(x), **STEP_STYLE)
    for form, color in (("single", "C2"), ("sum", "C3")):
        passed = _gradient(x, 1.0, partial(on_steps, form=form))
        staircase.plot(x, passed, color=color, label=f'staircase="{form}"')
    staircase.set(
        title=f"staircase of {STEPS} steps, g = +1", xlabel="x", ylabel="output, gradient"
    )
    # A constant gradient would else be drawn without its height.
    staircase.set_ylim(bottom=min(staircase.get_ylim()[0], -0.1))
    for axis in panels:
        axis.title.set_fontsize(8)
        axis.tick_params(labelsize=6)
        axis.xaxis.label.set_fontsize(6)
        axis.yaxis.label.set_fontsize(6)
        axis.grid(alpha=0.3)


def _share(panels: Sequence[Any]) -> None:
    """Give panels that show the same of each rule the same axes; their heights can be compared.

    One that needs more than 1.5 times the height of most shows its whole curve.
    """
    limits = [axis.get_ylim() for axis in panels]
    usual = 1.5 * median(high - low for low, high in limits)
    shared = [(low, high) for low, high in limits if high - low <= usual]
    bottom, top = min(low for low, _ in shared), max(high for _, high in shared)
    for axis, (low, high) in zip(panels, limits, strict=True):
        axis.set_ylim(min(low, bottom), max(high, top))


def _gradient(at: Tensor, grad: float, function: Any) -> Tensor:
    z = at.clone().requires_grad_()
    function(z).backward(torch.full_like(z, grad))
    assert z.grad is not None
    return z.grad
