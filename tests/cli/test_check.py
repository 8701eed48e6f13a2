"""Findings are listed for each target, and end with another exit code than none."""

from __future__ import annotations

import json

import pytest

from tests.cli.commands import told

pytest.importorskip("typer.testing", reason="needs the extra 'cli'")


def test_a_model_that_maps_has_no_findings_and_ends_with_0(run):
    result = run("check", "cli_nets:tiny", "good.pt", "--input-shape", "1,3,8,8", "--no-dynamo")
    assert result.exit_code == 0
    assert result.stdout == "finn: no findings\n"


@pytest.mark.parametrize("target", ["finn", "hls4ml"])
def test_findings_are_listed_with_reason_and_remedy_and_end_with_1(run, target):
    arguments = ("cli_nets:unquantized_input", "--input-shape", "1,4", "--target", target)
    result = run("check", *arguments, "--no-dynamo")
    assert result.exit_code == 1
    assert "why: " in result.stdout
    assert "fix: " in result.stdout
    result = run("check", *arguments, "--no-dynamo", "--json")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert (found["ok"], found["target"]) == (False, target)
    errors = [finding for finding in found["findings"] if finding["severity"] == "error"]
    assert errors
    for finding in errors:
        assert all(finding[key] for key in ("layer", "requirement", "message", "why", "fix"))


def test_a_model_without_a_checkpoint_is_checked_and_the_first_line_says_so(run):
    arguments = ("check", "cli_nets:tiny", "--input-shape", "1,3,8,8", "--no-dynamo")
    first, *_ = run(*arguments).stdout.splitlines()
    assert first.startswith("untrained: no checkpoint was given")
    assert json.loads(run(*arguments, "--json").stdout)["untrained"] is True


def test_a_model_is_checked_for_the_images_asked_for(run):
    arguments = ("cli_nets:unquantized_input", "--input-shape", "1,4", "--no-dynamo")
    asked = ("--images", "uint8", "--pixels")
    assert "pixel-input" in run("check", *arguments, *asked, "x/127.5 - 1").stdout
    assert run("check", *arguments, *asked, "x").stdout.endswith("\nfinn: no findings\n")
    assert run("check", *arguments, "--images", "BIPOLAR").exit_code == 0
    told_all = told(run("check", *arguments, "--images", "int9"))
    assert "INT2, INT3, INT4, INT5, INT6, INT7, INT8, UINT2" in told_all


def test_what_cannot_be_checked_is_told(run):
    result = run("check", "cli_nets:small", "evil.pt", "--input-shape", "1,4")
    assert result.exit_code == 2
    assert "holds pickled Python objects" in told(result)
