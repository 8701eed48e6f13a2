"""Run one of Brevitas' export managers and take the graph out of it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import onnx
import torch
from onnx import ModelProto
from torch import Tensor
from torch.nn import Module

from .dependence import check_complete, run_traced
from .errors import ExportError, MissingToolError
from .formats import Format
from .layer_names import note_layers
from .markers import count_anew, marking_manager
from .padding_sizes import make_padding_sizes_constant
from .quantizers import check_quantizers, kind_of, quantizer_proxies
from .quiet import silence
from .state import export_state
from .tags import tag_nodes

DYNAMO_SINCE = "2.8"


def trace(
    format: Format, model: Module, example_input: Tensor, *, dynamo: bool, fold: bool = True
) -> ModelProto:
    """Export with a Brevitas manager, quietly, and name the quantizers and layers of its nodes.

    Args:
        format: of the graph.
        model, example_input, dynamo: as Brevitas takes them.
        fold: whether the exporter may make one layer of a convolution and its batch norm.

    Raises:
        ExportError: if the exporter fails, or leaves out what the output depends on; names the
            layer where that is known.
        MissingToolError: for the dynamo exporter of a torch that is too old for Brevitas.
    """
    if dynamo and torch.__version__ < DYNAMO_SINCE:
        raise MissingToolError(
            f"the dynamo exporter needs torch {DYNAMO_SINCE}, and this is {torch.__version__}:"
            " export with dynamo=False"
        )
    manager = format.dynamo if dynamo else format.torchscript
    options = {
        "dynamo": dynamo,
        "opset_version": format.opset,
        "input_names": ["input"],
        "output_names": ["output"],
    }
    if dynamo:
        options["optimize"] = fold
    elif not fold:
        options["training"] = torch.onnx.TrainingMode.PRESERVE
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        with export_state(model), torch.no_grad(), torch.autocast("cpu", enabled=False):
            entered: list[str] = []
            try:
                with silence(), _recording_entered(model, entered):
                    check_quantizers(model.eval())
                    output, needed = run_traced(model, example_input)
                    _check_output(output)
                    marking_manager(manager, model).export(
                        model, args=example_input.detach().clone(), export_path=str(file), **options
                    )
                    graph = onnx.load(file)
                check_complete(graph, needed)
            except Exception as error:
                raise _explained(error, entered) from error
    kinds = {name: kind_of(proxy) for name, proxy in quantizer_proxies(model).items()}
    note_layers(graph, model)
    tag_nodes(graph, (name for name, kind in kinds.items() if kind is not None))
    make_padding_sizes_constant(graph)
    return graph


def _check_output(output: object) -> None:
    if not isinstance(output, Tensor) or isinstance(output, tuple):
        raise ExportError(
            f"the model returns a {type(output).__name__}, but files have one plain tensor as "
            "output: set return_quant_tensor=False on the last layer, or return its value"
        )
    if output.dim() == 0:
        raise ExportError("the model returns a scalar, but files have one output for each image")


@contextmanager
def _recording_entered(model: Module, entered: list[str]) -> Iterator[None]:
    """Keep in ``entered`` the names of the modules whose forward is running."""
    with ExitStack() as hooks:
        add = hooks.enter_context
        add(model.register_forward_pre_hook(lambda module, x: count_anew(module)))
        for name, module in model.named_modules():
            if name:
                add(module.register_forward_pre_hook(lambda m, x, n=name: entered.append(n)))
                add(module.register_forward_hook(lambda m, x, y: _leave(entered)))
        yield


def _leave(entered: list[str]) -> None:
    if entered:
        entered.pop()


def _explained(error: BaseException, entered: list[str]) -> ExportError:
    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(cause)
    known = next((link for link in chain if isinstance(link, ExportError)), None)
    if known is not None:
        return ExportError(f"export failed: {known}")
    reason = next((line for line in str(chain[-1]).splitlines() if line.strip()), "")
    where = f" in {entered[-1]}" if entered else ""
    return ExportError(f"export failed{where}: {type(chain[-1]).__name__}: {reason}")
