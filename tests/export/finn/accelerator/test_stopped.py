"""What cannot be simulated is refused by name, and a simulation that is stopped leaves nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from brevitas_ftprop.export import MissingToolError, VerificationError
from brevitas_ftprop.export.finn.accelerator import compilation
from brevitas_ftprop.export.finn.rtl import tools


def test_what_is_compiled_is_kept_whole_or_not_at_all(tmp_path, monkeypatch):
    cache = tmp_path / "cache"

    def killed(*arguments):
        raise KeyboardInterrupt

    (tmp_path / "accelerator.cpp").write_text("int main() { return 0; }")
    monkeypatch.setattr(compilation, "CPP", tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(compilation.os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            compilation.Compiler(cache).simulation()
    assert list(cache.iterdir()) == []
    program = compilation.Compiler(cache).simulation()
    assert program.stat().st_size > 0
    before = program.stat().st_mtime_ns
    assert compilation.Compiler(cache).simulation() == program
    assert program.stat().st_mtime_ns == before


def test_what_cannot_be_simulated_is_refused_by_name(simulate, random_values, graph):
    from onnx import helper

    images = random_values("INT4", (1, 2, 2, 4), np.random.default_rng(0))

    def layer():
        made = graph("INT4", (1, 2, 2, 4))
        return made.threshold("act", "image", np.zeros((4, 1)), "INT4", "BINARY", form="hls")

    model = layer().build()
    with pytest.raises(ValueError, match=r"between the input and act has depth 1: .* hold 2"):
        simulate(model, images, fifo_depths={"StreamingFIFO_rtl_0": 1})
    with pytest.raises(ValueError, match="no FIFO 'other'; it has StreamingFIFO_rtl_0"):
        simulate(model, images, fifo_depths={"other": 4})
    with pytest.raises(ValueError, match='must be "folding", "auto" or a dict'):
        simulate(model, images, fifo_depths="deep")
    with pytest.raises(TypeError, match="not int"):
        simulate(model, images, fifo_depths=4)
    with pytest.raises(ValueError, match="frames must be a positive integer, not 0"):
        simulate(model, images, frames=0)
    with pytest.raises(VerificationError, match="0 of 1 frames came out in 3 cycles"):
        simulate(model, images, cycles=3)
    unknown = layer().add(
        "Lookup_hls", "table", ["act"], {"table": ((1, 2, 2, 4), "INT4")},
        NumEmbeddings=2, EmbeddingDim=4, EmbeddingType="INT4", InputType="BINARY", InputShape=[1],
    )  # fmt: skip
    with pytest.raises(VerificationError, match="table: there is no model of Lookup_hls"):
        simulate(unknown.build(), images)
    software = layer().build()
    software.graph.node.append(helper.make_node("Relu", ["act"], ["out"], name="relu"))
    with pytest.raises(VerificationError, match=r"has software nodes, .*: relu"):
        simulate(software, images)
    nameless = layer().build()
    nameless.graph.node[0].name = ""
    with pytest.raises(VerificationError, match="have no name"):
        simulate(nameless, images)
    two = layer().build()
    two.graph.output.append(helper.make_tensor_value_info("other", 1, [1, 2, 2, 4]))
    with pytest.raises(VerificationError, match=r"has 2 outputs \(act, other\)"):
        simulate(two, images)
    narrow = layer().threshold("next", "act", np.ones((4, 1)), "INT4", "BINARY", form="hls").build()
    for attribute in narrow.graph.node[1].attribute:
        if attribute.name == "inputDataType":
            attribute.s = b"INT4"
    with pytest.raises(VerificationError, match=r"act gives .* 1 bits, but next takes .* 4 bits"):
        simulate(narrow, images)
    fewer = layer().build()
    for attribute in fewer.graph.node[0].attribute:
        if attribute.name == "numInputVectors":
            attribute.ints[:] = [1, 2, 1]
    with pytest.raises(VerificationError, match="act streams 8 values an image, but image has 16"):
        simulate(fewer, images)


def test_a_missing_compiler_is_told_with_what_installs_it(
    simulate, random_values, graph, monkeypatch
):
    made = graph("INT4", (1, 2, 2, 4))
    made.threshold("act", "image", np.zeros((4, 1)), "INT4", "BINARY", form="hls")
    images = random_values("INT4", (1, 2, 2, 4), np.random.default_rng(0))
    monkeypatch.setattr(tools, "COMPILERS", ())
    with pytest.raises(MissingToolError, match=r"needs a C\+\+ compiler: apt-get install g\+\+"):
        simulate(made.build(), images)


# Says its version, and otherwise writes half a file and goes on for ever.
SLOW_COMPILER = """#!/bin/sh
if [ "$1" = --version ]; then echo slow; exit; fi
for last; do :; done
echo half > "$last"
echo $$ > {started}.new && mv {started}.new {started}
exec sleep 600
"""


def test_a_simulation_that_is_killed_while_it_compiles_leaves_nothing_that_is_used(tmp_path):
    cache, bin, started = tmp_path / "cache", tmp_path / "bin", tmp_path / "started"
    bin.mkdir()
    (bin / "g++").write_text(SLOW_COMPILER.format(started=started))
    (bin / "g++").chmod(0o755)
    program = (
        "from pathlib import Path\n"
        "from brevitas_ftprop.export.finn.accelerator.compilation import Compiler\n"
        f"Compiler(Path({str(cache)!r})).simulation()"
    )
    environment = {**os.environ, "PATH": f"{bin}{os.pathsep}{os.environ['PATH']}"}
    killed = subprocess.Popen([sys.executable, "-c", program], env=environment)
    while not started.exists() and killed.poll() is None:
        time.sleep(0.05)
    killed.kill()
    assert killed.wait() == -signal.SIGKILL
    os.kill(int(started.read_text()), signal.SIGKILL)
    left = [path.name for path in cache.iterdir()]
    assert left
    assert all(name.startswith("unfinished-") for name in left)
    made = compilation.Compiler(cache).simulation()
    assert made.parent == cache
    assert made.stat().st_size > len("half\n")
