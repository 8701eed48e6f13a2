"""Compare what a file gives with what the model gives: names, types, shapes and every value."""

from __future__ import annotations

import onnx
import torch
from onnx import ModelProto, TensorProto
from torch import Tensor

from .assumed import tolerance
from .differences import beyond_bound
from .rounding import Bounded


def interface_differences(
    model: ModelProto, names: tuple[str, str], example: Tensor, output: Tensor
) -> list[str]:
    """What a file says of its input and output, where it is not what the model's are.

    Args:
        model: a graph with one input and one output.
        names: of the input and the output, as the exporter gives them.
        example: what the model is given at once.
        output: what it gives for it.

    >>> from onnx import helper
    >>> x, y = (helper.make_tensor_value_info(name, 1, [1, 2]) for name in "xy")
    >>> graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "relu", [x], [y])
    >>> given = torch.zeros(1, 2)
    >>> interface_differences(helper.make_model(graph), ("x", "z"), given, given)
    ["the output is 'y' float32 (1, 2), not 'z' float32 (1, 2)"]
    """
    entries = (model.graph.input[0], model.graph.output[0])
    different = []
    for side, entry, name, tensor in zip(
        ("input", "output"), entries, names, (example, output), strict=True
    ):
        of_tensor = entry.type.tensor_type
        shape = tuple(dim.dim_value for dim in of_tensor.shape.dim)
        found = entry.name, _dtype(of_tensor.elem_type), shape
        expected = name, str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape)
        if found != expected:
            described = ("{!r} {} {}".format(*one) for one in (found, expected))
            different.append(f"the {side} is {', not '.join(described)}")
    return different


def _dtype(element_type: int) -> str:
    try:
        return onnx.helper.tensor_dtype_to_np_dtype(element_type).name
    except KeyError:
        return TensorProto.DataType.Name(element_type).lower()


def beyond_rounding(found: Tensor, expected: Tensor, bound: Bounded | None) -> Tensor:
    """Which outputs differ by more than float32 rounding; all, if shapes or types differ.

    Args:
        found: the file's (N, …).
        expected: PyTorch's.
        bound: None, behind an operator without one, allows for a ``tolerance``.
    """
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return torch.ones_like(expected, dtype=torch.bool)
    if bound is not None and bound.value.shape == expected.shape:
        return beyond_bound(found, bound)
    is_near = (found.double() - expected.double()).abs() <= tolerance(expected)
    return ~((found == expected) | is_near)
