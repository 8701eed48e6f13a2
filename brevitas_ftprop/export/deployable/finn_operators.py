"""FINN: which operators have a hardware layer at all, and in which form."""

from __future__ import annotations

from onnx import NodeProto

from ...levels import level_function
from ..height_one import nodes_on_signals
from ..node_attributes import integers_in
from ..trunc_nodes import truncation_of
from .graph_view import GraphView
from .requirement import Found, Requirements
from .walk import AVERAGES, WEIGHTED, is_global_average, is_join

OPERATOR_REQUIREMENTS = Requirements()

KNOWN = {
    *WEIGHTED,
    *AVERAGES,
    "Add",
    "BatchNormalization",
    "BipolarQuant",
    "Concat",
    "Div",
    "Flatten",
    "Identity",
    "MaxPool",
    "Mul",
    "MultiThreshold",
    "Pad",
    "Quant",
    "Relu",
    "Reshape",
    "Resize",
    "Sub",
    "Trunc",
}

# Activation functions that a quantizer of another range, or another function, replaces.
REPLACED = ("Clip", "Elu", "HardSwish", "LeakyRelu", "PRelu", "Selu")


@OPERATOR_REQUIREMENTS.add(
    "activation-function",
    why="Loud: the flow has no hardware layer for it and stops; of activation functions only a "
    "ReLU becomes part of the thresholds behind it.",
    fix="leave nn.Hardtanh and nn.ReLU6 out, and let the quantizer behind them clip at their ends "
    "(its max_val, and QuantReLU from 0); in place of nn.LeakyReLU, nn.PReLU and the like, which "
    "have no exact form, train with QuantReLU or a signed quantizer alone",
)
def activation_function(view: GraphView) -> Found:
    """Activation functions of (N, …) that a quantizer replaces: Hardtanh, ReLU6, PReLU, …"""
    for node in view.of_kind(*REPLACED):
        if node not in view.absorbed:
            yield view.layer(node), f"the operator {node.op_type}"


@OPERATOR_REQUIREMENTS.add(
    "unknown-operator",
    why="Loud: the flow has no hardware layer for it and stops.",
    fix="build the network from convolutions, linear layers, batch norms, max pools, a global "
    "average, quantizers, sums, concatenations of channels and nearest upsampling; leave the rest "
    "(softmax) to software",
)
def unknown_operator(view: GraphView) -> Found:
    """Operators that no pass of the flow knows: Sigmoid, Softmax, GroupNorm, …"""
    for node in view.nodes:
        is_last_softmax = node.op_type == "Softmax" and node.output[0] == view.output
        is_known = node.op_type in (*KNOWN, *REPLACED) or node in view.absorbed
        if not is_known and not is_last_softmax and not _is_flattened(view, node):
            yield view.layer(node), f"the operator {node.op_type}"


def _is_flattened(view: GraphView, node: NodeProto) -> bool:
    """Whether a node moves channels last directly before a flattening."""
    if node.op_type != "Transpose" or integers_in(node, "perm", []) != [0, 2, 3, 1]:
        return False
    return all(n.op_type in ("Flatten", "Reshape") for n in view.consumers(node.output[0]))


@OPERATOR_REQUIREMENTS.add(
    "two-computed-operands",
    why="Loud: only sums of two computed tensors become hardware layers here.",
    fix="use an addition, or compute one of the operands in software",
)
def two_computed_operands(view: GraphView) -> Found:
    """Products, differences and quotients of two tensors that both depend on the input."""
    for node in view.of_kind("Mul", "Sub", "Div", "MatMul", "Gemm", "Conv"):
        if is_join(view, node):
            yield view.layer(node), f"{node.op_type} of two computed tensors"


@OPERATOR_REQUIREMENTS.add(
    "dimensions",
    why="Loud: the flow lowers convolutions and pools of images (N, C, H, W) only, writes networks "
    "on signals (N, C, L) as such of height 1, and FINN 1.6 has no transposed convolution.",
    fix="use 2-D convolutions and pools; in a 1-D network leave no other operator on (N, C, L) "
    "than convolutions, pools, batch norms, quantizers, arithmetic, nn.ConstantPad1d, "
    "torch.cat(…, 1), nearest upsampling, x.mean(-1) and flattening; flatten before a linear "
    "layer, or use a convolution of kernel 1, and give a network without convolutions features "
    "(N, F); upsample by nn.Upsample(scale_factor=2) and a convolution instead of a transposed one",
)
def dimensions(view: GraphView) -> Found:
    """Operators on signals without a form of height 1, 3-D and transposed convolutions, pools."""
    for node in nodes_on_signals(view.graph, without_form=True):
        yield view.layer(node), f"{node.op_type} of a signal (N, C, L)"
    if not nodes_on_signals(view.graph, without_form=True):
        for node in nodes_on_signals(view.graph)[:1]:
            yield view.layer(node), "a signal (N, C, L) that no convolution or average reads"
    for node in view.of_kind("Conv", "ConvTranspose", "MaxPool", *AVERAGES):
        rank = len(view.shape(node.input[0]))
        if node.op_type == "ConvTranspose":
            yield view.layer(node), "a transposed convolution"
        elif rank > 4:
            yield view.layer(node), f"{node.op_type} of {rank - 2} spatial dimensions"


@OPERATOR_REQUIREMENTS.add(
    "groups",
    why="Loud: FINN lowers convolutions of one group, and depthwise ones of as many groups as "
    "channels; others fail while streamlining.",
    fix="use groups=1, or groups equal to the numbers of input and output channels",
)
def groups(view: GraphView) -> Found:
    """Grouped convolutions that are not depthwise."""
    for node in view.of_kind("Conv"):
        count = integers_in(node, "group", [1])[0]
        entering, leaving = view.shape(node.input[0])[1], view.shape(node.output[0])[1]
        if count != 1 and not count == entering == leaving:
            yield view.layer(node), f"{count} groups for {entering} → {leaving} channels"


@OPERATOR_REQUIREMENTS.add(
    "average-pool",
    why="Loud: a mean over windows has no hardware layer here; only the global one has.",
    fix="use a convolution of stride 2, a max pool, or AdaptiveAvgPool2d(1) before the classifier",
)
def average_pool(view: GraphView) -> Found:
    """Average pools over less than the whole map."""
    for node in view.of_kind(*AVERAGES):
        is_truncated = any(n.op_type == "Trunc" for n in view.consumers(node.output[0]))
        is_map = len(view.shape(node.input[0])) == 4
        if is_map and not is_truncated and not is_global_average(view, node):
            yield view.layer(node), f"{node.op_type} that is not global"


@OPERATOR_REQUIREMENTS.add(
    "truncation",
    why="Loud: FINN's average pool adds up a square window of a quantizer's integers and shifts "
    "the sum right; the flow stops at other truncations.",
    fix='use TruncAvgPool2d with float_to_int_impl_type="FLOOR", a square window and map, '
    "and a quantizer without zero-point directly before it; or AdaptiveAvgPool2d(1) and a "
    "quantizer",
)
def truncation(view: GraphView) -> Found:
    """Truncations that take bits away in another way than FINN's average pool."""
    for node in view.of_kind("Trunc"):
        found = truncation_of(node, view.constant)
        pool = view.producer(node.input[0])
        if found is None:
            reason = "a truncation whose scale is computed, or one for each channel"
        else:
            size = view.shape(node.input[0] if pool is None else pool.input[0])[2:]
            levels = None if pool is None else _levels_before(view, pool)
            reason = found.refusal(pool, size, levels)
        if reason is not None:
            yield view.layer(node).removesuffix(".trunc_quant"), reason


def _levels_before(view: GraphView, pool: NodeProto) -> tuple[int, int] | None:
    """Smallest and largest integer of the quantizer before a pool that only a Trunc reads."""
    name = view.activation_quantizer(pool.input[0])
    if name is None or len(view.consumers(pool.output[0])) != 1:
        return None
    function = level_function(view.proxies[name])
    if function.channels > 1 or bool(function.zero_point.any()):
        return None
    return function.level_values[0], function.level_values[-1]


@OPERATOR_REQUIREMENTS.add(
    "pool-form",
    why="Loud: FINN's pools round their output size down, know no dilation and skip no pixels; the "
    "step `hardware` leaves them out, or its graph does not run.",
    fix="use ceil_mode=False, dilation=1 and a stride of at most the window, with padding where "
    "the border matters",
)
def pool_form(view: GraphView) -> Found:
    """Max pools that are dilated, skip pixels, or round their size up to more than FINN's own."""
    for node in view.of_kind("MaxPool"):
        window, stride = integers_in(node, "kernel_shape", []), integers_in(node, "strides", [])
        if any(step != 1 for step in integers_in(node, "dilations", [])):
            yield view.layer(node), "a dilated max pool"
        elif any(map(int.__lt__, window, stride)):
            yield view.layer(node), "a max pool whose stride is larger than its window"
        elif any(integers_in(node, "ceil_mode", [0])) and _is_rounded_up(view, node):
            yield view.layer(node), "a max pool with ceil_mode whose last windows are cut"


def _is_rounded_up(view: GraphView, node: NodeProto) -> bool:
    before, after = view.shape(node.input[0])[2:], view.shape(node.output[0])[2:]
    kernel, strides = integers_in(node, "kernel_shape", []), integers_in(node, "strides", [1, 1])
    pads = integers_in(node, "pads", [0] * 4)
    floor = [
        (size + pads[axis] + pads[axis + 2] - kernel[axis]) // strides[axis] + 1
        for axis, size in enumerate(before)
    ]
    return floor != after
