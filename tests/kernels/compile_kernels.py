"""Compile the kernels for a GPU that need not be there: ``python compile_kernels.py 90 [all]``.

The interpreter takes what a compiler refuses. This goes all the way to machine code, through
Triton's own handling of arguments, and prints how many kernels there are.
"""

import sys

import torch

from brevitas_ftprop.kernels import Integers, Needs, Operands, PaperStaircase, Sign, Ternary, fused
from brevitas_ftprop.kernels.fused import prepare
from brevitas_ftprop.rules import get_rule


class _NoGpu:
    """What Triton asks the driver of a GPU before it compiles."""

    def __init__(self, target) -> None:
        self.target = target

    def get_current_target(self):
        return self.target

    def get_current_device(self):
        return 0

    def get_current_stream(self, device):
        return 0


COMPILED = []


def _compile(kernel, programs, device, given) -> None:
    # As on a GPU, where a scale is rounded to the dtype of the input.
    given = given | ({"exact": False, "on_cpu": False} if "exact" in given else {})
    options = {"num_warps": prepare.WARPS, "enable_fp_fusion": False}
    compiled = kernel.warmup(**given, grid=(programs,), **options)
    assert "cubin" in compiled.asm
    COMPILED.append(compiled.hash)


def compile_step(step, rule, dtype, shape, weighting="grad") -> None:
    x = torch.randn(8, 16, 6).to(dtype)
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
    _, code = fused.forward(step, x, operands, rule, rule.slope_range is not None)
    fused.backward(step, x, x, operands, rule, weighting, needs, 8)
    if code.numel():
        fused.backward(step, x, code, operands, rule, weighting, Needs(), 8)


def main(capability: str, extent: str = "") -> None:
    # Here, since pytest looks for examples in this module where Triton may be missing.
    from triton.backends.compiler import GPUTarget
    from triton.runtime import driver

    from brevitas_ftprop.kernels.fused.slopes import SLOPES

    fused.launch = _compile
    driver.set_active(_NoGpu(GPUTarget("cuda", int(capability), 32)))
    compile_step(Integers("round", "sum"), "hinge", torch.float32, (16, 1))
    compile_step(Sign(), "soft_hinge", torch.bfloat16, ())
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
        prepare.LARGE = 0
        for shape in ((), (16, 1), (6,)):
            compile_step(Integers("round", "sum"), "hinge", torch.float32, shape)
    print(len(set(COMPILED)))


if __name__ == "__main__":
    main(*sys.argv[1:])
