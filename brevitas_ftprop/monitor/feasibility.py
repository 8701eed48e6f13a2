"""Which units could reach their targets: linear separability of their mini-batch problems."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from ..separation import separating_weights
from ..targets import sign_target
from .evaluation import evaluating


def is_separable(inputs: Tensor, targets: Tensor) -> bool:
    """Whether weights and a bias exist with ``sign(w·x + b) = t`` for every row.

    Decided by a linear program, ``t·(w·x + b) ≥ 1``, to its solver's tolerance of 1e-7.

    Args:
        inputs: shape (N, D).
        targets: ±1, shape (N,).

    Raises:
        ImportError: if SciPy is missing; says how to install it.

    >>> x = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    >>> is_separable(x, torch.tensor([-1, 1, 1, 1])), is_separable(x, torch.tensor([-1, 1, 1, -1]))
    (True, False)
    """
    rows, signs = (values.detach().cpu().double().numpy() for values in (inputs, targets))
    return separating_weights(rows, signs) is not None


def feasible_share(
    model: nn.Module,
    loss: Callable[[], Tensor],
    pairs: Mapping[str, str],
    *,
    units: int = 8,
    rows: int = 256,
    seed: int = 0,
) -> dict[str, float]:
    """Share of units whose targets on a mini-batch some weights of their layer would reach.

    A unit's problem is to separate the inputs of its layer (for convolutions, the patches) by its
    targets t = −sign(∂L/∂h). What lies between layer and quantizer may only be affine in each
    channel, such as a batch norm. The model is evaluated once, in eval mode, and left as it was.
    Each unit costs a linear program: for a look now and then, not for every step.

    Args:
        model: a Brevitas model.
        loss: computes the loss on the mini-batch, as a rule ``lambda: loss(model(x), y)``.
        pairs: quantizer's name → name of the ``Linear`` or ``Conv2d`` before it.
        units: output channels that are tried in each layer, chosen at random.
        rows: at most so many inputs are taken, chosen at random; with fewer than all the share is
            an upper bound.
        seed: of both choices.

    Raises:
        ValueError: for a name that the model does not have, a pair that the loss does not use, or a
            layer whose output has another shape than its quantizer's.
        TypeError: for a layer that is neither ``Linear`` nor a zero-padded ``Conv2d``.
        ImportError: if SciPy is missing; says how to install it.

    >>> from brevitas.nn import QuantIdentity
    >>> from brevitas_ftprop.quant import TargetPropSignedBinaryActPerTensorConst
    >>> act = QuantIdentity(act_quant=TargetPropSignedBinaryActPerTensorConst)
    >>> model, x = nn.Sequential(nn.Linear(2, 3), act), torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    >>> feasible_share(model, lambda: model(x).sum(), {"1.act_quant": "0"})
    {'1.act_quant': 1.0}

    References:
        Friesen & Domingos, ICLR 2018, arXiv:1710.11573, section 3 (feasible targets).
    """
    modules = dict(model.named_modules())
    for name in (*pairs, *pairs.values()):
        if name not in modules:
            raise ValueError(f"the model has no module {name!r}")
    for name in pairs.values():
        _check_layer(name, modules[name])
    inputs, targets = _inputs_and_targets(model, loss, pairs, modules)
    generator = torch.Generator().manual_seed(seed)
    shares = {}
    for quantizer, layer_name in pairs.items():
        layer = modules[layer_name]
        channels = targets[quantizer].shape[1]
        tried = torch.randperm(channels, generator=generator)[:units].tolist()
        separable = 0
        for channel in tried:
            x, target = _problem(layer, inputs[layer_name], targets[quantizer], channel)
            # A unit without gradient has no target, and may do what it likes.
            x, target = x[target != 0], target[target != 0]
            some = torch.randperm(len(x), generator=generator)[:rows].to(x.device)
            separable += len(x) == 0 or is_separable(x[some], target[some])
        shares[quantizer] = separable / len(tried)
    return shares


def _check_layer(name: str, layer: nn.Module) -> None:
    if isinstance(layer, nn.Linear):
        return
    if not isinstance(layer, nn.Conv2d):
        raise TypeError(f"{name} is neither Linear nor Conv2d but {type(layer).__name__}")
    if layer.padding_mode != "zeros" or isinstance(layer.padding, str):
        raise TypeError(f"{name} pads with {layer.padding_mode!r}, {layer.padding!r}, not zeros")


def _inputs_and_targets(
    model: nn.Module,
    loss: Callable[[], Tensor],
    pairs: Mapping[str, str],
    modules: Mapping[str, nn.Module],
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    inputs: dict[str, Tensor] = {}
    shapes: dict[str, torch.Size] = {}
    outputs: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            inputs[name] = getattr(args[0], "value", args[0]).detach()
            outputs[name] = getattr(output, "value", output)
            shapes[name] = outputs[name].shape

        return hook

    with ExitStack() as hooks, evaluating(model):
        for name in dict.fromkeys((*pairs, *pairs.values())):
            handle = modules[name].register_forward_hook(keep(name))
            hooks.callback(handle.remove)
        value = loss()
        for quantizer, layer in pairs.items():
            if quantizer not in outputs or layer not in outputs:
                raise ValueError(f"the loss does not use {quantizer!r} and {layer!r}")
            if shapes[quantizer] != shapes[layer]:
                raise ValueError(
                    f"{layer} gives {tuple(shapes[layer])} but {quantizer} "
                    f"{tuple(shapes[quantizer])}: between them may only be what is affine in each "
                    "channel"
                )
        grads = torch.autograd.grad(
            value, [outputs[name] for name in pairs], allow_unused=True, materialize_grads=True
        )
    return inputs, {name: sign_target(grad) for name, grad in zip(pairs, grads, strict=True)}


def _problem(
    layer: nn.Module, inputs: Tensor, targets: Tensor, channel: int
) -> tuple[Tensor, Tensor]:
    """Rows that one output channel sees, and their targets."""
    if not isinstance(layer, nn.Conv2d):
        return inputs, targets[:, channel]
    assert not isinstance(layer.padding, str)
    width = layer.in_channels // layer.groups
    group = channel // (layer.out_channels // layer.groups)
    patches = nn.functional.unfold(
        inputs[:, group * width : (group + 1) * width],
        layer.kernel_size,
        layer.dilation,
        layer.padding,
        layer.stride,
    )
    return patches.transpose(1, 2).flatten(0, 1), targets[:, channel].flatten()
