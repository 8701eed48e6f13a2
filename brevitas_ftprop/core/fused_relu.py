"""A ReLU and the quantizer behind it in one pass."""

from typing import Any

from brevitas.proxy.runtime_quant import FusedActivationQuantProxy
from torch import Tensor, nn
from torch.jit import ScriptModule

from .hooks import has_no_hooks
from .integer import TargetPropRescalingIntQuant


class TargetPropFusedActivation(FusedActivationQuantProxy):
    """Activation and quantizer of a layer, a ReLU in front of integers taken into their step.

    Values and gradients are those of the two one after the other; a pass over memory each way is
    spared, and what the ReLU would keep for backward.

    >>> from brevitas.nn import QuantReLU
    >>> from brevitas_ftprop.quant import TargetPropUint8ActPerTensorConst
    >>> act = QuantReLU(act_quant=TargetPropUint8ActPerTensorConst, bit_width=2, max_val=3.0)
    >>> type(act.act_quant.fused_activation_quant_proxy).__name__
    'TargetPropFusedActivation'
    """

    def forward(self, x: Tensor) -> Any:
        quant: Any = self.tensor_quant
        if (
            type(self.activation_impl) is nn.ReLU
            and has_no_hooks(self.activation_impl)
            and isinstance(quant, TargetPropRescalingIntQuant)
            and quant.takes_relu()
        ):
            return quant(x, relu=True)
        return quant(self.activation_impl(x))


def fuse_relu(fused: Any, *, yes: bool = True) -> None:
    """Make the pair of activation and quantizer inside a proxy ours, or stock again."""
    stock, ours = FusedActivationQuantProxy, TargetPropFusedActivation
    # A subclass of a user's own does something of its own.
    if type(fused) in (stock, ours) and not isinstance(fused, ScriptModule):
        fused.__class__ = ours if yes else stock
