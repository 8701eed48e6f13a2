"""What every test starts from: one thread, fixed seeds, and real images where they are at hand."""

from __future__ import annotations

import functools
import gc
import importlib
import logging
import os
import random
import tarfile
from collections.abc import Generator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

# Before torch reads them, for the processes too that tests start. Workers of inductor's own would
# each import torch to compile a loop or two.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")

import torch
from torch import Tensor
from torchvision.io import ImageReadMode, decode_jpeg

from brevitas_ftprop.export import tracing
from tests.combinations import mark_slow_beyond_cover

REPO = Path(__file__).resolve().parent.parent
ARCHIVE = "cifar10_jpeg.tar.xz"
IMAGES_PER_CLASS = 40
# The archive holds 5000 training images of each class, class after class.
STRIDE = 5000 // IMAGES_PER_CLASS


class LabelledImages(NamedTuple):
    """Images in [0, 1], float32 of shape (N, 3, 32, 32), and their classes, int64 of shape (N,)."""

    images: Tensor
    labels: Tensor


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """Tests that are named one by one run here: a worker would take longer to start."""
    return 0 if config.args and all("::" in each for each in config.args) else None


def pytest_sessionstart() -> None:
    """Nothing that collecting makes is garbage, and to look for it takes a third of the time."""
    gc.disable()


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """A module of tests that cannot be imported is an error.

    As a module of doctests it would be skipped, as the package's are where an extra is missing; and
    what is left of it among the imported modules would pass for one without tests.
    """
    report = yield
    is_package = collector.path.is_relative_to(REPO / "brevitas_ftprop")
    if report.skipped and "unable to import module" in str(report.longrepr) and not is_package:
        report.outcome, report.longrepr = "failed", f"{collector.path} cannot be imported"
    return report


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Exports make many objects and few cycles: to look for those took a sixth of their time."""
    gc.freeze()
    gc.set_threshold(100_000)
    gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    mark_slow_beyond_cover(items)


@pytest.fixture(autouse=True, scope="session")
def skip_where_torch_is_too_old_for_the_dynamo_exporter():
    """What the exporter says then is the reason; a test that expects another error skips too."""
    with pytest.MonkeyPatch.context() as patch:
        if torch.__version__ < tracing.DYNAMO_SINCE:
            patch.setattr(tracing, "MissingToolError", pytest.skip.Exception)
        yield


@pytest.fixture(autouse=True, scope="session")
def operators_of_the_dynamo_exporter_read_once():
    """It reads its hundreds of operators anew at each export, half of a small one's time."""
    with pytest.MonkeyPatch.context() as patch:
        if torch.__version__ >= tracing.DYNAMO_SINCE:
            from torch.onnx._internal.exporter._registration import onnxscript_apis as lazy

            @functools.cache
            def get_torchlib_ops():
                return importlib.import_module(lazy._name).get_torchlib_ops()

            patch.setitem(vars(lazy), "get_torchlib_ops", get_torchlib_ops)
        yield


@pytest.fixture(autouse=True, scope="session")
def one_torch_thread():
    """Sums keep their order, and parallel test workers do not fight over two cores."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def no_trace_of_the_compiler():
    """torch writes down each graph it compiles as long as anyone listens, and pytest would.

    It hands its own listener to every logger that does not propagate.
    """
    logging.getLogger("torch.__trace").propagate = True


@pytest.fixture(autouse=True)
def fixed_seeds():
    """As ``torch.manual_seed``, which keeps a stack trace a call for each device missing."""
    random.seed(0)
    np.random.seed(0)
    torch.default_generator.manual_seed(0)
    if torch.cuda.is_available():
        torch.cuda.manual_seed_all(0)


@pytest.fixture(scope="session")
def cifar10_archive() -> Path:
    folder = Path(os.environ.get("BREVITAS_FTPROP_DATA", REPO.parent / "shared" / "data"))
    archive = folder / ARCHIVE
    if not archive.is_file():
        pytest.skip(f"needs {ARCHIVE} in the folder named by BREVITAS_FTPROP_DATA, not in {folder}")
    return archive


@pytest.fixture(scope="session")
def _cifar10_bytes(cifar10_archive: Path, pytestconfig: pytest.Config) -> dict[str, Tensor]:
    cached = pytestconfig.cache.mkdir("cifar10") / f"{IMAGES_PER_CLASS}_per_class.pt"
    if not cached.is_file():
        # Workers may extract at the same time; each moves a whole file into place.
        partial = cached.with_suffix(f".{os.getpid()}")
        torch.save(_extract(cifar10_archive), partial)
        partial.replace(cached)
    return torch.load(cached)


@pytest.fixture
def cifar10(_cifar10_bytes: dict[str, Tensor]) -> LabelledImages:
    """400 real training images of CIFAR-10, the ten classes taking turns."""
    return LabelledImages(
        _cifar10_bytes["images"].to(torch.float32) / 255, _cifar10_bytes["labels"].clone()
    )


def _extract(archive: Path) -> dict[str, Tensor]:
    by_class: dict[str, list[Tensor]] = {}
    wanted = 10 * IMAGES_PER_CLASS
    seen = taken = 0
    with tarfile.open(archive, mode="r|xz") as members:
        for member in members:
            part, *rest = member.name.removeprefix("./").split("/")
            if part != "train" or not member.isfile():
                continue
            if seen % STRIDE == 0:
                encoded = torch.frombuffer(
                    bytearray(members.extractfile(member).read()), dtype=torch.uint8
                )
                by_class.setdefault(rest[0], []).append(decode_jpeg(encoded, ImageReadMode.RGB))
                taken += 1
            seen += 1
            if taken == wanted:
                break
    names = sorted(by_class)
    images = torch.stack([torch.stack(by_class[name]) for name in names], dim=1).flatten(0, 1)
    return {"images": images, "labels": torch.arange(len(names)).repeat(IMAGES_PER_CLASS)}
