"""Every build of the example becomes a partition that computes what PyTorch computes."""

from __future__ import annotations

import importlib.util
import itertools
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

pytest.importorskip("finn", reason="needs the extra 'finn'")

SOURCE = Path(__file__).resolve().parents[2] / "examples" / "finn_builds.py"
spec = importlib.util.spec_from_file_location("finn_builds", SOURCE)
finn_builds = importlib.util.module_from_spec(spec)
# Data classes look their module up by name.
sys.modules[spec.name] = finn_builds
spec.loader.exec_module(finn_builds)


def resized(images: torch.Tensor, build) -> torch.Tensor:
    size, _ = finn_builds.SIZES[build.network]
    return nn.functional.interpolate(images * 4 - 2, size=(size, size))


def test_the_narrow_builds_cover_every_pair():
    """Of network, activation, weight width, scale granularity and exporter."""
    values = [(b.network, b.act, b.bits, b.scale, b.dynamo) for b in finn_builds.NARROW]
    for one, other in itertools.combinations(range(5), 2):
        pairs = {(value[one], value[other]) for value in values}
        assert len(pairs) == len({v[one] for v in values}) * len({v[other] for v in values})
    assert len(values) >= 20
    assert sum(build.images >= 100 for build in finn_builds.NARROW) == 4


def test_a_table_has_a_row_for_each_build():
    row = {
        **vars(finn_builds.NARROW[0]),
        "seconds": 1.0,
        "peak_gb": 2.0,
        "compared_images": 6,
        "compared": 1234,
        "mismatches": 0,
        "excused": 0,
        "resources": {"LUT": 10, "BRAM_18K": 2, "DSP": 0},
        "fps": 99.6,
    }
    header, _, *rows = finn_builds.table([row, row]).splitlines()
    assert len(rows) == 2
    assert rows[0].count("|") == header.count("|")
    assert "| 1234 | 0 | 0 | 10 | 2 | 0 | 100 |" in rows[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    "build", [*finn_builds.NARROW, *finn_builds.FULL], ids=lambda build: build.name
)
def test_a_build_computes_what_pytorch_computes(build, cifar10, tmp_path):
    few = 4 if build.network.startswith("full") else finn_builds.TRAINED_ON
    count = few + build.images
    row = finn_builds.run(
        build, resized(cifar10.images[:count], build), cifar10.labels[:count], tmp_path / "out"
    )
    assert row["steps"] == 7
    assert row["mismatches"] == 0
    assert row["excused"] * 1_000_000 <= row["compared"]
    assert row["same_class"] == row["compared_images"]
    assert row["compared_images"] >= (5 if build in finn_builds.NARROW else 2)
    assert row["software_nodes"] == row["untracked"] == []
    assert row["classes"] > 1
