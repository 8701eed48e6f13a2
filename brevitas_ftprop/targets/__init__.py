"""Which target each unit gets and how much its loss counts."""

from .curvature import Curvature
from .exact_flip import ExactFlip
from .gradient_sign import GradientSign, Uniform
from .local_search import LocalSearch
from .setter import Above, Targets, TargetSetter
from .setters import SETTERS, get_setter, register_setter
from .sign import WEIGHTINGS, check_weighting, sign_target, weighted_sign

__all__ = [
    "SETTERS",
    "WEIGHTINGS",
    "Above",
    "Curvature",
    "ExactFlip",
    "GradientSign",
    "LocalSearch",
    "TargetSetter",
    "Targets",
    "Uniform",
    "check_weighting",
    "get_setter",
    "register_setter",
    "sign_target",
    "weighted_sign",
]
