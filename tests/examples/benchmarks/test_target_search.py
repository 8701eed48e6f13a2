"""The benchmark of target searches in its smallest form."""

from __future__ import annotations

import target_search

SMALL = ["--batch-size", "2", "--repetitions", "1", "--setters", "local_search(candidates=1)"]


def test_ratios_are_those_of_the_medians_and_no_layer_is_left(record_of):
    plain, searched = record_of(target_search, *SMALL)["rows"]
    assert (plain["setter"], plain["times_plain"]) == ("gradient_sign", {"step": 1.0, "peak": 1.0})
    assert searched["times_plain"]["step"] == searched["seconds"] / plain["seconds"]
    assert searched["left"] == {}


def test_an_unknown_setter_is_one_sentence(sentence_of):
    assert "unknown target setter 'none'" in sentence_of(target_search, "--setters", "none")
