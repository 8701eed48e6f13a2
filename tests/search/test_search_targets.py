"""The search around ordinary training: what it changes, what it leaves alone, what it refuses."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref

import pytest
import torch
from brevitas.nn import QuantReLU
from brevitas.quant import Uint8ActPerTensorFloat
from torch import nn
from torch.utils.checkpoint import checkpoint

from brevitas_ftprop import RULES, Rule, register
from brevitas_ftprop.search import search_targets
from brevitas_ftprop.search.recording import Recording
from brevitas_ftprop.targets import SETTERS, Targets, TargetSetter, register_setter
from tests.search.conftest import assert_same_bits, backward, sign
from tests.targets.layers_above import Asking

pytestmark = pytest.mark.heavy


def two_layers(width: int = 6) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(4, width), sign(), nn.Linear(width, width), sign(), nn.Linear(width, 3)
    )


def hooks_of(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


@pytest.mark.parametrize("setter", ["gradient_sign", "local_search(candidates=0)"])
def test_without_a_budget_the_gradients_are_those_of_plain_training_bit_for_bit(twins, setter):
    model, twin, x = twins
    with search_targets(model, setter):
        found = backward(model, x)
    assert_same_bits(found, backward(twin, x))


@pytest.mark.parametrize("autocast", [False, True])
def test_looking_at_every_layer_changes_no_bit(twins, follow, autocast):
    model, twin, x = twins
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        with search_targets(model, follow) as search:
            found = backward(model, x)
        assert_same_bits(found, backward(twin, x))
    served = search.report().layers
    more_levels = "it has more than two levels, and targets are −1 and +1"
    assert all(reason == more_levels for reason in search.left.values()), search.left
    assert bool(served) or len(search.left) == 20


def test_nothing_is_left_on_the_model_after_the_end_or_an_error(follow):
    model = two_layers()
    before = hooks_of(model)

    def fail():
        with search_targets(model, follow):
            assert hooks_of(model) > before
            backward(model, torch.randn(5, 4))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert hooks_of(model) == before
    assert torch._C._len_torch_dispatch_stack() == 0


def test_an_error_inside_a_quantizer_leaves_the_recording_usable(follow):
    model = two_layers()
    broken = model[1].act_quant.register_forward_hook(lambda *_: 1 / 0)
    with search_targets(model, follow) as search:
        with pytest.raises(ZeroDivisionError):
            model(torch.randn(5, 4))
        broken.remove()
        backward(model, torch.randn(5, 4))
    assert set(search.report().layers) == {"1.act_quant", "3.act_quant"}


def test_a_pass_is_freed_with_its_graph(follow):
    model = two_layers()
    with search_targets(model, follow):
        h = model[1](model[0](torch.randn(5, 4)))
        out = model[4](model[3](model[2](h)))
        out.square().sum().backward()
        gone = weakref.ref(out)
        gc.disable()
        try:
            del out, h
            assert gone() is None
        finally:
            gc.enable()


def test_every_second_pass_is_searched_and_the_others_are_plain(follow):
    model, x = two_layers(), torch.randn(5, 4)
    counts = []
    with search_targets(model, follow, every=2) as search:
        for _ in range(4):
            backward(model, x)
            counts.append(search.report().layers["1.act_quant"].chosen)
    assert counts == [30, 30, 60, 60]


def test_where_only_parts_of_the_model_are_called_each_pass_is_searched(follow):
    model, x = two_layers(), torch.randn(5, 4)
    with search_targets(model, follow, every=2) as search:
        assert str(search.report()).startswith("no targets were chosen: no gradient has come")
        for _ in range(3):
            model[3:](model[:3](x)).square().sum().backward()
    assert search.report().layers["1.act_quant"].chosen == 90


def test_measuring_moves_neither_the_turn_nor_the_random_numbers_of_the_search():
    model, x = two_layers(), torch.randn(5, 4, generator=torch.Generator().manual_seed(3))
    twin = copy.deepcopy(model)

    def loss(network):
        return network(x).square().sum()

    def three_passes(network, *, measures):
        with search_targets(network, "local_search(candidates=4)", every=2) as search:
            for _ in range(3):
                network.zero_grad()
                loss(network).backward()
                if measures:
                    assert search.measure(lambda: loss(network)).layers
        return {name: each.grad for name, each in network.named_parameters()}

    assert_same_bits(three_passes(model, measures=True), three_passes(twin, measures=False))


def test_accumulated_passes_are_each_searched_with_their_own_recording(follow):
    model, twin, x = two_layers(), two_layers(), torch.randn(6, 4)
    with search_targets(model, follow):
        losses = [model(part).square().mean() for part in x.split(3)]
        for loss in losses:
            (loss / 2).backward()
    for part in x.split(3):
        (twin(part).square().mean() / 2).backward()
    for one, other in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing_gives_the_same_gradients_and_targets_where_it_is_not_reentrant(
    follow, reentrant
):
    model, twin, x = two_layers(), two_layers(), torch.randn(5, 4, requires_grad=True)
    with search_targets(model, follow) as search:
        middle = checkpoint(model[:3], x, use_reentrant=reentrant)
        model[3:](middle).square().sum().backward()
    twin(x.detach()).square().sum().backward()
    for one, other in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)
    assert ("1.act_quant" in search.report().layers) is not reentrant


def test_where_chooses_the_layers_and_says_which_are_left(follow):
    model = two_layers()
    with search_targets(model, follow, where=lambda name, proxy: name == "3.act_quant") as search:
        backward(model, torch.randn(5, 4))
    assert set(search.report().layers) == {"3.act_quant"}
    assert search.left == {"1.act_quant": "where leaves it out"}


def test_the_same_seed_gives_the_same_targets_and_training_draws_the_same_numbers():
    found = []
    for _ in range(2):
        model, x = two_layers(), torch.randn(5, 4, generator=torch.Generator().manual_seed(3))
        with search_targets(model, "local_search(candidates=4)", seed=5):
            found.append(backward(model, x) | {"random": torch.rand(1)})
    assert_same_bits(found[0], found[1])
    plain = two_layers()
    backward(plain, x)
    assert torch.equal(found[0]["random"], torch.rand(1))


@pytest.mark.parametrize(
    ("between", "reason"),
    [
        (lambda x: x.roll(1, 0), "rows of the batch depend on one another"),
        (lambda x: torch.bernoulli(x.sigmoid()) + x, "aten.bernoulli draws random numbers"),
        (lambda x: Twice.apply(x) + x, "its gradient is not that of what was recorded behind it"),
        (lambda x: Twice.apply(x), "its gradient is not that of what was recorded behind it"),
    ],
)
def test_a_layer_that_cannot_be_computed_again_keeps_its_gradient_and_is_named(
    between, reason, follow
):
    model, twin, x = two_layers(), two_layers(), torch.randn(5, 4)

    def loss(model):
        torch.manual_seed(2)
        return model[2:](between(model[1](model[0](x)))).square().sum()

    with search_targets(model, follow) as search:
        loss(model).backward()
    loss(twin).backward()
    assert search.left["1.act_quant"].startswith(reason)
    assert "3.act_quant" in search.report().layers
    for one, other in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)


class Twice(torch.autograd.Function):
    """Of one's own: the recording does not see what it computes."""

    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, grad):
        return 2 * grad


def test_a_rule_without_a_loss_leaves_the_layer_below_and_is_named(follow):
    @register
    class SlopeOnly(Rule):
        name = "slope_only"

        def slope(self, m):
            return 1 / (1 + m * m)

    model = two_layers()
    model[3].act_quant.rule = "slope_only"
    try:
        with search_targets(model, follow) as search:
            backward(model, torch.randn(5, 4))
    finally:
        del RULES["slope_only"]
    assert set(search.report().layers) == {"3.act_quant"}
    assert search.left == {"1.act_quant": "the rule slope_only of 3.act_quant above it has no loss"}


def test_a_gradient_that_is_not_finite_is_passed_on_and_named(follow):
    model = two_layers()
    with search_targets(model, follow) as search:
        (model(torch.randn(5, 4)).sum() * torch.inf).backward()
    assert search.left["3.act_quant"] == "its gradient was not finite"


def test_a_quantizer_of_more_levels_is_part_of_the_layer_above_and_left():
    model = nn.Sequential(
        nn.Linear(4, 5),
        sign(),
        nn.Linear(5, 5),
        QuantReLU(act_quant=Uint8ActPerTensorFloat, max_val=1.0, scaling_impl_type="const"),
        nn.Linear(5, 3),
    )
    with search_targets(model, "local_search(candidates=2)") as search:
        backward(model, torch.randn(6, 4))
    assert set(search.report().layers) == {"1.act_quant"}
    assert set(search.left) == {"3.act_quant"}


def test_what_a_user_computes_of_the_outputs_beside_the_loss_is_no_loss(follow):
    model = two_layers()
    with search_targets(model, follow) as search:
        out = model(torch.randn(5, 4))
        accuracy = (out.argmax(1) == 1).float().mean()
        beside = out.square().mean()
        nn.functional.cross_entropy(out, torch.ones(5, dtype=torch.long)).backward()
    assert accuracy >= 0
    assert beside >= 0
    assert search.left == {}


def test_a_copy_or_file_of_a_searched_model_is_not_searched(follow):
    model = two_layers()
    with search_targets(model, follow) as search:
        twin = copy.deepcopy(model)
        pickle.dumps(list(model[1].act_quant._forward_hooks.values()))
        backward(twin, torch.randn(5, 4))
        assert search.report().layers == {}


def test_a_setter_whose_targets_have_another_shape_raises_in_the_backward_pass():
    @register_setter
    class Wrong(TargetSetter):
        name = "wrong"

        def choose(self, h, grad, above, generator):
            return Targets(grad.sign()[0], grad.abs())

    model = two_layers()
    try:
        with (
            search_targets(model, "wrong"),
            pytest.raises(ValueError, match=r"get_setter\('wrong'\)|wrong must give a target"),
        ):
            backward(model, torch.randn(5, 4))
    finally:
        del SETTERS["wrong"]


@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        ((nn.Linear(2, 2), "uniform"), ValueError, "Linear has no activation quantizers"),
        ((print, "uniform"), TypeError, "expected a torch.nn.Module"),
        ((sign(), "unknown"), ValueError, "unknown target setter 'unknown'; valid are"),
        ((sign(), "local_search(candidate=3)"), ValueError, "it takes candidates, iterations"),
        ((sign(), "local_search(candidates=0.5)"), ValueError, "must be a whole number, not 0.5"),
        ((sign(), "local_search(candidates=-1)"), ValueError, "must lie in"),
        ((sign(), 3), TypeError, "a target setter is a name such as"),
    ],
)
def test_bad_arguments_are_refused_in_one_sentence(arguments, error, sentence):
    with pytest.raises(error, match=sentence):
        search_targets(*arguments)


def test_one_model_is_searched_once_at_a_time(follow):
    model = two_layers()
    with search_targets(model, follow), pytest.raises(ValueError, match="is searched already"):
        search_targets(model, follow).__enter__()
    with pytest.raises(ValueError, match="every must be a positive integer, not 0"):
        search_targets(model, follow, every=0)


def rank_of_two(rank, folder):
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2
    )
    x = torch.randn(5, 4, generator=torch.Generator().manual_seed(rank))
    found = {}
    for setter in ("gradient_sign", "local_search(candidates=2)"):
        model = two_layers()
        wrapped = nn.parallel.DistributedDataParallel(model)
        with search_targets(wrapped, setter) as search:
            wrapped(x).square().sum().backward()
        chosen = {name: layer.chosen for name, layer in search.report().layers.items()}
        found[setter] = [p.grad for p in model.parameters()], chosen
    torch.save(found, folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


# A process that has differentiated must not be forked, and a new one imports torch for seconds.
@pytest.mark.slow
def test_two_ranks_search_their_own_rows_and_end_with_the_same_gradients(tmp_path):
    torch.multiprocessing.start_processes(rank_of_two, (tmp_path,), nprocs=2, start_method="spawn")
    one, other = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    for setter, (grads, chosen) in one.items():
        assert all(torch.equal(a, b) for a, b in zip(grads, other[setter][0], strict=True))
        assert chosen == other[setter][1]
    twins = [two_layers(), two_layers()]
    for rank, model in enumerate(twins):
        x = torch.randn(5, 4, generator=torch.Generator().manual_seed(rank))
        model(x).square().sum().backward()
    mean = [(a.grad + b.grad) / 2 for a, b in zip(*(m.parameters() for m in twins), strict=True)]
    for found, expected in zip(one["gradient_sign"][0], mean, strict=True):
        torch.testing.assert_close(found, expected)
    chosen = {"module.1.act_quant": 30, "module.3.act_quant": 30}
    assert one["local_search(candidates=2)"][1] == chosen


def test_measuring_tells_falls_and_leaves_the_model_as_it_was():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(4, 16), nn.BatchNorm1d(16), sign(), nn.Dropout(0.3), nn.Linear(16, 3)
    )
    x, labels = torch.randn(20, 4), torch.randint(3, (20,))
    backward(model, x[:7])
    state = copy.deepcopy(model.state_dict())
    grads = [p.grad.clone() for p in model.parameters()]
    random = torch.get_rng_state()
    with search_targets(model, "local_search(candidates=8)") as search:
        report = search.measure(lambda: nn.functional.cross_entropy(model(x), labels))
    assert_same_bits(model.state_dict(), state)
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), grads, strict=True))
    assert torch.equal(torch.get_rng_state(), random)
    layer = report.layers["2.act_quant"]
    assert layer.default_fall > 0
    assert "loss above falls by" in str(report)
    with pytest.raises(RuntimeError, match="nothing is searched"):
        search.measure(lambda: model(x).sum())


def test_the_measured_fall_of_a_step_is_that_of_the_loss_of_a_network_of_one_layer():
    torch.manual_seed(0)
    first, top = nn.Linear(4, 8), nn.Linear(8, 3)
    model, x, labels = nn.Sequential(first, sign(), top), torch.randn(20, 4), torch.arange(20) % 3

    def loss(model):
        return nn.functional.cross_entropy(model(x), labels)

    with search_targets(model, "uniform") as search:
        report = search.measure(lambda: loss(model), step=0.1)
    stepped = copy.deepcopy(model)
    loss(stepped).backward()
    with torch.no_grad():
        for parameter in stepped[0].parameters():
            parameter -= 0.1 * parameter.norm() / parameter.grad.norm() * parameter.grad
        fall = loss(model) - loss(stepped)
    assert report.layers["1.act_quant"].default_fall == pytest.approx(float(fall), abs=1e-6)


def flip_changes_of(answers):
    """A setter that notes the exact changes of all single flips, and keeps −sign(g)."""
    setter = Asking()
    object.__setattr__(setter, "answers", answers)
    object.__setattr__(
        setter,
        "question",
        lambda above, h, grad: (
            h.clone(),
            above.flip_changes(h, torch.arange(h.numel()), memory=2**20),
        ),
    )
    return setter


def assert_are_changes_of(loss, h, changes):
    for unit, change in enumerate(changes):
        other = h.clone().flatten()
        other[unit] = -other[unit]
        torch.testing.assert_close(change, loss(other.view(h.shape)) - loss(h))


@pytest.mark.parametrize("alive", ["one graph", "a graph a pass"])
def test_of_several_losses_each_backward_pass_is_searched_for_its_own(alive):
    torch.manual_seed(0)
    act, labels = sign().double(), torch.arange(6) % 3
    heads = [nn.Linear(5, 3, dtype=torch.float64) for _ in range(2)]
    x = torch.randn(6, 5, dtype=torch.float64, requires_grad=True)

    def loss(h, which):
        return nn.functional.cross_entropy(heads[which](h), labels)

    answers = []
    with search_targets(act, flip_changes_of(answers)) as search:
        losses = [loss(h, which) for h in [act(x)] for which in range(2)]
        for which in range(2):
            if alive == "a graph a pass":
                h = act(x)
                losses = [loss(h, each) for each in range(2)]
            losses[which].backward(retain_graph=True)
    assert search.left == {}
    for which, (h, changes) in enumerate(answers):
        assert_are_changes_of(lambda h, which=which: loss(h, which), h, changes)


def test_a_quantizer_that_another_backward_pass_came_by_is_not_above():
    torch.manual_seed(0)
    act, labels = sign(), torch.arange(6) % 3
    heads = [nn.Sequential(nn.Linear(5, 4), sign(), nn.Linear(4, 3)) for _ in range(2)]
    model, x = nn.ModuleList([act, *heads]), torch.randn(6, 5, requires_grad=True)
    found = []
    for both in (True, False):
        answers = []
        with search_targets(model, flip_changes_of(answers)):
            h = act(x)
            losses = [nn.functional.cross_entropy(head(h), labels) for head in heads]
            if both:
                losses[0].backward(retain_graph=True)
            losses[1].backward()
        found.append(answers[-1][1])
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("rows", [2, 5])
def test_a_stack_of_losses_leaves_the_layer_by_name_whatever_the_batch_is(rows, follow):
    model = two_layers()
    with search_targets(model, follow) as search:
        out = model(torch.randn(rows, 4))
        torch.stack([out.square().mean(), out.exp().mean()]).sum().backward()
    assert "no sum over the batch's rows" in search.left["3.act_quant"]
    assert set(search.report().layers) == {"1.act_quant"}


def test_a_gradient_that_is_multiplied_from_a_later_pass_on_leaves_the_layer_by_name(follow):
    model, x = two_layers(), torch.randn(5, 4)
    with search_targets(model, follow) as search:
        model(x).square().mean().backward()
        assert search.left == {}
        model(x).square().mean().backward(gradient=torch.tensor(2.0))
    assert search.left["3.act_quant"].startswith("its gradient is not that of what was recorded")


@pytest.mark.parametrize("setter", ["exact_flip", "curvature", "local_search(candidates=2)"])
def test_an_output_that_is_overwritten_in_place_leaves_the_layer_by_name(setter):
    act, top = sign(), nn.Linear(5, 3)
    x = torch.randn(4, 5, requires_grad=True)
    with search_targets(act, setter) as search:
        top(nn.functional.relu(act(x), inplace=True)).square().sum().backward()
    assert search.left == {"act_quant": "its output is overwritten in place"}


@pytest.mark.parametrize("setter", ["exact_flip", "curvature", "local_search(candidates=2)"])
def test_an_empty_batch_is_passed_on(setter):
    model = two_layers()
    with search_targets(model, setter):
        model(torch.randn(0, 4)).square().sum().backward()
    assert not model[0].weight.grad.any()


def test_entering_a_search_once_more_leaves_it_as_it_is(follow):
    model = two_layers()
    with search_targets(model, follow) as search:
        with pytest.raises(ValueError, match="is searched already"):
            search.__enter__()
        backward(model, torch.randn(5, 4))
    assert set(search.report().layers) == {"1.act_quant", "3.act_quant"}
    assert hooks_of(model) == 0


def test_a_search_may_end_while_recordings_pause(follow):
    model = two_layers()
    search = search_targets(model, follow)
    search.__enter__()
    with Recording.paused():
        search.__exit__(None, None, None)
    assert hooks_of(model) == 0
    assert Recording._under_way == []


@pytest.mark.parametrize(
    ("given", "error", "sentence"),
    [
        (lambda g: (g, g.abs()), TypeError, r"must give Targets\(target, weight\), not tuple"),
        (lambda g: Targets(g > 0, g.abs()), ValueError, "a target of real numbers, not of torch.b"),
        (lambda g: Targets(g * torch.nan, g.abs()), ValueError, "that are not finite"),
        (
            lambda g: Targets(g.sign().to("meta"), g.abs()),
            ValueError,
            "a target of shape .* on cpu",
        ),
    ],
)
def test_what_a_setter_gives_is_refused_in_one_sentence(given, error, sentence):
    class Odd(TargetSetter):
        name = "odd"

        def choose(self, h, grad, above, generator):
            return given(grad)

    model = two_layers()
    with search_targets(model, Odd()), pytest.raises(error, match=sentence):
        backward(model, torch.randn(5, 4))
