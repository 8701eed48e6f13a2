"""Train a small quantized convnet on handwritten digits with two gradient rules, export and verify.

The saturated straight-through estimator (what Brevitas' binary activation does) and the soft hinge
start from the same weights and see the same batches, with sign and with 2-bit staircase
activations. The first seed's networks are exported to QONNX and to QCDQ ONNX, and every integer
that the files compute on test digits is compared with PyTorch's.

    python examples/quickstart.py --out quickstart_out
"""

from __future__ import annotations

import argparse
import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from statistics import mean

# Before Brevitas.
from brevitas_ftprop import quiet_imports as quiet_imports

# isort: split
import lightning
import matplotlib
import torch
from brevitas.nn import QuantConv2d, QuantIdentity, QuantLinear
from lightning.pytorch.callbacks import RichProgressBar
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.classification import MulticlassAccuracy

from brevitas_ftprop import VerifyReport, export_qcdq, export_qonnx, get_rule, verify_export
from brevitas_ftprop.quant import (
    TargetPropInt8WeightPerTensorFixedPoint,
    TargetPropSignedBinaryActPerTensorConst,
    TargetPropStaircase3ActPerTensorFixedPoint,
    TargetPropUint8ActPerTensorFixedPoint,
)

ACTIVATIONS = {
    "sign": TargetPropSignedBinaryActPerTensorConst,
    "staircase3": TargetPropStaircase3ActPerTensorFixedPoint,
}
# The rules that are compared, each with its color in the figure.
RULES = {"saturated_ste": "C1", "soft_hinge": "C0"}
EXPORTERS = {"qonnx": export_qonnx, "qcdq": export_qcdq}
VERIFIED_DIGITS = 32
OTHER_SLOPES = {"ste": ":", "hinge": "--", "ramp": "-.", "approx_sign": "-"}


@dataclass
class Run:
    """One trained network and its accuracy on the test digits after each epoch."""

    activation: str
    rule: str
    seed: int
    model: nn.Module
    curve: list[float] = field(default_factory=list)


@dataclass
class Verified:
    """An exported file and what comparing it with its network found."""

    path: Path
    report: VerifyReport

    @property
    def integers(self) -> int:
        """How many integers were compared, those at and beside the thresholds included."""
        return sum(part.compared + part.adversarial for part in self.report.quantizers)


def digits() -> tuple[TensorDataset, TensorDataset]:
    """Scikit-learn's 1797 digits in [0, 1] at 16x16 pixels: 797 to train on and 1000 to test."""
    images, labels = load_digits(return_X_y=True)
    small = torch.tensor(images, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
    large = functional.interpolate(small, size=(16, 16), mode="bilinear", align_corners=False)
    train, test = train_test_split(
        range(len(labels)), test_size=1000, random_state=0, stratify=labels
    )
    labels = torch.tensor(labels)
    return TensorDataset(large[train], labels[train]), TensorDataset(large[test], labels[test])


def build_model(activation: str, rule: str) -> nn.Sequential:
    """A convnet in hardware form: 4-bit weights, and power-of-two scales for exact sums."""

    def act() -> QuantIdentity:
        # The one line that chooses how targets flow back: any rule's name fits here.
        return QuantIdentity(act_quant=ACTIVATIONS[activation], rule=rule)

    weights = {
        "weight_quant": TargetPropInt8WeightPerTensorFixedPoint,
        "weight_bit_width": 4,
        "bias": False,
    }
    return nn.Sequential(
        QuantIdentity(act_quant=TargetPropUint8ActPerTensorFixedPoint),
        QuantConv2d(1, 16, 3, padding=1, **weights),
        nn.MaxPool2d(2),
        nn.BatchNorm2d(16),
        act(),
        QuantConv2d(16, 32, 3, padding=1, **weights),
        nn.MaxPool2d(2),
        nn.BatchNorm2d(32),
        act(),
        nn.Flatten(),
        QuantLinear(32 * 4 * 4, 64, **weights),
        nn.BatchNorm1d(64),
        act(),
        QuantLinear(64, 10, **weights),
    )


class DigitClassifier(lightning.LightningModule):
    """Cross-entropy training; the test accuracy of each epoch goes into the run's curve."""

    def __init__(self, run: Run, *, epochs: int, learning_rate: float = 3e-3) -> None:
        super().__init__()
        self.model = run.model
        self.curve = run.curve
        self.epochs = epochs
        self.learning_rate = learning_rate
        self.accuracy = MulticlassAccuracy(num_classes=10, average="micro")

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        images, labels = batch
        # Ten logits of quantized sums are large; a fixed temperature keeps the softmax soft.
        return functional.cross_entropy(self.model(images) / 4, labels)

    def validation_step(self, batch: list[Tensor], _: int) -> None:
        images, labels = batch
        self.accuracy(self.model(images), labels)
        self.log("accuracy", self.accuracy, on_epoch=True, prog_bar=True)

    def on_validation_epoch_end(self) -> None:
        self.curve.append(float(self.accuracy.compute()))

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=self.learning_rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.epochs)
        return [optimizer], [schedule]


def train(activation: str, rule: str, *, seed: int, epochs: int) -> Run:
    """Train one network; the seed alone fixes its first weights and the order of its batches."""
    train_digits, test_digits = digits()
    torch.manual_seed(seed)
    run = Run(activation, rule, seed, build_model(activation, rule))
    order = torch.Generator().manual_seed(seed)
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        callbacks=[RichProgressBar()],
        enable_checkpointing=False,
        enable_model_summary=False,
        logger=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(
        DigitClassifier(run, epochs=epochs),
        DataLoader(train_digits, batch_size=64, shuffle=True, generator=order),
        DataLoader(test_digits, batch_size=len(test_digits)),
    )
    run.model.eval()
    return run


def plot(runs: Sequence[Run], path: Path) -> None:
    """Save the learning curves (mean and range over the seeds) beside the rules' slopes."""
    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, (curves, slopes) = pyplot.subplots(1, 2, figsize=(11, 4), layout="constrained")
    for (activation, style), (rule, color) in product(
        zip(ACTIVATIONS, ("-", "--"), strict=True), RULES.items()
    ):
        of_seed = torch.tensor(
            [run.curve for run in runs if (run.activation, run.rule) == (activation, rule)]
        )
        epochs = range(1, of_seed.shape[1] + 1)
        curves.plot(epochs, of_seed.mean(0), style, color=color, label=f"{activation}, {rule}")
        if len(of_seed) > 1:
            curves.fill_between(epochs, of_seed.amin(0), of_seed.amax(0), color=color, alpha=0.12)
    curves.set(xlabel="epoch", ylabel="test accuracy", title="Handwritten digits")
    curves.xaxis.get_major_locator().set_params(integer=True)
    curves.legend(loc="lower right")

    margin = torch.linspace(-2.5, 2.5, 1001)
    for name, style in OTHER_SLOPES.items():
        slopes.plot(margin, get_rule(name).slope(margin), style, color="0.45", label=name)
    for name, color in RULES.items():
        slopes.plot(margin, get_rule(name).slope(margin), color=color, linewidth=2.5, label=name)
    slopes.set(xlabel="margin m = target · z", ylabel="slope −ℓ′(m)", title="Gradient of the rules")
    slopes.legend()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def export_and_verify(run: Run, folder: Path) -> list[Verified]:
    """Write both files of a trained network, and run each beside PyTorch on test digits."""
    _, test_digits = digits()
    batch = test_digits.tensors[0][:VERIFIED_DIGITS]
    verified = []
    for form, export in EXPORTERS.items():
        path = folder / f"{run.activation}_{run.rule}.{form}.onnx"
        export(run.model, batch, path, overwrite=True)
        verified.append(Verified(path, verify_export(run.model, path, batch)))
    return verified


def results(runs: Sequence[Run], verified: dict[tuple[str, str], list[Verified]]) -> Table:
    """One row for each exported file, beside the accuracy over all seeds of its kind."""
    table = Table(
        title="Handwritten digits: test accuracy, and files compared with PyTorch",
        caption="excused: differs, but within the float32 rounding of its layer's sums",
    )
    table.add_column("exported file", no_wrap=True)
    for column in ("accuracy %", "range", "integers", "different", "excused"):
        table.add_column(column, justify="right")
    for (activation, rule), files in verified.items():
        of_kind = (run for run in runs if (run.activation, run.rule) == (activation, rule))
        final = [100 * run.curve[-1] for run in of_kind]
        accuracy = (f"{mean(final):.1f}", f"{min(final):.1f} to {max(final):.1f}")
        for file in files:
            counts = (file.integers, file.report.mismatches, file.report.excused)
            table.add_row(file.path.name, *accuracy, *map(str, counts))
        table.add_section()
    return table


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=3, help="networks trained for each row")
    parser.add_argument("--out", type=Path, default=Path("quickstart_out"))
    parser.add_argument("--fast", action="store_true", help="one epoch of one seed, to try it out")
    options = parser.parse_args(argv)
    epochs, seeds = (1, 1) if options.fast else (options.epochs, options.seeds)
    options.out.mkdir(parents=True, exist_ok=True)
    # On layers this small a second thread costs more than it brings.
    torch.set_num_threads(1)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"lightning\.|torch\.")

    console = Console()
    if not console.is_terminal:
        console = Console(width=100)
    plan = [
        (activation, rule, seed)
        for seed, activation, rule in product(range(seeds), ACTIVATIONS, RULES)
    ]
    runs = []
    for number, (activation, rule, seed) in enumerate(plan, start=1):
        console.print(f"{activation}, {rule}, seed {seed} ({number} of {len(plan)})")
        runs.append(train(activation, rule, seed=seed, epochs=epochs))
    with console.status("Exporting and verifying"):
        verified = {
            (run.activation, run.rule): export_and_verify(run, options.out)
            for run in runs
            if run.seed == 0
        }
    plot(runs, options.out / "quickstart.png")
    console.print(results(runs, verified))
    console.print(f"Files and figure: {options.out}")
    differ = [file.path for files in verified.values() for file in files if not file.report.ok]
    if differ:
        console.print(f"Different from PyTorch: {', '.join(map(str, differ))}")
    return 1 if differ else 0


if __name__ == "__main__":
    raise SystemExit(main())
