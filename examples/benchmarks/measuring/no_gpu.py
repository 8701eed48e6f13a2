"""The host's part of what a GPU does, where there is none.

Triton compiles as for a GPU and is handed a driver whose launches do nothing; tensors lie on the
CPU. What is left is what the host does before a launch: Python, the dispatcher, autograd, and the
small operations of torch, which take about as long on the CPU as it takes to send them to a GPU.
"""

from __future__ import annotations

from typing import Any

from brevitas_ftprop.kernels.backends.triton_backend import prepare, refusals

# How many kernels were launched.
LAUNCHED = [0]


class _Launcher:
    """Takes what Triton hands to the launcher in C of a compiled kernel."""

    def __init__(self, source: Any, metadata: Any) -> None:
        pass

    def __call__(self, *arguments: Any) -> None:
        LAUNCHED[0] += 1


class _Utils:
    """What Triton asks of a GPU before it loads a kernel."""

    @staticmethod
    def get_device_properties(device: int) -> dict[str, int]:
        return {"max_shared_mem": 2**17}

    @staticmethod
    def load_binary(*arguments: Any) -> tuple[int, ...]:
        """Module, function, registers, spills and threads."""
        return 1, 1, 32, 0, 1024


class _Driver:
    launcher_cls = _Launcher
    utils = _Utils

    def get_current_target(self) -> Any:
        from triton.backends.compiler import GPUTarget  # pyright: ignore[reportMissingImports]

        return GPUTarget("cuda", 90, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0


def launch_nothing() -> None:
    """From here on kernels are compiled for a GPU, and never run.

    Raises:
        ImportError: if Triton is not installed.
    """
    from triton.runtime import driver  # pyright: ignore[reportMissingImports]

    driver.set_active(_Driver())
    refusals._interpreted = lambda: True
    refusals._reason_against_machine = lambda device: None
    prepare.on_cpu = lambda device: False
