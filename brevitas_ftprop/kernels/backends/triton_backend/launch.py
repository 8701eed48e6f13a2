"""Starting a kernel again and again with the least that the host has to do.

Triton finds out anew at each launch which compiled kernel the arguments stand for, which takes it
several times as long as the launch itself. Here that is done once: nothing but the addresses of
tensors changes from launch to launch, and of them a compiled kernel asks only that they are
multiples of 16, as addresses are that torch allocates.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor


@cache
def options() -> dict[str, Any]:
    """What kernels are compiled with, as far as the Triton that is installed knows it."""
    # A fused multiply-add rounds once where eager rounds twice.
    known: dict[str, Any] = {"num_warps": 8, "enable_fp_fusion": False}
    try:
        from triton.backends.nvidia.compiler import (  # pyright: ignore[reportMissingImports]
            CUDAOptions,
        )
    except ImportError:
        return known
    # Denormal numbers are numbers. Versions before 3.6 refuse the option: there the kernels do
    # without those of Triton's functions for which it makes a difference.
    if "enable_reflect_ftz" in CUDAOptions.__dataclass_fields__:
        known["enable_reflect_ftz"] = False
    return known


class Launch:
    """A kernel with all of its arguments but the tensors, which are its first.

    Args:
        kernel: Triton's.
        programs: how many there are.
        given: the arguments that are no tensors, and more.
    """

    def __init__(self, kernel: Any, programs: int, given: dict[str, Any]) -> None:
        self.kernel, self.grid = kernel, (programs, 1, 1)
        names = [name for name in kernel.arg_names if not name.endswith("_ptr")]
        self.rest = tuple(given[name] for name in names)
        self.again: Any = None

    def __call__(self, device: torch.device, tensors: Sequence[Tensor | None]) -> None:
        """Start it on the device where the tensors are, which need not be the current one."""
        if device.type == "cuda" and device.index != torch.cuda.current_device():
            with torch.cuda.device(device):
                self._start(tensors)
        else:
            self._start(tensors)

    def _start(self, tensors: Sequence[Tensor | None]) -> None:
        addresses = [None if each is None else each.data_ptr() for each in tensors]
        aligned = not any(address % 16 for address in addresses if address is not None)
        if aligned and self.again is not None:
            self.again(*addresses, *self.rest)
            return
        compiled = self.kernel[self.grid](*tensors, *self.rest, **options())
        if aligned and _is_compiled(compiled):
            self.again = compiled[self.grid]


def _is_compiled(launched: Any) -> bool:
    """Whether this is a compiled kernel, which takes what the kernel itself takes; Triton's
    interpreter has none.
    """
    from triton.compiler import CompiledKernel  # pyright: ignore[reportMissingImports]

    return isinstance(launched, CompiledKernel)
