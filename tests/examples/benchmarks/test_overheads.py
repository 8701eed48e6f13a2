"""The benchmark of what is paid once in its smallest form."""

from __future__ import annotations

import statistics

import overheads
import pytest

pytestmark = pytest.mark.heavy

IN_SMALL = ["--modules", "torch", "--models", "convnet8", "--repetitions", "1"]
EXPORTS = [
    ("export_qonnx of stock Brevitas", "small"),
    ("export_qonnx", "small"),
    ("export_qcdq", "small"),
]
CHECKS = [("check_deployable", "narrow"), ("check_deployable without tracing", "narrow")]


@pytest.mark.parametrize(
    ("others", "rows"),
    [
        (["--export"], []),
        pytest.param(["--export", "small"], EXPORTS, marks=pytest.mark.slow),
        pytest.param(["--export", "--check", "narrow"], CHECKS, marks=pytest.mark.slow),
    ],
    ids=["neither", "export", "check"],
)
def test_everything_takes_its_turn(record_of, others, rows):
    record = record_of(overheads, *IN_SMALL, *others)
    assert [(row["what"], row["of"]) for row in record["rows"]] == [
        ("import", "torch"),
        ("swap_quantizers", "convnet8"),
        ("restore_quantizers", "convnet8"),
        *rows,
    ]
    for row in record["rows"]:
        assert row["first_seconds"] == row["seconds"]["median"] > 0
    assert "| swap_quantizers | convnet8 |" in record["page"]


def test_the_first_time_is_kept_apart():
    order, durations = [], iter([9.0, 1.0, 2.0, 5.0, 4.0, 3.0])

    def timed(name: str):
        def call() -> float:
            order.append(name)
            return next(durations)

        return call

    first, second = overheads.measure({("import", n): timed(n) for n in "ab"}, 3)
    assert "".join(order) == "ababab"
    assert (first["first_seconds"], first["seconds"]["median"]) == (9.0, 4.0)
    assert second["seconds"]["median"] == statistics.median([1.0, 5.0, 3.0])


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (["--modules", "--models", "--export"], "nothing to time"),
        (["--modules", "--rules", "no_rule", "--models", "convnet8"], "unknown rule 'no_rule'"),
    ],
    ids=["nothing", "rule"],
)
def test_what_it_cannot_do_is_one_sentence(sentence_of, wrong, says):
    assert says in sentence_of(overheads, *wrong)
