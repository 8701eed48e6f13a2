"""Cut exported graphs open at their quantizers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import ModelProto, TensorProto, ValueInfoProto

from ..errors import DamagedFileError, VerificationError
from ..tags import Site, is_tagged, sites_of
from .form import check_form

FORCED_OUTPUT = "output.forced"


def load_tagged(path: Path) -> tuple[ModelProto, list[Site]]:
    """Read a file that ``export_qonnx`` or ``export_qcdq`` wrote.

    Raises:
        FileNotFoundError: if there is no file.
        DamagedFileError: if it is not ONNX, is damaged, or carries no quantizer names.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist or is not a file")
    try:
        # Whatever its name ends in.
        model = onnx.load(path, format="protobuf")
        onnx.checker.check_model(model)
        sites = sites_of(model)
    except (DecodeError, onnx.checker.ValidationError) as error:
        reason = str(error).partition("\n")[0]
        raise DamagedFileError(f"{path} is not an ONNX file, or is damaged: {reason}") from error
    except ValueError as error:
        raise VerificationError(f"{path} was changed since it was exported: {error}") from error
    if not sites:
        raise DamagedFileError(
            f"{path} names no quantizers: write it with export_qonnx or export_qcdq"
        )
    if len(model.graph.input) != 1 or len(model.graph.output) != 1:
        raise VerificationError(
            f"{path} has {len(model.graph.input)} inputs and {len(model.graph.output)} outputs; "
            "files with one input and one output can be verified"
        )
    check_form(model, path)
    return model, sites


def input_shape(model: ModelProto) -> tuple[int, ...]:
    """Shape of the graph's input."""
    return tuple(d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim)


def isolated(model: ModelProto, sites: Sequence[Site], shapes: Mapping[str, Sequence[int]]):
    """A graph of some quantizers alone, each with an input of its own.

    Args:
        model: the exported graph.
        sites: what to keep; its inputs are named by ``source_name``, its outputs by ``result``.
        shapes: of the sources, by input name.
    """
    kept = {index for site in sites for index in site.nodes}
    kept |= _constant_nodes(model)
    cut = _copy_without_nodes(model)
    renamed = {
        index: {site.source: source_name(site)}
        for site in sites
        if site.source is not None
        for index in site.nodes
    }
    for index in sorted(kept):
        node = cut.graph.node.add()
        node.CopyFrom(model.graph.node[index])
        _rename(node.input, renamed.get(index, {}))
    for site in sites:
        if site.source is not None:
            cut.graph.input.append(_float_tensor(source_name(site), shapes[source_name(site)]))
    cut.graph.output.extend(_float_tensor(site.result, None) for site in sites)
    return cut


def forced(model: ModelProto, sites: Sequence[Site], shapes: Mapping[str, Sequence[int]]):
    """The whole graph, in which everything behind a quantizer reads from an input instead.

    The graph's output, ``FORCED_OUTPUT`` here, is behind a quantizer even where it is its result.

    Args:
        model: the exported graph.
        sites: the quantizers to cut behind; the new inputs are named by ``forced_name``. Their own
            results, and what they read where it is computed, are outputs, after the graph's.
        shapes: of the quantizers' results, by input name.
    """
    cut = _copy_without_nodes(model)
    replaced = {site.result: forced_name(site) for site in sites}
    own = {index: site.result for site in sites for index in site.nodes}
    for index, node in enumerate(model.graph.node):
        copied = cut.graph.node.add()
        copied.CopyFrom(node)
        _rename(copied.input, {k: v for k, v in replaced.items() if k != own.get(index)})
    (output,) = model.graph.output
    last = replaced.get(output.name, output.name)
    cut.graph.node.append(onnx.helper.make_node("Identity", [last], [FORCED_OUTPUT]))
    cut.graph.input.extend(model.graph.input)
    cut.graph.input.extend(
        _float_tensor(forced_name(site), shapes[forced_name(site)]) for site in sites
    )
    cut.graph.output.append(output)
    cut.graph.output[0].name = FORCED_OUTPUT
    computed = {name for node in model.graph.node for name in node.output} - set(replaced)
    looked_at = [site.result for site in sites]
    looked_at += [site.source for site in sites if site.source in computed]
    cut.graph.output.extend(_float_tensor(name, None) for name in dict.fromkeys(looked_at))
    return cut


def is_transposed(model: ModelProto, site: Site) -> bool:
    """Whether a weight is stored as (inputs, outputs): QONNX folds a Transpose into its values."""
    for node in model.graph.node:
        if list(node.input[1:2]) == [site.result]:
            trans_b = next((a.i for a in node.attribute if a.name == "transB"), 0)
            return node.op_type == "MatMul" or (node.op_type == "Gemm" and not trans_b)
    return False


def source_name(site: Site) -> str:
    return f"{site.name}#{site.call}.source"


def forced_name(site: Site) -> str:
    return f"{site.name}#{site.call}.forced"


def _copy_without_nodes(model: ModelProto) -> ModelProto:
    cut = ModelProto()
    cut.CopyFrom(model)
    for entries in (cut.graph.node, cut.graph.input, cut.graph.output, cut.graph.value_info):
        del entries[:]
    return cut


def _constant_nodes(model: ModelProto) -> set[int]:
    """Nodes that depend on initializers only, but belong to no quantizer of their own."""
    constant = {tensor.name for tensor in model.graph.initializer}
    found = set()
    for index, node in enumerate(model.graph.node):
        if all(n in constant for n in node.input if n) and not is_tagged(node):
            constant.update(node.output)
            found.add(index)
    return found


def _rename(names, replaced: Mapping[str, str]) -> None:
    for index, name in enumerate(names):
        names[index] = replaced.get(name, name)


def _float_tensor(name: str, shape: Sequence[int] | None) -> ValueInfoProto:
    return onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
