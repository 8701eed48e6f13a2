"""What a run leaves behind: a JSON-able record of its curve, its numbers and what produced them."""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

import brevitas_ftprop
from brevitas_ftprop import provenance
from brevitas_ftprop.export.output_file import output_file

PACKAGES = (
    "brevitas",
    "lightning",
    "numpy",
    "scikit-learn",
    "torch",
    "torchmetrics",
    "torchvision",
)


@dataclass(kw_only=True)
class Epoch:
    """One epoch of a run.

    Accuracies are in [0, 1], and None where nothing was evaluated; ``lr`` is that of the first
    step, and ``seconds`` leaves out evaluation.
    """

    epoch: int
    lr: float
    train_loss: float
    train_accuracy: float
    seconds: float
    images_per_second: float
    validation_accuracy: float | None = None
    validation_top5: float | None = None
    test_accuracy: float | None = None
    test_top5: float | None = None


@dataclass(kw_only=True)
class Result:
    """A finished run.

    Attributes:
        recipe: as ``Recipe.to_dict`` gives it; ``Recipe.from_dict`` reads it.
        curve: one entry an epoch.
        test_accuracy, test_top5: of the last weights; None with ``test: never``.
        validation_accuracy, validation_top5: of the last weights; None without such images.
        seconds: of training, evaluation left out.
        images_per_second: of training, the first epoch left out where there are more.
        initial_weights, final_weights: hashes of the state dicts.
        images: how many there were in ``train``, ``validation`` and ``test``.
        classes: how many the images have; None in results of before it was recorded.
        source: hash of the module that defines a network of the user's own; None for others, and in
            results of before it was recorded.
        delays: for how many calls parts of the network still delay quantization.
        data_hash: tells those images from others; None in results of before it was recorded.
        converted: how many quantizers follow the recipe's rules.
        targets_changed: of each quantizer whose targets were searched for, the share that differs
            from −sign(g); of several devices, on the first.
        targets_left: quantizers that kept −sign(g) in a search, with the reason.
        step_seconds: median of the optimizer steps, the device waited for; None where none was
            timed.
        peak_bytes: the most that PyTorch held on a GPU; None on the CPU.
        device: name of the processor or GPU.
        devices: how many of them.
        resumed: how many times the run was resumed.
        versions: of the packages that matter.
    """

    recipe: dict[str, Any]
    curve: list[Epoch]
    test_accuracy: float | None
    test_top5: float | None
    validation_accuracy: float | None
    validation_top5: float | None
    seconds: float
    images_per_second: float
    initial_weights: str
    final_weights: str
    images: dict[str, int]
    converted: int
    device: str
    devices: int
    targets_changed: dict[str, float] = field(default_factory=dict)
    targets_left: dict[str, str] = field(default_factory=dict)
    step_seconds: float | None = None
    peak_bytes: int | None = None
    classes: int | None = None
    source: str | None = None
    delays: dict[str, int] = field(default_factory=dict)
    data_hash: str | None = None
    resumed: int = 0
    versions: dict[str, str] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        """Write JSON; the file is whole or not there."""
        with output_file(path, overwrite=True) as stream:
            stream.write(f"{json.dumps(asdict(self), indent=1)}\n".encode())

    @staticmethod
    def read(path: Path) -> Result:
        """The inverse of :meth:`write`.

        Raises:
            ValueError: for a file that holds something else.
        """
        try:
            return Result.from_dict(json.loads(path.read_text()))
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(
                f"{path} is not the result of a run ({error}): if you remove it, --resume makes it "
                "again from the last checkpoint"
            ) from error

    @staticmethod
    def from_dict(values: dict[str, Any]) -> Result:
        """The inverse of ``dataclasses.asdict``."""
        return Result(**{**values, "curve": [Epoch(**epoch) for epoch in values["curve"]]})


def hash_weights(model: nn.Module) -> str:
    """First 16 hexadecimal digits of the SHA-256 of all parameters and buffers, names included."""
    digest = hashlib.sha256()
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:16]


def versions() -> dict[str, str]:
    """Versions of Python, of this package and of the installed ones that numbers depend on."""
    own = {"python": platform.python_version(), "brevitas-ftprop": brevitas_ftprop.__version__}
    return own | provenance.versions(*PACKAGES)
