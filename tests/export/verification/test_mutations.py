"""No file with one thing changed verifies, once the change shows in an output."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import ModelProto
from torch import Tensor, nn

from brevitas_ftprop.export import VerificationError, export_qcdq, export_qonnx, verify_export
from tests.export.deployable.architectures import build, draw
from tests.export.verification.mutations import MUTATIONS, mutants

EXPORTS = {"qonnx": export_qonnx, "qcdq": export_qcdq}
FORMATS = list(itertools.product(EXPORTS, (False, True)))
QUICK_KINDS = (
    "weight",
    "scale, 1 ulp",
    "threshold, 1 %",
    "variance, 1 %",
    "permuted channels",
    "removed node",
    "output, rewired",
    "output, reshaped",
    "output, cast",
    "output, changed",
)
# Changes that most often show in no output are given up after so many.
ATTEMPTS = 12
FILE_BATCH, IMAGES = 4, 8


def exported(seed: int, format_: str, dynamo: bool, folder: Path) -> tuple[nn.Module, Path, Tensor]:
    """A generated network, its file, and images to compare on."""
    spec = draw(seed)
    model = build(spec)
    generator = torch.Generator().manual_seed(seed)
    batch = torch.randn(IMAGES, 3, spec.size, spec.size, generator=generator)
    path = folder / f"{seed}-{format_}-{dynamo}.onnx"
    EXPORTS[format_](model, batch[:FILE_BATCH], path, dynamo=dynamo)
    return model, path, batch


def outputs(model: ModelProto, batch: Tensor) -> list[Any] | None:
    """What a file gives, with the output's name; None if it is not valid or cannot be run."""
    try:
        onnx.checker.check_model(model)
        run = _qonnx if any(node.domain for node in model.graph.node) else _onnxruntime
        return [run(model, chunk.numpy()) for chunk in batch.split(FILE_BATCH)]
    # A file with something changed fails in any way.
    except Exception:
        return None


def _onnxruntime(model: ModelProto, x: np.ndarray) -> dict[str, np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"input": x}), strict=True))


def _qonnx(model: ModelProto, x: np.ndarray) -> dict[str, np.ndarray]:
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.core.onnx_exec import execute_onnx
    from qonnx.transformation.infer_shapes import InferShapes

    wrapped = ModelWrapper(ModelProto.FromString(model.SerializeToString()))
    return execute_onnx(wrapped.transform(InferShapes()), {"global_in": x})


def same(left: list[Any], right: list[Any]) -> bool:
    return all(
        a.keys() == b.keys()
        and all(a[k].dtype == b[k].dtype and np.array_equal(a[k], b[k]) for k in a)
        for a, b in zip(left, right, strict=True)
    )


def effective(original: ModelProto, kind: str, seed: str, batch: Tensor) -> ModelProto | None:
    """A mutant of a kind that gives something else on the batch; None if none is found."""
    expected = outputs(original, batch)
    for mutant in itertools.islice(mutants(original, kind, seed), ATTEMPTS):
        found = outputs(mutant, batch)
        if found is not None and not same(expected, found):
            return mutant
    return None


def passes(model: nn.Module, path: Path, batch: Tensor) -> bool:
    try:
        return verify_export(model, path, batch).ok
    except VerificationError:
        return False


def survivors(
    seeds, formats, kinds, folder: Path, *, each: int = 1
) -> tuple[Counter[str], Counter[str], list[str]]:
    """Mutants by kind, those that verify by kind, and which these are."""
    tried, passed, which = Counter(), Counter(), []
    for seed, (format_, dynamo) in zip(seeds, itertools.cycle(formats), strict=False):
        model, path, batch = exported(seed, format_, dynamo, folder)
        assert passes(model, path, batch), (seed, format_, dynamo)
        original = onnx.load(path)
        for kind, number in itertools.product(kinds, range(each)):
            mutant = effective(original, kind, f"{seed} {number}", batch)
            if mutant is None:
                continue
            onnx.save(mutant, folder / "mutant.onnx")
            tried[kind] += 1
            if passes(model, folder / "mutant.onnx", batch):
                passed[kind] += 1
                which.append(f"{kind}: seed {seed}, {format_}, dynamo={dynamo}, number {number}")
    return tried, passed, which
