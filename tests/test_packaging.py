"""What an installed package promises: a light import, arrows that point down, one version."""

from __future__ import annotations

import ast
import functools
import importlib.metadata
import importlib.resources
import json
import re
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import brevitas_ftprop

pytestmark = pytest.mark.heavy

REPO = Path(__file__).resolve().parent.parent
PACKAGE = REPO / "brevitas_ftprop"

# From the ground up; a layer may import the layers before its own, never one beside it.
LAYERS = (
    {"quiet_imports", "specs", "provenance", "separation"},
    {"rules"},
    {"targets"},
    {"kernels"},
    {"dissolved"},
    {"quantize_op"},
    {"ops"},
    {"memo"},
    {"core", "traced_quant_tensor"},
    {"levels", "units"},
    {"proxy"},
    {"handlers", "search"},
    {"quant"},
    {"algorithm1", "convert", "export", "monitor", "models"},
    {"quantize"},
    {"runs"},
    {"cli"},
)
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
TORCH_ONLY = {name for name, rank in RANK.items() if rank < RANK["core"]}

# The package's own door may import every layer, and its `python -m` entry is the command line.
DOORS = {"__init__", "__main__"}

COMMAND = "a command has the name of what it calls"
FORMAT = "the export to a format, and the quantizers' handlers for it"
# Names of modules and folders that stand more than once, with the reason.
REPEATED = {
    "check": COMMAND,
    "export": COMMAND,
    "finn": COMMAND,
    "hls4ml": COMMAND,
    "monitor": "a class in the folder of its name",
    "qcdq": FORMAT,
    "qonnx": FORMAT,
    "quantize": COMMAND,
    "rules": COMMAND,
    "targets": COMMAND,
    "verify": COMMAND,
}

HEAVY = {
    "finn",
    "lightning",
    "matplotlib",
    "onnxruntime",
    "pytorch_lightning",
    "sklearn",
    "torchvision",
    "transformers",
    "typer",
}
BREVITAS_MANAGERS = (
    "brevitas.export.inference.manager",
    "brevitas.export.onnx.qonnx.manager",
    "brevitas.export.onnx.standard.qcdq.manager",
    "brevitas.export.torch.qcdq.manager",
)

SOURCES = sorted(PACKAGE.rglob("*.py"))


def layer_of(source: Path) -> str:
    return source.relative_to(PACKAGE).parts[0].removesuffix(".py")


@functools.cache
def imported_modules(source: Path) -> tuple[str, ...]:
    """Absolute names of all that a file imports, inside functions too."""
    return tuple(_imported_modules(source))


def _imported_modules(source: Path) -> Iterator[str]:
    inside = ("brevitas_ftprop", *source.relative_to(PACKAGE).parts[:-1])
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = inside[: len(inside) - node.level + 1] if node.level else ()
            module = ".".join((*base, *([node.module] if node.module else [])))
            # `from package import layer` names the layer only in its aliases.
            if module == "brevitas_ftprop":
                yield from (f"{module}.{alias.name}" for alias in node.names)
            else:
                yield module


def imported_layers(source: Path) -> set[str]:
    names = (module.split(".") for module in imported_modules(source))
    return {parts[1] for parts in names if parts[0] == "brevitas_ftprop" and len(parts) > 1}


IMPORTING = f"""
import {", ".join(BREVITAS_MANAGERS)}
import json, sys, torch
stock = set(sys.modules)
assert not any(name.startswith(("brevitas_ftprop", "qonnx")) for name in stock)

import brevitas_ftprop as package
from brevitas.export.onnx.qonnx.manager import QONNXManager
assert package.handlers.QONNXActHandler in QONNXManager.handlers
late = [name for name in sys.modules if name.startswith(("qonnx", "brevitas_ftprop.export."))]
assert not late, late

import brevitas_ftprop.cli
assert not torch.cuda.is_initialized()
print(json.dumps(sorted(name.partition(".")[0] for name in set(sys.modules) - stock)))
assert package.export_qonnx.__module__ == "brevitas_ftprop.export.qonnx"
"""


def test_importing_registers_handlers_and_adds_nothing_heavy_to_what_the_managers_import():
    run = subprocess.run(
        [sys.executable, "-c", IMPORTING],
        capture_output=True,
        text=True,
        check=True,
        cwd=REPO,
        timeout=600,
    )
    assert HEAVY & set(json.loads(run.stdout.splitlines()[-1])) == set()


@pytest.mark.parametrize("source", SOURCES, ids=lambda s: s.relative_to(PACKAGE).as_posix())
def test_every_import_points_to_a_lower_layer(source):
    layer = layer_of(source)
    if layer in DOORS:
        return
    assert layer in RANK, f"{source.name} belongs to no layer; the layers are {sorted(RANK)}"
    for imported in imported_layers(source) - {layer}:
        assert imported in RANK, f"{imported} is no layer"
        assert RANK[imported] < RANK[layer], f"{layer} may not import {imported}"


@pytest.mark.parametrize("source", SOURCES, ids=lambda s: s.relative_to(PACKAGE).as_posix())
def test_brevitas_starts_at_core_and_triton_stays_in_kernels(source):
    tops = {module.partition(".")[0] for module in imported_modules(source)}
    if layer_of(source) in TORCH_ONLY:
        assert not tops & {"brevitas", "brevitas_examples"}
    if layer_of(source) != "kernels":
        assert "triton" not in tops


def test_a_module_has_a_name_of_its_own_or_a_reason_to_share_one():
    modules = (source.with_suffix("") for source in SOURCES)
    names = Counter(m.parent.name if m.name == "__init__" else m.name for m in modules)
    assert {name for name, count in names.items() if count > 1} == set(REPEATED)


def test_nothing_in_the_package_imports_the_examples_or_the_tests():
    tops = {module.partition(".")[0] for source in SOURCES for module in imported_modules(source)}
    assert not tops & {"examples", "tests", "quickstart"}


def test_the_arrow_reader_sees_relative_nested_and_aliased_imports(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path)
    source = tmp_path / "rules" / "nested.py"
    source.parent.mkdir()
    source.write_text(
        "from ..core import a\n"
        "from brevitas_ftprop import convert as c\n"
        "from . import registry\n"
        "def late():\n    import brevitas_ftprop.export.qonnx\n"
    )
    assert imported_layers(source) == {"core", "convert", "rules", "export"}


def test_the_version_stands_in_one_place_and_everything_reads_it_there():
    version = brevitas_ftprop.__version__
    project = tomllib.loads((REPO / "pyproject.toml").read_text())
    assert "version" in project["project"]["dynamic"]
    assert project["tool"]["hatch"]["version"]["path"] == "brevitas_ftprop/__init__.py"
    assert importlib.metadata.version("brevitas-ftprop") == version
    newest = re.search(r"^## \[(\d[^\]]*)\]", (REPO / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert newest[1] == version


def test_the_package_says_that_it_is_typed():
    assert importlib.resources.files("brevitas_ftprop").joinpath("py.typed").is_file()
