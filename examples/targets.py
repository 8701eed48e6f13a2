"""What a choice of targets is worth: setters and inner steps on deep sign networks, five seeds.

Networks of 2, 4 and 8 hidden layers of sign units learn scikit-learn's handwritten digits, and one
with a table look-up in its middle learns around it. Every arm has the same batches, first weights
and number of epochs; its learning rate is the best of three on held-out digits by a seed of its
own. The table has the test accuracy after as many steps as the default, and after as much time.

    python examples/targets.py --out targets_out
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from statistics import mean, stdev

# Before Brevitas.
from brevitas_ftprop import quiet_imports as quiet_imports

# isort: split
import matplotlib
import torch
from brevitas.nn import QuantIdentity
from rich.console import Console
from rich.table import Table
from scipy.stats import ttest_rel
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional

from brevitas_ftprop.monitor import feasible_share
from brevitas_ftprop.quant import TargetPropSignedBinaryActPerTensorConst
from brevitas_ftprop.search import BlackBox, search_targets, train_layerwise

RATES = (1e-3, 3e-3, 1e-2)
# Seed of the trials that choose a learning rate.
CHOOSING = 1000
BATCH, WIDTH, PAIRS = 64, 128, 32


@dataclass(frozen=True)
class Arm:
    """A way to train: what chooses the targets, by which rule, in how many steps a batch."""

    setter: str = "gradient_sign"
    rule: str = "soft_hinge"
    inner_steps: int = 1

    def __str__(self) -> str:
        steps = f", {self.inner_steps} steps" if self.inner_steps > 1 else ""
        rule = "" if self.rule == "soft_hinge" else f", {self.rule}"
        return f"{self.setter}{rule}{steps}"


DEFAULT = Arm()
ARMS = (
    DEFAULT,
    Arm(rule="saturated_ste"),
    Arm("uniform"),
    Arm("curvature"),
    Arm("exact_flip(share=0.05)"),
    Arm("exact_flip"),
    Arm("local_search(candidates=16)"),
    *(Arm(inner_steps=steps) for steps in (2, 4, 8)),
)


@dataclass
class Trial:
    """One trained network.

    Attributes:
        accuracy: on the test digits after each epoch, %.
        seconds: of training until then.
        held_out: accuracy on the held-out digits at the end, %.
        flips: share of targets that are not −sign(g).
        fall: by how much the loss above falls after a step for the targets, relative to one for
            −sign(g), summed over the layers; None where no targets were chosen.
        separable: share of units whose targets in a batch their layer could reach.
    """

    accuracy: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    held_out: float = 0.0
    flips: float = 0.0
    fall: float | None = None
    separable: float | None = None

    def after(self, seconds: float) -> float | None:
        """Test accuracy of the last epoch that ended in time; None if none did."""
        done = [a for a, s in zip(self.accuracy, self.seconds, strict=True) if s <= seconds]
        return done[-1] if done else None


def digits() -> dict[str, tuple[Tensor, Tensor]]:
    """Training, held-out and test digits: (images of shape (N, 64), labels)."""
    images, labels = load_digits(return_X_y=True)
    x = torch.tensor(images, dtype=torch.float32) / 8 - 1
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    parts = order.split((1197, 300, 300))
    y = torch.tensor(labels)
    return {n: (x[p], y[p]) for n, p in zip(("train", "held_out", "test"), parts, strict=True)}


def parity(x: Tensor) -> Tensor:
    """A table look-up: the product of each pair of signs."""
    return x[:, ::2] * x[:, 1::2]


def sign_network(depth: int, rule: str) -> nn.Sequential:
    layers: list[nn.Module] = []
    for layer in range(depth):
        act = QuantIdentity(act_quant=TargetPropSignedBinaryActPerTensorConst, rule=rule)
        layers += [nn.Linear(WIDTH if layer else 64, WIDTH), nn.BatchNorm1d(WIDTH), act]
    return nn.Sequential(*layers, nn.Linear(WIDTH, 10))


class StraightThroughTable(nn.Module):
    """The table look-up; backwards each pair's gradient goes to both of its units."""

    def forward(self, x: Tensor) -> Tensor:
        pairs = x[:, ::2] + x[:, 1::2]
        return parity(x).detach() + pairs - pairs.detach()


def network_around(middle: nn.Module) -> nn.Sequential:
    act = QuantIdentity(act_quant=TargetPropSignedBinaryActPerTensorConst)
    first = (nn.Linear(64, 2 * PAIRS), nn.BatchNorm1d(2 * PAIRS), act)
    return nn.Sequential(*first, middle, nn.Linear(PAIRS, 10))


def accuracy(model: nn.Module, data: tuple[Tensor, Tensor]) -> float:
    model.eval()
    with torch.no_grad():
        right = (model(data[0]).argmax(1) == data[1]).float().mean()
    model.train()
    return 100 * float(right)


def train(
    build: Callable[[], nn.Module], arm: Arm, rate: float, seed: int, epochs: int, *, look: bool
) -> Trial:
    """Train a network; ``look`` measures what the targets were worth at the end."""
    torch.manual_seed(seed)
    data, model, trial = digits(), build().train(), Trial()
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    x, y = data["train"]
    with search_targets(model, arm.setter, seed=seed) as search:
        for epoch in range(epochs):
            start = time.perf_counter()
            for part in torch.randperm(len(x)).split(BATCH)[:-1]:

                def loss(part: Tensor = part) -> Tensor:
                    return functional.cross_entropy(model(x[part]), y[part])

                train_layerwise(model, loss, optimizer, inner_steps=arm.inner_steps)
            elapsed = time.perf_counter() - start + (trial.seconds[-1] if epoch else 0.0)
            trial.seconds.append(elapsed)
            trial.accuracy.append(accuracy(model, data["test"]))
        trial.held_out = accuracy(model, data["held_out"])
        layers = search.report().layers.values()
        if look and layers:
            falls = search.measure(loss).layers.values()
            default = sum(each.default_fall or 0 for each in falls)
            # None without gradients: then all targets are others.
            if default:
                trial.flips = sum(e.differing for e in layers) / sum(e.chosen for e in layers)
                trial.fall = sum(each.fall or 0 for each in falls) / default
    if look:
        pairs = {f"{i}.act_quant": f"{i - 2}" for i in range(2, len(model) - 1, 3)}
        if isinstance(model[1], nn.BatchNorm1d) and len(model) % 3 == 1:
            trial.separable = mean(feasible_share(model, loss, pairs, units=4).values())
    return trial


def trials(build: Callable[[], nn.Module], arm: Arm, seeds: int, epochs: int) -> list[Trial]:
    """The arm's trials by its best learning rate."""
    tried = {rate: train(build, arm, rate, CHOOSING, epochs, look=False) for rate in RATES}
    best = max(RATES, key=lambda rate: tried[rate].held_out)
    return [train(build, arm, best, seed, epochs, look=seed == 0) for seed in range(seeds)]


def row(name: str, found: list[Trial], default: list[Trial]) -> list[str]:
    """A line of the table: accuracies with their spread, p against the default, cost, and so on."""
    last = [trial.accuracy[-1] for trial in found]
    plain = [trial.accuracy[-1] for trial in default]
    in_time = [t.after(d.seconds[-1]) for t, d in zip(found, default, strict=True)]
    cost = mean(t.seconds[-1] / d.seconds[-1] for t, d in zip(found, default, strict=True))
    p = "" if last == plain or len(last) < 2 else f"{ttest_rel(last, plain).pvalue:.3f}"
    first = found[0]
    spread = f" ± {stdev(last):.1f}" if len(last) > 1 else ""
    return [
        name,
        f"{mean(last):.1f}{spread}",
        p,
        "no epoch" if None in in_time else f"{mean(in_time):.1f}",
        f"{cost:.1f}",
        f"{first.flips:.1%}" if first.fall is not None else "",
        f"{first.fall:.2f}" if first.fall is not None else "",
        f"{first.separable:.2f}" if first.separable is not None else "",
    ]


HEAD = ("", "test %", "p", "in the time", "cost", "flips", "fall", "separable")


def show(title: str, arms: dict[str, list[Trial]], console: Console) -> None:
    table = Table(*HEAD, title=title)
    default = next(iter(arms.values()))
    for name, found in arms.items():
        table.add_row(*row(name, found, default))
    console.print(table)


def write(results: dict[str, dict[str, list[Trial]]], path: Path) -> None:
    text = {t: {n: [asdict(e) for e in f] for n, f in arms.items()} for t, arms in results.items()}
    path.write_text(json.dumps(text, indent=1))


def draw(results: dict[str, dict[str, list[Trial]]], path: Path) -> None:
    """Accuracy over time, a panel a depth."""
    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(results), figsize=(5 * len(results), 4), squeeze=False)
    for panel, (title, arms) in zip(panels[0], results.items(), strict=True):
        for name, found in arms.items():
            curves = [t.accuracy for t in found]
            panel.plot(
                [mean(each) for each in zip(*(t.seconds for t in found), strict=True)],
                [mean(each) for each in zip(*curves, strict=True)],
                label=name,
            )
        panel.set(title=title, xlabel="seconds", ylabel="test accuracy (%)", xscale="log")
    panels[0][-1].legend(fontsize="x-small")
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("targets_out"))
    parser.add_argument("--depths", type=int, nargs="*", default=[2, 4, 8])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=6)
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    console, results = Console(width=120), {}

    def run(title: str, builds: dict[str, tuple[Callable[[], nn.Module], Arm]]) -> None:
        found = results[title] = {}
        for name, (build, arm) in builds.items():
            found[name] = trials(build, arm, options.seeds, options.epochs)
            console.print(f"{title}: {name}: {found[name][-1].accuracy[-1]:.1f} %")
            write(results, options.out / "trials.json")
        show(title, found, console)

    for depth in options.depths:
        builds = {str(arm): (partial(sign_network, depth, arm.rule), arm) for arm in ARMS}
        run(f"{depth} hidden layers", builds)
    around = {
        "above it only": (BlackBox(parity), DEFAULT),
        "straight through": (StraightThroughTable(), DEFAULT),
        "local_search(candidates=16)": (BlackBox(parity), Arm("local_search(candidates=16)")),
        "local_search(candidates=64)": (BlackBox(parity), Arm("local_search(candidates=64)")),
    }
    builds = {name: (partial(network_around, m), arm) for name, (m, arm) in around.items()}
    run("a table in the middle", builds)
    draw(results, options.out / "targets.png")


if __name__ == "__main__":
    main()
