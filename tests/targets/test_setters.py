"""Target setters: finding them by name, and the targets of those that need no layer above."""

from __future__ import annotations

import pickle

import pytest
import torch

from brevitas_ftprop.targets import (
    SETTERS,
    Targets,
    TargetSetter,
    get_setter,
    register_setter,
)


@pytest.mark.parametrize("name", SETTERS)
def test_a_setter_is_found_by_its_spec_and_survives_a_pickle(name):
    setter = get_setter(name)
    assert setter.spec == name
    assert get_setter(setter) is setter
    assert pickle.loads(pickle.dumps(setter)) == setter
    assert repr(setter) == f"get_setter({name!r})"


def test_parameters_are_numbers_and_whole_where_they_count():
    setter = get_setter(" local_search ( candidates = 8 , iterations=2) ")
    assert (setter.candidates, setter.iterations) == (8, 2)
    assert setter.spec == "local_search(candidates=8, iterations=2)"
    assert get_setter("local_search(candidates=8)") != setter


def test_one_of_ones_own_takes_five_lines():
    @register_setter
    class Steady(TargetSetter):
        name = "steady"

        def choose(self, h, grad, above, generator):
            return Targets(h.sign(), grad.abs())

    try:
        h, grad = torch.tensor([1.0, -1.0]), torch.tensor([3.0, 2.0])
        assert get_setter("steady").choose(h, grad, None, None).followed.tolist() == [-3.0, 2.0]
        with pytest.raises(ValueError, match="the name 'steady' is taken"):
            register_setter(type("Other", (TargetSetter,), {"name": "steady"}))
    finally:
        del SETTERS["steady"]


@pytest.mark.parametrize(
    ("spec", "error", "sentence"),
    [
        ("nothing", ValueError, "unknown target setter 'nothing'; valid are .*local_search"),
        ("local_search(size=2)", ValueError, "no parameter 'size'; it takes candidates"),
        ("local_search(candidates=2, candidates=3)", ValueError, "sets candidates twice"),
        ("local_search(candidates)", ValueError, "write param=number"),
        ("local_search(", ValueError, "cannot read the target setter"),
        ("local_search(iterations=1.5)", ValueError, "must be a whole number"),
        (None, TypeError, "a target setter is a name"),
    ],
)
def test_a_wrong_spec_is_refused_in_one_sentence(spec, error, sentence):
    with pytest.raises(error, match=sentence):
        get_setter(spec)


@pytest.mark.parametrize("kind", [int, type("Setter", (), {"name": "a"})])
def test_only_setters_are_registered(kind):
    with pytest.raises(TypeError, match="needs a subclass of TargetSetter"):
        register_setter(kind)
    with pytest.raises(ValueError, match="needs a name that is an identifier"):
        register_setter(type("Nameless", (TargetSetter,), {"name": "no name"}))


def test_gradient_sign_and_uniform_follow_their_formulas():
    grad = torch.tensor([[2.0, -0.5, 0.0], [1e-3, 0.0, -7.0]])
    assert torch.equal(get_setter("gradient_sign").choose(None, grad, None, None).followed, grad)
    uniform = get_setter("uniform").choose(None, grad, None, None)
    assert uniform.target.tolist() == [[-1, 1, 0], [-1, 0, 1]]
    assert uniform.weight.tolist() == [[0.5, 0.5, 0], [0.5, 0, 0.5]]
