"""Compile the simulation and the nodes' RTL once, and keep them by what they were made of."""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

from ..rtl.design import Design
from ..rtl.toolchain import compile_cpp, compile_unit, run_tool, runtime_parts, verilate
from ..rtl.tools import find_compiler, require_tools
from ..rtl.translation import texts_of, translate
from .hls_source import Hlslib, HlsSource

CPP = Path(__file__).with_name("cpp")
HLS = CPP / "hls"
RTL = Path(__file__).parents[1] / "rtl"
# Names of one library are nobody else's: all of them are loaded into one process.
LIBRARY_FLAGS = ("-fPIC", "-fvisibility=hidden", "-fno-gnu-unique")


def default_cache() -> Path:
    """Where compiled nodes are kept: below ``XDG_CACHE_HOME``, or ``~/.cache``."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "brevitas-ftprop" / "accelerator"


class Compiler:
    """Compiles each distinct thing once, from any number of threads and in any number of runs.

    A file appears in the cache when it is complete, whatever ends the process before.

    Raises:
        MissingToolError: if Verilator or a compiler is missing (says the install line).
    """

    def __init__(self, cache: Path) -> None:
        require_tools()
        cache.mkdir(parents=True, exist_ok=True)
        self._cache = cache.resolve()
        self._lock = threading.Lock()
        self._made: dict[str, Future[Path]] = {}
        compiler = find_compiler()
        assert compiler is not None
        self._compiler = compiler
        version = "a program does not say its version"
        self._versions = (
            run_tool([compiler, "--version"], self._cache, version),
            verilate(["--version"], self._cache, version),
        )

    def __len__(self) -> int:
        return len(self._made)

    def simulation(self) -> Path:
        """The program that runs an accelerator."""
        files = [RTL / "pace.h", *sorted(CPP.rglob("*.h")), CPP / "accelerator.cpp"]
        texts = [file.read_text() for file in files]
        return self._once("simulation", texts, self._compile_simulation)

    def node(self, design: Design, *, name: str) -> Path:
        """The library of a node.

        Raises:
            VerificationError: if Verilator or the compiler fails (names the node, shows why).
        """
        sources, defines = texts_of(design)
        own = (RTL / "clocks.h", CPP / "node.h", CPP / "verilated_node.cpp")
        texts = [file.read_text() for file in own]

        def compile_node(folder: Path) -> Path:
            generated, include = translate(sources, folder, name=name)
            parts = runtime_parts(generated)
            runtime = self._runtime(parts, include)
            files = [*sorted(generated.glob("*.cpp")), CPP / "verilated_node.cpp"]
            flags = [*LIBRARY_FLAGS, *defines, f"-I{generated}", f"-I{RTL}", f"-I{CPP}"]
            unit = compile_unit(folder / "node", files, flags, include, name)
            library = folder / "node.so"
            arguments = ["-shared", "-Wl,-Bsymbolic", str(unit), str(runtime), "-pthread"]
            compile_cpp([*arguments, "-o", str(library)], include, folder, name)
            return library

        return self._once("node", [sources, defines, texts], compile_node)

    def source(self, source: HlsSource, hlslib: Hlslib, *, name: str) -> Path:
        """The program that runs FINN's own C++ of a layer in HLS.

        Raises:
            VerificationError: if the compiler fails (names the node, shows why).
        """
        files = [CPP / "node.h", *sorted(HLS.glob("*.h"))]
        texts = [*source.texts(), source.main(), *hlslib.texts(), *(f.read_text() for f in files)]

        def compile_source(folder: Path) -> Path:
            (folder / "main.cpp").write_text(source.main())
            program = folder / "source"
            # Ours stand before the open headers, which they include.
            includes = (HLS, CPP, source.folder, hlslib.folder, hlslib.types)
            flags = ["-std=c++17", "-O1", "-w", *(f"-I{include}" for include in includes)]
            failure = f"the C++ compiler cannot build FINN's C++ of {name}"
            run_tool([self._compiler, *flags, "main.cpp", "-o", str(program)], folder, failure)
            return program

        return self._once("source", texts, compile_source)

    def _runtime(self, parts: list[str], include: Path) -> Path:
        """Verilator's runtime, which the nodes' libraries share in the cache."""
        files = [include / f"{part}.cpp" for part in parts]

        def compile_runtime(folder: Path) -> Path:
            flags = ["-O1", *LIBRARY_FLAGS]
            return compile_unit(folder / "runtime", files, flags, include, "every node")

        return self._once("runtime", [parts, str(include)], compile_runtime)

    def _compile_simulation(self, folder: Path) -> Path:
        program = folder / "simulation"
        flags = ["-std=c++17", "-O2", f"-I{RTL}"]
        arguments = [str(CPP / "accelerator.cpp"), "-ldl", "-o", str(program)]
        failure = "the C++ compiler cannot build the simulation"
        run_tool([self._compiler, *flags, *arguments], folder, failure)
        return program

    def _once(self, kind: str, made_of: object, make: Callable[[Path], Path]) -> Path:
        key = hashlib.sha256(repr((made_of, self._versions)).encode()).hexdigest()[:24]
        target = self._cache / f"{kind}-{key}"
        with self._lock:
            known = self._made.get(target.name)
            promised = self._made.setdefault(target.name, Future())
        if known is None:
            try:
                if not target.exists():
                    with tempfile.TemporaryDirectory(dir=self._cache, prefix="unfinished-") as new:
                        os.replace(make(Path(new)), target)
                promised.set_result(target)
            except BaseException as error:
                promised.set_exception(error)
        return promised.result()
