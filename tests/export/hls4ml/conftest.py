"""Exported networks, and what needs hls4ml's simulation."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from brevitas_ftprop.export import export_qonnx
from tests.export.hls4ml.networks import make_network

MISSING = [
    *(["hls4ml"] if importlib.util.find_spec("hls4ml") is None else []),
    *(["g++"] if shutil.which("g++") is None else []),
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if MISSING and "simulated" in item.keywords:
            reason = f"needs {' and '.join(MISSING)}: pip install 'brevitas-ftprop[hls4ml]'"
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def exported(tmp_path_factory) -> Callable[[str], tuple[nn.Module, Path, tuple[int, ...]]]:
    """Networks and their QONNX files by name, made when first asked for; none may be changed."""
    done = {}

    def export(name: str):
        if name not in done:
            model, shape = make_network(name)
            path = tmp_path_factory.mktemp("qonnx") / "model.onnx"
            export_qonnx(model, torch.zeros(1, *shape), path, dynamo=False)
            done[name] = model, path, shape
        return done[name]

    return export


@pytest.fixture
def network() -> Callable[[str], tuple[nn.Module, tuple[int, ...]]]:
    """Makes a network of its own for a test."""
    return make_network
