"""Compile the kernels for a GPU that need not be there: ``python compile_kernels.py 90 [all]``.

The interpreter takes what a compiler refuses. This goes all the way to machine code, through
Triton's own handling of arguments, looks at the assembly, and prints how many kernels there are.
"""

import re
import sys
from typing import ClassVar

import torch

from brevitas_ftprop.kernels import (
    Asked,
    Integers,
    Keep,
    Needs,
    Operands,
    PaperStaircase,
    Sign,
    Ternary,
)
from brevitas_ftprop.kernels.backends import triton_backend
from brevitas_ftprop.kernels.backends.triton_backend import launch, planned_passes, prepare
from brevitas_ftprop.rules import get_rule


class _Launcher:
    """Where Triton hands over to the GPU."""

    handed: ClassVar[list[list]] = []

    def __init__(self, source, metadata) -> None:
        pass

    def __call__(self, *arguments) -> None:
        self.handed.append(
            [each.data_ptr() if isinstance(each, torch.Tensor) else each for each in arguments]
        )


class _NoGpu:
    """What Triton asks the driver of a GPU before it compiles and launches."""

    launcher_cls = _Launcher

    def __init__(self, target) -> None:
        self.target, self.utils = target, self

    def get_current_target(self):
        return self.target

    def get_current_device(self):
        return 0

    def get_current_stream(self, device):
        return 0

    def get_device_properties(self, device):
        return {"max_shared_mem": 2**17}

    def load_binary(self, *arguments):
        return 1, 1, 32, 0, 1024


# By hash, what each kernel is for; and the assembly of all that were asked for.
COMPILED: dict[str, str] = {}
ASSEMBLY: list[str] = []


def _compile(self, device, tensors) -> None:
    compiled = self.kernel.warmup(*tensors, *self.rest, grid=self.grid, **launch.options())
    assert "cubin" in compiled.asm
    ASSEMBLY.append(compiled.asm["ptx"])
    # The logarithm of float64 starts from 1/(1 + mantissa), which no other instruction gives.
    allowed = {"rcp.approx.ftz.f64"}
    flushed = sorted(set(re.findall(r"[\w.]*\.ftz[\w.]*", compiled.asm["ptx"])) - allowed)
    # Where Triton cannot be told to leave them, one remains that gets none, the logarithm's.
    assert not flushed or "enable_reflect_ftz" not in launch.options(), (
        f"{self.kernel.__name__} takes denormal numbers for 0: {flushed}"
    )
    kinds = {"forward_pass": "forward ", "backward_pass": "backward ", "add_up": "sums"}
    names = [name for name in self.kernel.arg_names if not name.endswith("_ptr")]
    given = dict(zip(names, self.rest, strict=True))
    kind = given.get("keep", given.get("kept", ""))
    COMPILED[compiled.hash] = kinds[self.kernel.__name__] + kind


def compile_step(step, rule, dtype, shape, weighting="grad", size=(8, 16, 6)) -> None:
    x = torch.randn(size).to(dtype)
    scale = torch.rand(shape) + 0.5
    operands = {
        Sign: Operands(scale),
        Ternary: Operands(scale),
        Integers: Operands(scale, torch.zeros(()), torch.zeros(()), torch.ones(())),
        PaperStaircase: Operands(),
    }[type(step)]
    rule = get_rule(rule)
    integers = isinstance(step, Integers)
    needs = Needs(not isinstance(step, PaperStaircase), integers, integers)
    keeps = [Keep.CODE if rule.slope_range is not None else Keep.NOTHING]
    if x.itemsize > 2:
        keeps.append(Keep.HALF)
    for keep in keeps:
        _, kept = triton_backend.forward(step, x, operands, rule, keep)
        if kept.numel():
            triton_backend.backward(step, x, kept, operands, rule, Asked(weighting, Needs(), 8))
    triton_backend.backward(step, x, x, operands, rule, Asked(weighting, needs, 8))


def launch_again() -> None:
    """What is launched anew by a plan is handed what Triton's own launch hands over."""
    step, whole, shifted = Sign(), torch.randn(64), torch.randn(65)[1:]
    operands, again = Operands(torch.ones(())), []
    for x in (whole, whole, shifted, whole):
        triton_backend.forward(step, x, operands, get_rule("hinge"), Keep.INPUT)
        (plan,) = planned_passes.PLANS.values()
        again.append(plan.launch.again)
    own, ours, unaligned, last = _Launcher.handed
    assert again[0] is not None
    assert own[9] == ours[9] == last[9] == whole.data_ptr()
    # All but where the output lies and what a profiler is told, which are others each time.
    for each in (own, ours, last):
        del each[10], each[6]
    assert own == ours == last
    assert unaligned[9] == shifted.data_ptr()


def load_wide() -> None:
    """Float32 is loaded and stored 16 bytes at a time in all layouts."""
    step = Integers("round", "single")
    for size, shape in (
        ((4, 16, 14, 14), ()),
        ((4, 16, 14, 14), (16, 1, 1)),
        # Fewer rows would leave a thread less than 16 bytes.
        ((64, 3, 30, 2), (3, 1, 1)),
        ((64, 36), (36,)),
    ):
        ASSEMBLY.clear()
        compile_step(step, "hinge", torch.float32, shape, size=size)
        for ptx in ASSEMBLY:
            if ".entry add_up" not in ptx:
                assert "ld.global.v4" in ptx, (size, shape)
                assert "st.global.v4" in ptx, (size, shape)


def main(capability: str, extent: str = "") -> None:
    # Here, since pytest looks for examples in this module where Triton may be missing.
    from triton.backends.compiler import GPUTarget
    from triton.runtime import driver

    from brevitas_ftprop.kernels.backends.triton_backend.slopes import SLOPES

    # As on a GPU, where a scale is rounded to the dtype of the input.
    prepare.on_cpu = lambda device: False
    driver.set_active(_NoGpu(GPUTarget("cuda", int(capability), 32)))
    launch_again()
    launch.Launch.__call__ = _compile
    compile_step(Integers("round", "sum"), "hinge", torch.float32, (16, 1))
    compile_step(Integers("ceil", "single"), "soft_hinge", torch.float32, ())
    compile_step(Sign(), "soft_hinge", torch.bfloat16, ())
    compile_step(Sign(), "reste", torch.float32, ())
    compile_step(PaperStaircase(3, 1.0, "single"), "saturated_ste", torch.float64, ())
    compile_step(Ternary(0.5, "sum"), "truncated_hinge(scale=2)", torch.float16, (6,), "mean")
    compile_step(Sign(), "ede", torch.float32, ())
    before = set(COMPILED)
    # A schedule compiles nothing anew.
    compile_step(Sign(), "ede(progress=0.5)", torch.float32, ())
    assert set(COMPILED) == before
    if extent == "all":
        for rule in SLOPES:
            for dtype in (torch.float32, torch.bfloat16, torch.float64):
                compile_step(Sign(), rule.name, dtype, ())
            compile_step(Integers("round", "single"), rule.name, torch.float32, ())
        for form in ("single", "sum"):
            for rounding in ("round", "ceil", "floor", "trunc"):
                for shape in ((), (16, 1), (6,)):
                    for dtype in (torch.float32, torch.float16, torch.float64):
                        step = Integers(rounding, form, relu=rounding == "ceil")
                        compile_step(step, "hinge", dtype, shape, "mean")
            for step in (Ternary(0.5, form), PaperStaircase(5, 1.0, form)):
                for rule in ("saturated_ste", "swish_sign", "perceptron"):
                    for dtype in (torch.float32, torch.bfloat16, torch.float64):
                        compile_step(step, rule, dtype, (16, 1))
        load_wide()
        prepare.LARGE = 0
        planned_passes.PLANS.clear()
        for shape in ((), (16, 1), (6,)):
            compile_step(Integers("round", "sum"), "hinge", torch.float32, shape)
    kinds = set(COMPILED.values())
    for kind in ("forward code", "backward code", "forward half", "backward half", "sums"):
        assert kind in kinds, f"no kernel for {kind} was compiled"
    print(len(COMPILED))


if __name__ == "__main__":
    main(*sys.argv[1:])
