"""Checkpoints fit stock and converted models alike, and training goes on from them."""

import subprocess
import sys
import textwrap

import pytest
import torch

from brevitas_ftprop import restore_quantizers, swap_quantizers
from tests.convert import mixed_network
from tests.convert.mixed_network import (
    TARGET_PROP,
    adam,
    batch,
    mixed,
    proxies,
    same_values,
    swap_to_stock_rules,
    train,
)

pytestmark = pytest.mark.heavy


def test_checkpoints_move_both_ways_between_stock_and_converted():
    model, twin = mixed(), mixed(warm=1)
    swap_quantizers(model, "hinge", weights=True)
    train(model, adam(model), 0, 3)
    twin.load_state_dict(model.state_dict(), strict=True)
    assert torch.equal(model.eval()(batch(5)), twin.eval()(batch(5)))
    model.train(), twin.train()
    train(twin, adam(twin), 0, 3)
    model.load_state_dict(twin.state_dict(), strict=True)
    assert torch.equal(model.eval()(batch(5)), twin.eval()(batch(5)))
    assert {p.rule for p in proxies(model, TARGET_PROP)} == {"hinge"}


def test_after_loading_a_checkpoint_training_still_equals_stock():
    model, twin, source = mixed(), mixed(), mixed(warm=7)
    swap_to_stock_rules(model)
    for loading in (model, twin):
        loading.load_state_dict(source.state_dict(), strict=True)
    flags = {name: module.training for name, module in model.named_modules()}
    assert all(flags[name] == m.training for name, m in twin.named_modules() if name in flags)
    ours, theirs = train(model, adam(model), 0, 5), train(twin, adam(twin), 0, 5)
    assert all(torch.equal(*pair) for pair in zip(ours, theirs, strict=True))
    same_values(model.state_dict(), twin.state_dict())


def test_restoring_after_loading_a_checkpoint_equals_stock():
    model, twin, source = mixed(), mixed(), mixed(warm=7)
    swap_quantizers(model, weights=True)
    for loading in (model, twin):
        loading.load_state_dict(source.state_dict(), strict=True)
    restore_quantizers(model)
    ours, theirs = train(model, adam(model), 0, 5), train(twin, adam(twin), 0, 5)
    assert all(torch.equal(*pair) for pair in zip(ours, theirs, strict=True))
    model.load_state_dict(source.state_dict(), strict=True)
    assert not proxies(model, TARGET_PROP)


def test_fresh_checkpoints_without_statistics_load_like_stock():
    model, twin = mixed(warm=0), mixed(warm=0)
    swap_quantizers(model, weights=True)
    assert list(model.state_dict()) == list(twin.state_dict())
    missing = [
        str(loading.load_state_dict(mixed(warm=0).state_dict(), strict=False))
        for loading in (model, twin)
    ]
    assert missing[0] == missing[1]


@pytest.mark.parametrize("weights", [pytest.param(False, marks=pytest.mark.slow), True])
def test_restore_after_training_and_reloading_in_a_new_process(tmp_path, weights):
    model = mixed()
    swap_quantizers(model, "hinge", weights=weights)
    train(model, adam(model), 0, 3)
    torch.save(model.state_dict(), tmp_path / "state.pt")
    restore_quantizers(model)
    torch.save(model.eval()(batch(5)).detach(), tmp_path / "expected.pt")
    script = f"""
        import importlib.util, torch
        from brevitas_ftprop import restore_quantizers, swap_quantizers
        spec = importlib.util.spec_from_file_location("tests", {mixed_network.__file__!r})
        tests = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(tests)
        torch.set_num_threads(1)
        model = tests.mixed(warm=1)
        swap_quantizers(model, "soft_hinge", weights={weights})
        model.load_state_dict(torch.load("state.pt"), strict=True)
        restore_quantizers(model)
        assert not tests.proxies(model, tests.TARGET_PROP)
        stock = tests.mixed(warm=1)
        stock.load_state_dict(torch.load("state.pt"), strict=True)
        x, expected = tests.batch(5), torch.load("expected.pt")
        assert torch.equal(model.eval()(x), expected)
        assert torch.equal(stock.eval()(x), expected)
        """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
