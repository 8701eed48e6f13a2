"""The benchmark of training steps in its smallest form."""

from __future__ import annotations

import pytest
import torch
import training_step
from measuring.networks import NETWORKS

pytestmark = pytest.mark.heavy

SMALL = [
    "--saved",
    "exact",
    "--models",
    "convnet8",
    "--acts",
    "sign",
    "--batch-size",
    "2",
    "--repetitions",
    "1",
]


@pytest.mark.parametrize("precision", ["32", "bf16"])
def test_ratios_are_those_of_the_medians(record_of, precision):
    record = record_of(training_step, *SMALL, "--compiled", "--precision", precision)
    relu, stock, ours = rows = record["rows"]
    assert [row["rival"] for row in rows] == ["ReLU", "stock", "ours soft_hinge exact"]
    for row in rows:
        seconds = row["seconds"]["step"]["median"]
        assert row["images_per_second"] == 2 / seconds
        for key, other in (("times_relu", relu), ("times_stock", stock)):
            assert row[key] == {
                "step": seconds / other["seconds"]["step"]["median"],
                "peak": row["peak_bytes"] / other["peak_bytes"],
            }
    assert ours["peak_bytes"] > relu["peak_bytes"]
    assert "images/s" in record["page"]


def test_rivals_start_from_the_same_weights_and_give_the_same_logits():
    network = NETWORKS["convnet8"]
    images, _ = network.batch(32, 2)
    stock, ours = network.stock(32, "int2"), network.ours(32, "int2", "soft_hinge", "exact")
    torch.testing.assert_close(stock.eval()(images), ours.eval()(images), rtol=0, atol=0)
    for name, value in stock.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value, rtol=0, atol=0)


@pytest.mark.slow
def test_compiled_networks_take_part(record_of):
    record = record_of(training_step, *SMALL)
    assert [row["rival"] for row in record["rows"]][3:] == [
        "stock compiled",
        "ours soft_hinge exact compiled",
    ]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (["--repetitions", "0"], "--repetitions must be positive, not 0"),
        (["--image-size", "-4"], "--image-size must be positive, not -4"),
        (["--models", "alexnet", "--image-size", "10"], "60×60 or more"),
        (["--rules", "no_rule"], "unknown rule 'no_rule'"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_it_cannot_do_is_one_sentence(sentence_of, wrong, says):
    assert says in sentence_of(training_step, *wrong)
