"""No file with one thing changed verifies, once the change shows in an output."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import ModelProto
from torch import Tensor, nn

from brevitas_ftprop.export import VerificationError, export_qcdq, export_qonnx, verify_export
from tests.export.verification.mutations import MUTATIONS, mutants
from tests.export.verification.networks import images, network

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
# Networks to look in, one after the other, until each kind has shown in an output; few images come
# within 1 % of a threshold.
QUICK_SEEDS = {"qonnx": (0, 6, 12, 13), "qcdq": (1, 3, 5)}
# Kinds that show in no output are given up after so many.
ATTEMPTS, ATTEMPTS_OF_AN_ULP = 8, 2
ULP = "1 ulp"
# Networks a format, and mutants that they have to give; QONNX's executor is slow.
NETWORKS = {"qonnx": 2, "qcdq": 5}
EACH, AT_LEAST = 2, {"qonnx": 40, "qcdq": 110}
FILE_BATCH, IMAGES = 8, 16


def exported(seed: int, format_: str, dynamo: bool, folder: Path) -> tuple[nn.Module, Path, Tensor]:
    """A generated network, its file, and images to compare on."""
    model, batch = network(seed), images(seed, IMAGES)
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
    attempts = ATTEMPTS_OF_AN_ULP if ULP in kind else ATTEMPTS
    for mutant in itertools.islice(mutants(original, kind, seed), attempts):
        found = outputs(mutant, batch)
        if found is not None and not same(expected, found):
            return mutant
    return None


def passes(model: nn.Module, path: Path, batch: Tensor) -> bool:
    try:
        return verify_export(model, path, batch).ok
    except VerificationError:
        return False


def assert_found_out(
    seeds: Iterable[int],
    format_: str,
    dynamo: bool,
    kinds: Iterable[str],
    folder: Path,
    *,
    each: int,
) -> Counter[str]:
    """Networks verify, and no mutant does, unless it moved a constant by one ulp; these by kind."""
    tried: Counter[str] = Counter()
    for seed in seeds:
        model, path, batch = exported(seed, format_, dynamo, folder)
        verify_export(model, path, batch).raise_if_different()
        original = onnx.load(path)
        for kind, number in itertools.product(kinds, range(each)):
            mutant = effective(original, kind, f"{seed} {number}", batch)
            if mutant is None:
                continue
            onnx.save(mutant, folder / "mutant.onnx")
            tried[kind] += 1
            if passes(model, folder / "mutant.onnx", batch):
                assert ULP in kind, f"{kind} {number} of network {seed} verifies"
                tried[f"{kind}, within the bound"] += 1
    return tried


@pytest.mark.parametrize("format_", EXPORTS)
def test_a_file_with_one_thing_changed_does_not_verify(format_, tmp_path):
    left = list(QUICK_KINDS)
    for seed in QUICK_SEEDS[format_]:
        tried = assert_found_out((seed,), format_, False, left, tmp_path, each=1)
        left = [kind for kind in left if kind not in tried]
        if not left:
            break
    assert not left


@pytest.mark.slow
@pytest.mark.parametrize(("format_", "dynamo"), FORMATS)
def test_none_of_hundreds_of_changed_files_verifies(format_, dynamo, tmp_path):
    """``pytest -m slow -rP tests/export/verification/test_mutations.py`` prints them by kind."""
    first = 10 * (1 + FORMATS.index((format_, dynamo)))
    seeds = range(first, first + NETWORKS[format_])
    tried = assert_found_out(seeds, format_, dynamo, MUTATIONS, tmp_path, each=EACH)
    print(format_, f"dynamo={dynamo}", dict(tried))
    assert sum(count for kind, count in tried.items() if kind in MUTATIONS) >= AT_LEAST[format_], (
        tried
    )
