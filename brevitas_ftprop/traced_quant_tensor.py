"""What stands for Brevitas' quantized tensors while ``torch.compile`` traces a model.

Dynamo cannot trace ``IntQuantTensor``: it reads no field of a named tuple that has a ``__new__`` of
its own, the sign and the training mode are tensors that the code branches on, and a layer of two
quantized tensors branches on their zero-points. The substitute below is made known to the compiler
on import, through the compiler's own interface; Brevitas itself, and what runs uncompiled, stay as
they are.
"""

from typing import Any

import torch
from brevitas.quant_tensor import IntQuantTensor, IntQuantTensorBase, _unpack_quant_tensor
from torch import Tensor
from torch.nn import functional

LAYER_FUNCTIONS = {
    functional.linear,
    functional.conv1d,
    functional.conv2d,
    functional.conv3d,
    functional.conv_transpose1d,
    functional.conv_transpose2d,
    functional.conv_transpose3d,
}


class TracedIntQuantTensor(IntQuantTensor, IntQuantTensorBase):
    """An ``IntQuantTensor`` without anything that depends on the values of tensors.

    ``signed`` and ``training`` are plain bools; what Brevitas raises for different scales,
    zero-points or bit widths is raised by the compiled graph instead. A layer of two quantized
    tensors gives a plain tensor: whether Brevitas would give a quantized one depends on the
    zero-points.

    >>> three = TracedIntQuantTensor(
    ...     torch.tensor(3.0), torch.tensor(1.0), torch.tensor(0.0), torch.tensor(4.0), True, True
    ... )
    >>> (three + three).value, three.signed
    (tensor(6.), True)
    """

    # Dynamo traces subclasses of named tuples that keep its own constructor.
    __new__ = IntQuantTensorBase.__new__  # pyright: ignore[reportAssignmentType]

    @property
    def signed(self) -> bool:
        return self.signed_t  # pyright: ignore[reportReturnType]

    @property
    def training(self) -> bool:
        return self.training_t  # pyright: ignore[reportReturnType]

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if func in LAYER_FUNCTIONS:
            options: dict[str, Any] = {} if kwargs is None else kwargs
            values = {name: _unpack_quant_tensor(value) for name, value in options.items()}
            return func(*_unpack_quant_tensor(args), **values)
        return IntQuantTensor.__torch_function__(func, types, args, kwargs)

    def check_scaling_factors_same(self, other: Any) -> None:
        if not self.training:
            _check(torch.isclose(self.scale, other.scale), "Scaling factors are different")

    def check_zero_points_same(self, other: Any) -> None:
        if not self.training:
            _check(torch.isclose(self.zero_point, other.zero_point), "Zero points are different")

    def check_bit_width_same(self, other: Any) -> None:
        _check(torch.isclose(self.bit_width, other.bit_width), "Bit widths are different")

    @staticmethod
    def is_zero_zero_point(tensor: Any) -> bool:
        _check(tensor.zero_point == 0, "Zero-points are non-zero, not supported")
        return True


def _check(condition: Tensor, message: str) -> None:
    # Without waiting for the device.
    torch._assert_async(condition.all(), message)  # pyright: ignore[reportPrivateImportUsage]


@torch.compiler.substitute_in_graph(IntQuantTensor.__new__, skip_signature_check=True)
def _new_traced(
    cls: type,
    value: Tensor,
    scale: Tensor | float,
    zero_point: Tensor | float,
    bit_width: Tensor | float,
    signed: bool,
    training: bool,
) -> TracedIntQuantTensor:
    metadata = _as_tensor(scale), _as_tensor(zero_point), _as_tensor(bit_width)
    return TracedIntQuantTensor(value, *metadata, signed, training)  # pyright: ignore[reportArgumentType]


def _as_tensor(number: Tensor | float) -> Tensor:
    return number if isinstance(number, Tensor) else torch.tensor(number, dtype=torch.float)
