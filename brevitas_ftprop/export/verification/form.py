"""Whether a file has the form of exported ones, asked before anything is computed with it."""

from __future__ import annotations

from onnx import ModelProto, NodeProto

from ..errors import DamagedFileError

# Of the nodes of quantizers: how many inputs, and which attributes they have.
FORMS = {
    "Quant": (4, {"signed", "narrow", "rounding_mode"}),
    "BipolarQuant": (2, set()),
    "MultiThreshold": (2, {"out_dtype"}),
}
BIT_WIDTH = 3


def check_form(model: ModelProto, label: object) -> None:
    """Raise unless the input has a fixed shape and quantizers' nodes are complete.

    Args:
        model: the graph of a file.
        label: names the file.

    Raises:
        DamagedFileError: says what is missing.
    """
    shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    if not shape:
        raise DamagedFileError(f"{label} is damaged: its input has no shape")
    if min(shape) < 1:
        raise DamagedFileError(
            f"the input of {label} has a dimension without a fixed size: export it with one"
        )
    constants = {tensor.name for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type in FORMS:
            _check_node(node, constants, label)


def _check_node(node: NodeProto, constants: set[str], label: object) -> None:
    inputs, attributes = FORMS[node.op_type]
    named = f"{node.op_type} node {node.name or node.output[0]} of {label}"
    if len(node.input) != inputs:
        raise DamagedFileError(f"the {named} has {len(node.input)} inputs instead of {inputs}")
    missing = attributes - {attribute.name for attribute in node.attribute}
    if missing:
        raise DamagedFileError(f"the {named} does not say its {', '.join(sorted(missing))}")
    if node.op_type == "Quant" and node.input[BIT_WIDTH] not in constants:
        raise DamagedFileError(f"the {named} computes its bit width: export a fixed one")
