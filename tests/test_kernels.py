"""The eager kernels against autograd of the rules' losses, and their use of memory."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from brevitas_ftprop import RULES, Rule
from brevitas_ftprop.kernels import clip_margin, staircase_gradient, unit_gradient

RULE_CLASSES = list(RULES.values())
WITH_LOSS = [rule for rule in RULE_CLASSES if rule().has_loss]
TOLERANCE = {"rtol": 1e-9, "atol": 1e-12}  # float64


def away_from_kinks(z: torch.Tensor, rule: Rule) -> torch.Tensor:
    """Values whose margin is no kink, whichever the target's sign."""
    for kink in rule.kinks:
        z = z[((z - kink).abs() > 1e-6) & ((z + kink).abs() > 1e-6)]
    return z


def gradient_of_layer_loss(z, grad, rule, weighting):
    """``∂/∂z Σ_i w_i·l(t_i·z_i)`` by autograd, targets and weights held fixed."""
    z = z.detach().clone().requires_grad_()
    target = torch.where(grad > 0, -1.0, torch.where(grad < 0, 1.0, 0.0)).to(z.dtype)
    weight = grad.abs() if weighting == "grad" else torch.full_like(z, 1 / z.shape[0])
    loss = (weight * rule.loss(target * z))[target != 0].sum()
    return torch.autograd.grad(loss, z)[0]


@pytest.mark.parametrize("weighting", ["grad", "mean"])
@pytest.mark.parametrize("rule", WITH_LOSS, ids=lambda rule: rule.name)
def test_unit_gradient_is_autograd_of_the_layer_loss(rule, weighting):
    rule = rule()
    z = away_from_kinks(torch.linspace(-4, 4, 801, dtype=torch.float64) + 1e-4, rule)
    grad = torch.randn_like(z)
    grad[::7] = 0
    expected = gradient_of_layer_loss(z, grad, rule, weighting)
    torch.testing.assert_close(unit_gradient(grad, z, rule, weighting), expected, **TOLERANCE)


@pytest.mark.parametrize("weighting", ["grad", "mean"])
@pytest.mark.parametrize("rule", RULE_CLASSES, ids=lambda rule: rule.name)
def test_a_unit_without_gradient_is_ignored(rule, weighting):
    z = torch.tensor([-9.0, -1.0, -0.0, 0.0, 0.5, 1.0, 9.0])
    assert not unit_gradient(torch.zeros(7), z, rule(), weighting).any()


@pytest.mark.parametrize("rule", RULE_CLASSES, ids=lambda rule: rule.name)
def test_mirrored_units_get_mirrored_gradients(rule):
    z = torch.linspace(-3, 3, 97)
    grad = torch.randn(97)
    gradient = unit_gradient(grad, z, rule(), "grad")
    assert torch.equal(unit_gradient(-grad, -z, rule(), "grad"), -gradient)


@pytest.mark.parametrize("rule", RULE_CLASSES, ids=lambda rule: rule.name)
def test_staircase_gradient_is_the_sum_over_its_thresholds(rule):
    rule = rule()
    v = torch.linspace(-3, 6, 91, dtype=torch.float64) + 1e-3
    grad = torch.randn_like(v)
    thresholds = [0.5, 1.5, 2.5]
    target = -torch.sign(grad)
    slopes = torch.stack([rule.slope(target * (v - threshold)) for threshold in thresholds])
    expected = 0.25 * grad * slopes.sum(0)
    gradient = staircase_gradient(grad, v, thresholds, 0.25, rule, "grad")
    torch.testing.assert_close(gradient, expected, **TOLERANCE)


class LargestTensor(TorchDispatchMode):
    """Records the size of the largest tensor made, and how many bytes are alive at most."""

    def __init__(self):
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor):
            self.numel = max(self.numel, out.numel())
        return out


def test_memory_of_a_staircase_does_not_grow_with_its_thresholds():
    v, grad = torch.randn(100), torch.randn(100)
    with LargestTensor() as largest:
        staircase_gradient(
            grad, v, [k + 0.5 for k in range(255)], 0.5, RULES["soft_hinge"](), "grad"
        )
    assert largest.numel == 100


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_clip_margin_follows_the_flags_and_not_the_formula(dtype):
    u = torch.tensor([-5, -1, -0.5, 0, 0.5, 1, 5], dtype=dtype).repeat(3)
    below, above = torch.zeros(21, dtype=torch.bool), torch.zeros(21, dtype=torch.bool)
    below[:7], above[7:14] = True, True
    clipped = clip_margin(u, below, above)
    assert clipped.dtype is dtype
    assert (clipped[:7] < -1).all()
    assert (clipped[7:14] > 1).all()
    assert (clipped[14:].abs() <= 1).all()
    assert clipped[0] == -5
    assert clipped[13] == 5
    assert clipped[16:19].tolist() == [-0.5, 0, 0.5]
