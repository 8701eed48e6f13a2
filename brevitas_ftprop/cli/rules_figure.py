"""Each rule's loss, slope and gradients as curves."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..ops import binary_sign, paper_staircase
from ..rules import Rule

__all__ = ["draw_rules"]

SHOWN = 2.5
POINTS = 1001
STEPS = 3
# Two rules a row, three panels a rule.
IN_A_ROW = 2
LIMITS = (-0.6, 2.6)


def draw_rules(rules: Sequence[Rule], path: Path) -> None:
    """Save one row of panels a rule: loss and slope, gradient on sign, gradient on a staircase.

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
    for axis in axes.flat[3 * len(rules) :]:
        axis.set_axis_off()
    _save(figure, path)


def _draw(rule: Rule, panels: Sequence[Any]) -> None:
    margins, sign, staircase = panels
    m = torch.linspace(-SHOWN, SHOWN, POINTS)
    if rule.has_loss:
        margins.plot(m, rule.loss(m), "--", color="0.5", label="loss")
    margins.plot(m, rule.slope(m), color="C0", label="slope")
    margins.set(title=rule.spec, ylim=LIMITS)
    for grad, style in ((1.0, "-"), (-1.0, "--")):
        passed = _gradient(m, grad, lambda z: binary_sign(z, torch.tensor(1.0), rule.spec, "grad"))
        sign.plot(m, passed, style, color="C1", label=f"g = {grad:+.0f}")
    sign.set(title="on sign(z)")
    x = torch.linspace(-1, 2, POINTS)
    for form, color in (("single", "C2"), ("sum", "C3")):
        passed = _gradient(
            x, 1.0, lambda z, form=form: paper_staircase(z, STEPS, 1.0, rule.spec, "grad", form)
        )
        staircase.plot(x, passed, color=color, label=form)
    staircase.set(title=f"on a staircase, {STEPS} steps, g = +1")
    # A constant gradient would else be drawn without its height.
    staircase.set_ylim(bottom=min(staircase.get_ylim()[0], -0.1))
    for axis in panels:
        axis.title.set_fontsize(8)
        axis.tick_params(labelsize=6)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=6)


def _gradient(at: Tensor, grad: float, function: Any) -> Tensor:
    z = at.clone().requires_grad_()
    function(z).backward(torch.full_like(z, grad))
    assert z.grad is not None
    return z.grad


def _save(figure: Any, path: Path) -> None:
    """Whole or not at all."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        partial = Path(folder) / path.name
        figure.savefig(partial, dpi=110)
        os.replace(partial, path)
