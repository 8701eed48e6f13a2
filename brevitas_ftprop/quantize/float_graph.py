"""A float network as a graph in one form."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from .activation_calls import give_modules, refuse_curved
from .standard_form import drop_idle_pools, move_biases, write_plain_sums

# float32 sums in another order, over a whole network.
TOLERANCE = 1e-3


def float_graph(model: nn.Module, example: Tensor) -> fx.GraphModule:
    """A copy of a float model as a graph that computes the same, in evaluation mode.

    Each call of a ReLU, clip or dropout has a module of its own, sums are plain ones, biases in
    front of batch norms are part of these, and average pools that change nothing are left out.
    Each node knows the shape of its tensor.

    Args:
        model: any float model that ``torch.fx`` traces, with one input.
        example: float32 (N, …).

    Raises:
        ValueError: for a model that cannot be traced (names the module), several inputs or
            outputs, activations that no thresholds compute, and where the graph would compute
            something else.

    >>> graph = float_graph(nn.Sequential(nn.Linear(2, 2), nn.ReLU6()), torch.ones(1, 2))
    >>> [str(node.target) for node in graph.graph.nodes]
    ['input', '0', '1', 'output']
    """
    model = deepcopy(model).eval()
    expected = _output(model, example)
    graph_model = _traced(model)
    refuse_curved(graph_model)
    give_modules(graph_model)
    write_plain_sums(graph_model)
    graph_model.recompile()
    ShapeProp(graph_model).propagate(example.clone())
    drop_idle_pools(graph_model)
    move_biases(graph_model)
    graph_model.graph.eliminate_dead_code()
    graph_model.delete_all_unused_submodules()
    graph_model.recompile()
    found = _output(graph_model, example)
    is_same = found.shape == expected.shape
    error = float((found - expected).abs().max()) if is_same else torch.inf
    if not error <= TOLERANCE * max(1.0, float(expected.abs().max())):
        raise ValueError(
            f"the traced model computes something else (a difference of {error:.3g}): forward may "
            "not change values in place that are read again, nor draw random numbers"
        )
    return graph_model


class _Tracer(fx.Tracer):
    """Names the module in which tracing fails."""

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple, kwargs: dict[str, Any]
    ) -> Any:
        try:
            return super().call_module(m, forward, args, kwargs)
        except _UntraceableError:
            raise
        # Whatever a user's forward makes of proxies.
        except Exception as error:
            place = f"{self.path_of_module(m)} ({type(m).__name__})"
            raise _UntraceableError(place, error) from error


class _UntraceableError(Exception):
    """Where tracing failed, and why."""


def _traced(model: nn.Module) -> fx.GraphModule:
    tracer = _Tracer()
    try:
        graph = tracer.trace(model)
    except _UntraceableError as failure:
        raise _untraceable(*failure.args) from failure
    # As above.
    except Exception as error:
        raise _untraceable(f"the model's own forward ({type(model).__name__})", error) from error
    inputs = [node.name for node in graph.find_nodes(op="placeholder")]
    if len(inputs) != 1:
        raise ValueError(
            f"forward takes {', '.join(inputs) or 'nothing'}: wrap the model in a module whose "
            "forward takes one tensor"
        )
    return fx.GraphModule(tracer.root, graph, type(model).__name__)


def _untraceable(place: str, error: Exception) -> ValueError:
    reason = str(error).strip().partition("\n")[0].rstrip(".")
    return ValueError(
        f"torch.fx cannot trace {place}: {reason}. Write it without branches and loops that depend "
        "on tensors, or leave it out of the model that is quantized"
    )


def _output(model: nn.Module, example: Tensor) -> Tensor:
    with torch.no_grad():
        try:
            # A copy, since a model may change its input in place.
            output = model(example.clone())
        # Whatever a user's forward raises.
        except Exception as error:
            reason = str(error).partition("\n")[0]
            raise ValueError(
                f"the model cannot take an input of shape {tuple(example.shape)}: {reason}"
            ) from error
    if not isinstance(output, Tensor):
        raise ValueError(
            f"the model returns a {type(output).__name__}: wrap it in a module that returns one "
            "tensor"
        )
    return output
