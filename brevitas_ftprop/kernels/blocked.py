"""The eager formulas on blocks that stay in the processor's cache.

A chain of elementwise operations on a large tensor goes to memory and back at every link; block by
block it does so once. Nothing is compiled, and every rule has this backend, a user's included.
Elements equal eager's to the bit; sums over them are added up block by block, in float64.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from ..rules import Rule
from . import eager
from .codes import code_size
from .eager import Gradients, Needs
from .layout import flat, in_format, memory_format
from .steps import Operands, Step

__all__ = ["backward", "forward", "reason_against"]

# Elements for each thread: a few tensors of this size fit a second-level cache. A multiple of 8, so
# that the packed codes of the blocks follow one another.
BLOCK = 1 << 15


class _Block(NamedTuple):
    """A part of a step's input.

    Attributes:
        of: takes that part of a tensor with the input's shape and layout.
        share: takes the part of an operand that belongs to it.
        elements: the part as a range of elements, where blocks are such.
    """

    of: Callable[[Tensor], Tensor]
    share: Callable[[Tensor], Tensor]
    elements: slice

    def operands(self, operands: Operands) -> Operands:
        rounded = None if operands.rounded is None else self.of(operands.rounded)
        rest = [None if each is None else self.share(each) for each in operands[:-1]]
        return Operands(*rest, rounded=rounded)


def reason_against(device: torch.device, step: Step, operands: Operands, rule: Rule) -> str | None:
    """Why this backend cannot compute a step: it is for processors with caches of their own."""
    return None if device.type == "cpu" else "blocks are for the CPU's cache"


def forward(
    step: Step, x: Tensor, operands: Operands, rule: Rule, code: bool
) -> tuple[Tensor, Tensor]:
    """As :func:`.eager.forward`."""
    if _is_small(x) or (code and not _per_tensor(operands)):
        return eager.forward(step, x, operands, rule, code)
    y = torch.empty_like(x, dtype=operands.result_type(x))
    codes = x.new_empty(code_size(step, rule, x.numel()) if code else 0, dtype=torch.uint8)
    for block in _blocks(x, operands):
        part, part_code = eager.forward(step, block.of(x), block.operands(operands), rule, code)
        block.of(y).copy_(part)
        if code:
            _code_of(codes, step, rule, block).copy_(part_code.view(_planes(rule), -1))
    return y, codes


def backward(
    step: Step,
    grad: Tensor,
    kept: Tensor | None,
    operands: Operands,
    rule: Rule,
    weighting: str,
    needs: Needs,
    batch_size: int,
) -> Gradients:
    """As :func:`.eager.backward`."""
    coded = kept is not None and kept.dtype is torch.uint8
    if _is_small(grad) or (coded and not _per_tensor(operands)):
        return eager.backward(step, grad, kept, operands, rule, weighting, needs, batch_size)
    of_layout = grad if kept is None or coded else kept
    grad = in_format(grad, memory_format(of_layout))
    gradient: Tensor | None = None
    sums: dict[str, Tensor] = {}
    for block in _blocks(grad, operands):
        if kept is None:
            part_kept = None
        elif coded:
            part_kept = _code_of(kept, step, rule, block).reshape(-1)
        else:
            part_kept = block.of(kept)
        part = eager.backward(
            step,
            block.of(grad),
            part_kept,
            block.operands(operands),
            rule,
            weighting,
            needs,
            batch_size,
        )
        if gradient is None:
            gradient = torch.empty_like(grad, dtype=part.x.dtype)
        block.of(gradient).copy_(part.x)
        for name, value in part._asdict().items():
            if name != "x" and value is not None:
                total = sums.setdefault(
                    name, torch.zeros_like(getattr(operands, name), dtype=torch.float64)
                )
                block.share(total).add_(value)
    assert gradient is not None
    return Gradients(gradient, **sums)


def _is_small(x: Tensor) -> bool:
    return x.numel() <= BLOCK * torch.get_num_threads()


def _per_tensor(operands: Operands) -> bool:
    return all(each is None or each.numel() == 1 for each in operands[:-1])


def _blocks(x: Tensor, operands: Operands) -> Iterator[_Block]:
    size = BLOCK * torch.get_num_threads()
    if _per_tensor(operands):
        for start in range(0, x.numel(), size):
            elements = slice(start, min(start + size, x.numel()))
            yield _Block(partial(_elements, part=elements), _as_scalar, elements)
        return
    rows = max(1, size // (x.numel() // x.shape[0]))
    for start in range(0, x.shape[0], rows):
        part = slice(start, start + rows)
        share = partial(_rows_of_operand, part=part, like=x)
        yield _Block(partial(_rows, part=part), share, part)


def _elements(x: Tensor, part: slice) -> Tensor:
    return flat(x)[part]


def _as_scalar(operand: Tensor) -> Tensor:
    # One with dimensions takes part in type promotion, and has to go on doing so.
    return operand.view(1) if operand.dim() else operand


def _rows(x: Tensor, part: slice) -> Tensor:
    return x[part]


def _rows_of_operand(operand: Tensor, part: slice, like: Tensor) -> Tensor:
    if operand.dim() == like.dim() and operand.shape[0] > 1:
        return operand[part]
    return operand


def _planes(rule: Rule) -> int:
    return 1 if rule.even else 2


def _code_of(codes: Tensor, step: Step, rule: Rule, block: _Block) -> Tensor:
    start, stop = (code_size(step, rule, at) // _planes(rule) for at in _ends(block))
    return codes.view(_planes(rule), -1)[:, start:stop]


def _ends(block: _Block) -> tuple[int, int]:
    return block.elements.start, block.elements.stop
