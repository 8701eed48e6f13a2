"""Target rules: what a unit's loss is as a function of its margin, and the registry of rules."""

from .hinge import Hinge, TruncatedHinge
from .log_hinge import LogHinge, TruncatedLogHinge
from .logistic import Logistic, LogSigmoid, TruncatedLogistic
from .perceptron import Perceptron, TruncatedPerceptron
from .piecewise_linear import ApproxSign, Ramp
from .registry import RULES, get_rule, register
from .rule import Rule, positive
from .saturate import saturate
from .sigmoidal import LecunTanh, Sigmoid, SoftHinge
from .squared import Adaline, Square, SquaredHinge, TruncatedSquare, TruncatedSquaredHinge
from .straight_through import SaturatedSte, Ste

__all__ = [
    "RULES",
    "Adaline",
    "ApproxSign",
    "Hinge",
    "LecunTanh",
    "LogHinge",
    "LogSigmoid",
    "Logistic",
    "Perceptron",
    "Ramp",
    "Rule",
    "SaturatedSte",
    "Sigmoid",
    "SoftHinge",
    "Square",
    "SquaredHinge",
    "Ste",
    "TruncatedHinge",
    "TruncatedLogHinge",
    "TruncatedLogistic",
    "TruncatedPerceptron",
    "TruncatedSquare",
    "TruncatedSquaredHinge",
    "get_rule",
    "positive",
    "register",
    "saturate",
]
