"""How many images of a batch an exported file, and its model, classify as their labels say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from onnx import ModelProto
from torch import Tensor
from torch.nn import Module

from ..export.verification.runners import runner_for
from ..runs.image_files import read_labels


@dataclass(frozen=True)
class Accuracy:
    """Images that are classified as their labels say.

    Attributes:
        images: how many there are.
        file, model: how many are right, by the exported file and by PyTorch.
    """

    images: int
    file: int
    model: int

    def as_dict(self) -> dict[str, Any]:
        """In plain types."""
        return asdict(self)

    def __str__(self) -> str:
        return (
            f"accuracy on {self.images} images: the file's {self.file / self.images:.2%}, "
            f"PyTorch's {self.model / self.images:.2%}"
        )


def labels_for(graph: ModelProto, source: Path, files: Sequence[Path], batch: Tensor) -> Tensor:
    """The labels of a batch, if the file has logits for them.

    Raises:
        FileNotFoundError: if there are none.
        ValueError: if they do not fit the batch, or the file has fewer logits, or other classes.
    """
    labels = read_labels(source, files, len(batch))
    classes = graph.graph.output[0].type.tensor_type.shape.dim[-1].dim_value
    found = sum(path.is_dir() for path in source.iterdir()) if source.is_dir() else None
    if int(labels.max()) >= classes or found not in (None, classes):
        told = f"{found} subfolders" if found is not None else f"labels up to {int(labels.max())}"
        raise ValueError(f"{source} has {told}, but the file gives {classes} logits")
    return labels


def accuracy_of(graph: ModelProto, model: Module, batch: Tensor, labels: Tensor) -> Accuracy:
    """Run file and model on a batch and compare their largest logits with the labels."""
    runner = runner_for(graph)
    file = runner(graph, level=runner.levels[-1])
    source, result = graph.graph.input[0], graph.graph.output[0].name
    size = source.type.tensor_type.shape.dim[0].dim_value
    parts = [file.run({source.name: part})[result] for part in batch.split(size)]
    with torch.no_grad():
        own = torch.cat([model(part).argmax(-1) for part in batch.split(size)])
    found = torch.cat(parts).argmax(-1)
    return Accuracy(len(labels), int((found == labels).sum()), int((own == labels).sum()))
