"""What there is: card, driver, versions, and how fast the memory copies."""

from __future__ import annotations

import importlib.util
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version

import torch
from measuring.timing import Spread, interleaved, laps

import brevitas_ftprop
from brevitas_ftprop.provenance import processor

from .check import Check

PACKAGES = ("brevitas", "numpy", "torch", "torchvision", "triton", "pytest", "lightning")
NEEDED = ("brevitas", "numpy", "pytest", "torchvision")
SMI = ("driver_version", "power.limit", "clocks.max.sm", "clocks.max.mem", "compute_mode")


def run(check: Check) -> None:
    check.case("versions", versions, check)
    if not check.small:
        check.case("card", card, check)
    check.case("bandwidth", bandwidth, check)


def versions(check: Check) -> None:
    found = {"Python": platform.python_version(), "brevitas-ftprop": brevitas_ftprop.__version__}
    for name in PACKAGES:
        found[name] = _version(name)
    found |= {"processor": processor(), "cores": os.cpu_count()}
    found["load average"] = os.getloadavg()[0]
    for name, value in found.items():
        check.row("Versions", what=name, value=value)
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ModuleNotFoundError(f"needed, but not installed: {', '.join(missing)}")


def card(check: Check) -> None:
    if not torch.cuda.is_available():
        raise RuntimeError("PyTorch finds no GPU here; --device cpu does all of it in small")
    about = torch.cuda.get_device_properties(check.device)
    found = {
        "name": about.name,
        "capability": f"sm_{about.major}{about.minor}",
        "memory GiB": about.total_memory / 2**30,
        "multiprocessors": about.multi_processor_count,
        "CUDA": torch.version.cuda,
        "cuDNN": torch.backends.cudnn.version(),
    }
    for name, value in (found | _driver()).items():
        check.row("Card", what=name, value=value)


def bandwidth(check: Check) -> None:
    """Copies: GB read and written in a second, and what a single copy takes at least."""
    sizes = (10**4, 10**6) if check.small else (10**4, 10**6, 10**8)
    sources = {size: torch.randn(size, device=check.device) for size in sizes}

    def copying(size: int):
        source, target = sources[size], torch.empty_like(sources[size])

        def call(mark) -> None:
            mark()
            target.copy_(source)
            mark()

        call(lambda: None)
        return lambda number: laps(call, number, check.device)

    samples = interleaved(
        {str(size): copying(size) for size in sizes}, repetitions=7, least_seconds=0.005
    )
    for size in sizes:
        seconds = Spread.of([sample[0] for sample in samples[str(size)]]).median
        check.row(
            "Copies of float32",
            elements=size,
            **{"µs": 1e6 * seconds, "GB/s": 8 * size / seconds / 1e9},
        )


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "on the path only" if importlib.util.find_spec(name) else "not installed"


def _driver() -> dict[str, str]:
    query = ["nvidia-smi", f"--query-gpu={','.join(SMI)}", "--format=csv,noheader"]
    try:
        printed = subprocess.run(query, capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError) as error:
        return {"driver": f"unknown: {error}"}
    return dict(zip(SMI, printed.stdout.splitlines()[0].split(", "), strict=True))
