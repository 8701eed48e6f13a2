"""What is nearly an identity is kept, what is one goes; types hold all that is joined."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from brevitas_ftprop.export.finn import export_finn
from brevitas_ftprop.export.finn.environment import finn_environment

pytest.importorskip("finn", reason="needs the extra 'finn'")


@pytest.mark.parametrize(("op", "neutral"), [("Add", 0), ("Sub", 0), ("Mul", 1), ("Div", 1)])
@pytest.mark.parametrize("off", [0, 1e-6])
def test_an_operator_is_removed_where_it_changes_nothing(make_node, make_graph, op, neutral, off):
    from qonnx.transformation.remove import RemoveIdentityOps

    nodes = [make_node(op, ["x", "c"], "between"), make_node("Relu", ["between"], "y")]
    graph = make_graph(nodes, (1, 2), c=np.array([neutral, neutral + off], np.float32))
    with finn_environment():
        kinds = [node.op_type for node in graph.transform(RemoveIdentityOps()).graph.node]
    assert kinds == (["Relu"] if off == 0 else [op, "Relu"])


@pytest.mark.parametrize(
    ("kinds", "joined"),
    [
        (["UINT2", "INT4"], "INT4"),
        (["UINT4", "INT4"], "INT5"),
        (["BIPOLAR", "BIPOLAR"], "BIPOLAR"),
        (["BIPOLAR", "UINT2"], "INT3"),
        (["INT4", "FLOAT32"], "FLOAT32"),
    ],
)
def test_what_is_joined_has_a_type_that_holds_all_branches(make_node, make_graph, kinds, joined):
    from qonnx.core.datatype import DataType
    from qonnx.transformation.infer_datatypes import InferDataTypes

    graph = make_graph([make_node("Concat", ["x", "other"], "y", axis=1)], (1, 2), other=[[0, 0]])
    for name, kind in zip(("x", "other"), kinds, strict=True):
        graph.set_tensor_datatype(name, DataType[kind])
    with finn_environment():
        found = graph.transform(InferDataTypes())
    assert found.get_tensor_datatype("y") == DataType[joined]


def test_a_batch_norm_of_tiny_values_reaches_the_thresholds(one_block, tmp_path):
    with torch.no_grad():
        one_block[2].weight.mul_(1e-6)
        one_block[2].bias.copy_(1e-6 * torch.randn(4))
    for _ in range(3):
        one_block(torch.randn(8, 3, 8, 8))
    example = torch.randn(1, 3, 8, 8)
    assert export_finn(one_block.eval(), example, tmp_path / "out", dynamo=False, progress=False).ok
