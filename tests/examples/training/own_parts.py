"""What a user's own modules of rules and target setters hold."""

RULES = """
import torch
from brevitas_ftprop.rules import Rule, register
from brevitas_ftprop.targets import TargetSetter, register_setter


@register
class Laplace(Rule):
    name = "laplace"
    width: float = 1.0

    def slope(self, m):
        return torch.exp(-m.abs() / self.width)


@register_setter
class Follow(TargetSetter):
    name = "follow"


class Forgotten(Rule):
    name = "forgotten"
"""
