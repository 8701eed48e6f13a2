"""Target rules: what a unit's loss is as a function of its margin, and the registry of rules."""

from ..specs import bounded, positive
from .hinge import Hinge, TruncatedHinge
from .log_hinge import LogHinge, TruncatedLogHinge
from .logistic import Logistic, LogSigmoid, TruncatedLogistic
from .perceptron import Perceptron, TruncatedPerceptron
from .piecewise_linear import ApproxSign, Ramp
from .registry import RULES, get_rule, register
from .rule import Rule
from .saturate import saturate
from .scheduled import Ede, Reste
from .sigmoidal import LecunTanh, Sigmoid, SoftHinge, SwishSign
from .squared import Adaline, Square, SquaredHinge, TruncatedSquare, TruncatedSquaredHinge
from .straight_through import SaturatedSte, Ste

__all__ = [
    "RULES",
    "Adaline",
    "ApproxSign",
    "Ede",
    "Hinge",
    "LecunTanh",
    "LogHinge",
    "LogSigmoid",
    "Logistic",
    "Perceptron",
    "Ramp",
    "Reste",
    "Rule",
    "SaturatedSte",
    "Sigmoid",
    "SoftHinge",
    "Square",
    "SquaredHinge",
    "Ste",
    "SwishSign",
    "TruncatedHinge",
    "TruncatedLogHinge",
    "TruncatedLogistic",
    "TruncatedPerceptron",
    "TruncatedSquare",
    "TruncatedSquaredHinge",
    "bounded",
    "get_rule",
    "positive",
    "register",
    "saturate",
]
