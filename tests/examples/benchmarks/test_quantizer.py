"""The benchmark of one quantizer in its smallest form."""

from __future__ import annotations

import os

import pytest
import quantizer
import torch
from measuring.bare import BareOp
from measuring.command import BenchmarkError
from measuring.quantizers import QUANTIZERS, Quantizer
from measuring.rivals import Rival
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from brevitas_ftprop.kernels import ENVIRONMENT_VARIABLE

pytestmark = pytest.mark.heavy

SMALL = ["--repetitions", "2", "--least-seconds", "1e-4"]
HERE = ["--stock", "stock", "--saved", "exact"]


def test_ratios_are_those_of_the_medians(record_of):
    record = record_of(quantizer, "--shape", "2", "3", "4", *SMALL, *HERE)
    rows = record["rows"]
    assert {row["quantizer"] for row in rows} == set(QUANTIZERS)
    for row in rows:
        of_quantizer = {r["rival"]: r for r in rows if r["quantizer"] == row["quantizer"]}
        assert ("stock" in of_quantizer) == (row["quantizer"] != "staircase3")
        for name in ("copy", "stock"):
            for part, ratio in row[f"times_{name}"].items():
                other = of_quantizer[name]["seconds"][part]
                assert ratio == row["seconds"][part]["median"] / other["median"]
        moved = {"inference": 2, "forward": 2, "backward": 3, "training": 5}
        if row["rival"] == "copy":
            moved |= {"backward": 2, "training": 4}
        for part, seconds in row["seconds"].items():
            assert seconds["low"] <= seconds["median"] <= seconds["high"]
            expected = moved[part] * 24 * 4 / seconds["median"] / 1e9
            assert row["gb_per_s"][part] == pytest.approx(expected)
    assert record["page"].count("\n| sign | 2x3x4 |") == 4


def test_every_size_rule_and_backend_has_its_row(record_of):
    record = record_of(
        quantizer,
        *("--quantizers", "sign", "--elements", "8", "1e2", "--rules", "SSTE", "hinge"),
        *("--backends", "auto", "eager", "--ops"),
        *SMALL,
        *HERE,
    )
    expected = [
        f"{kind} {rule} {backend}"
        for kind in ("ours", "op")
        for rule in ("saturated_ste", "hinge")
        for backend in ("auto", "eager")
    ]
    assert [(row["shape"], row["rival"]) for row in record["rows"]] == [
        (shape, rival) for shape in ([8], [100]) for rival in ("copy", "stock", *expected)
    ]
    assert ENVIRONMENT_VARIABLE not in os.environ


@pytest.mark.slow
def test_compiled_and_scripted_rivals_take_part(record_of):
    record = record_of(quantizer, "--shape", "50", "--quantizers", "uint2_learned", *SMALL)
    names = [row["rival"] for row in record["rows"]]
    assert names[:4] == ["copy", "stock", "stock-jit", "stock-compiled"]
    assert "BREVITAS_JIT" not in os.environ


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_it_runs_in_half_precision(record_of, dtype):
    record = record_of(quantizer, "--shape", "50", "--dtype", dtype, *SMALL, *HERE)
    copies = [row for row in record["rows"] if row["rival"] == "copy"]
    for row in copies:
        seconds = row["seconds"]["training"]["median"]
        assert row["gb_per_s"]["training"] == pytest.approx(4 * 50 * 2 / seconds / 1e9)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (["--threads", "0"], "--threads must be positive, not 0"),
        (["--shape", "4", "-1"], "a tensor must have 8 to 1e+11 elements, not 4x-1"),
        (["--elements", "3"], "a tensor must have 8 to 1e+11 elements, not 3"),
        (
            ["--elements", "1e20"],
            "a tensor must have 8 to 1e+11 elements, not 100000000000000000000",
        ),
        (["--rules", "no_rule"], "unknown rule 'no_rule'"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_it_cannot_do_is_one_sentence(sentence_of, wrong, says):
    assert says in sentence_of(quantizer, *wrong)


@pytest.mark.parametrize("wrong", ["--backends", "--quantizers", "--saved", "--stock", "--device"])
def test_unknown_choices_are_refused(wrong, capsys):
    with pytest.raises(SystemExit):
        quantizer.main([wrong, "nonsense"])
    assert "invalid choice: 'nonsense'" in capsys.readouterr().err


def test_rivals_that_compute_something_else_are_refused():
    stock, ours = Rival("stock"), Rival("ours", "saturated_ste", "eager", "exact")
    hinge = Rival("ours", "hinge", "eager", "exact")
    same = (0.5, 10.0, 0.25, 4.0)
    quantizer.refuse_different({stock: same, ours: same, hinge: (0.5, 10.0, 0.5, 8.0)}, 1e-5)
    with pytest.raises(BenchmarkError, match="eager computes other gradients than stock"):
        quantizer.refuse_different({stock: same, ours: (0.5, 10.0, 0.25, 4.1)}, 1e-5)
    with pytest.raises(BenchmarkError, match="hinge eager computes other outputs than stock"):
        quantizer.refuse_different({stock: same, hinge: (0.4, 10.0, 0.25, 4.0)}, 1e-5)


class _Computed(TorchDispatchMode):
    """Names of what was called."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def test_a_layer_computes_nowhere_but_on_its_device_not_even_at_first():
    places = []

    class Layer(nn.Module):
        def __init__(self, **options):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, x):
            places.append((x.device.type, self.scale.device.type))
            return x

    quantizer = Quantizer(Layer, None, has_stock=False)
    quantizer.stock("meta")
    quantizer.ours("hinge", "exact", "meta")
    assert set(places) == {("meta", "meta")}


@pytest.mark.parametrize("quantizer", QUANTIZERS)
def test_a_function_takes_no_number_to_its_device_at_a_step(quantizer):
    op = BareOp(quantizer, "hinge", "exact")
    x = torch.randn(8)
    with _Computed() as computed:
        op(x)
    assert "quantize" in computed.names
    assert not computed.names & {"lift_fresh", "_to_copy", "_local_scalar_dense", "fill_"}
