"""What is kept for backward, against what is known to be kept."""

from __future__ import annotations

import memory
import pytest
import torch
from brevitas.nn import QuantIdentity
from brevitas.quant import SignedBinaryActPerTensorConst
from measuring.kept import kept_for_backward
from measuring.peak import peak_bytes
from torch import nn

pytestmark = pytest.mark.heavy

SMALL = ["--saved", "exact", "--shape", "4", "100", "--image-size", "64", "--batch-size", "2"]


class Square(nn.Module):
    """Saves its input."""

    def forward(self, x):
        return x * x


def test_storages_count_once_and_inputs_and_parameters_do_not():
    x = torch.randn(10, 8)
    # The first layer saves the input and its weight, the second its own output, which the third
    # saves again, as both factors.
    network = nn.Sequential(nn.Linear(8, 8), nn.Sigmoid(), Square())
    kept = kept_for_backward(network, x)
    assert (kept.total, kept.by_quantizers, kept.quantizer_inputs) == (10 * 8 * 4, 0, 0)


def test_what_another_layer_saves_too_is_not_the_quantizers():
    stock = QuantIdentity(act_quant=SignedBinaryActPerTensorConst)
    ours = memory.QUANTIZERS["sign"].ours("soft_hinge", "exact")
    x = torch.randn(10, 8, requires_grad=True)
    size = 10 * 8 * 4
    # Stock saves two masks of a byte each, and the scale.
    assert kept_for_backward(nn.Sequential(memory.Input(), stock), x).by_quantizers == size / 2 + 4
    alone = kept_for_backward(nn.Sequential(memory.Input(), ours), x)
    assert size <= alone.by_quantizers == alone.total
    behind = kept_for_backward(nn.Sequential(memory.Input(), nn.Sigmoid(), ours), x)
    assert behind.by_quantizers == alone.by_quantizers - size
    assert behind.total == alone.total
    assert behind.quantizer_inputs == size


def test_the_peak_is_the_most_that_is_held_at_a_time():
    def call():
        first = torch.empty(1000, dtype=torch.float64)
        del first
        second = torch.empty(500, dtype=torch.float64)
        third = torch.empty(700, dtype=torch.float64)
        del second
        return third

    assert peak_bytes(call, torch.device("cpu")) == 1200 * 8


def test_ratios_are_those_of_the_bytes(record_of):
    record = record_of(memory, "--models", "convnet8", "--rules", "SSTE", "hinge", *SMALL)
    rows = record["rows"]
    assert {row["what"] for row in rows} == {
        *memory.QUANTIZERS,
        "convnet8 sign",
        "convnet8 int2",
    }
    for row in rows:
        kept = row["kept"]
        if row["rival"] == "ReLU":
            assert row["input_sizes"] is None
            assert kept["by_quantizers"] == 0
        else:
            assert row["input_sizes"] == kept["by_quantizers"] / kept["quantizer_inputs"]
        stock = [r for r in rows if r["what"] == row["what"] and r["rival"] == "stock"]
        assert bool(stock) == (row["what"] != "staircase3") == (row["times_stock"] is not None)
        for reference in stock:
            assert row["times_stock"] == {
                "kept": kept["total"] / reference["kept"]["total"],
                "peak": row["peak_bytes"] / reference["peak_bytes"],
            }
        assert kept["by_quantizers"] <= kept["total"] <= row["peak_bytes"]
    assert record["page"].count("| ours saturated_ste exact |") == 7


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (["--shape", "-1", "64"], "a tensor must have 8 to 1e+11 elements, not -1x64"),
        (["--batch-size", "0"], "--batch-size must be positive, not 0"),
        (["--models", "--quantizers"], "nothing to measure"),
        (["--models", "alexnet", "--image-size", "10", "--quantizers"], "60×60 or more"),
        (["--rules", "no_rule", "--quantizers", "sign"], "unknown rule 'no_rule'"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_it_cannot_do_is_one_sentence(sentence_of, wrong, says):
    assert says in sentence_of(memory, *wrong)
