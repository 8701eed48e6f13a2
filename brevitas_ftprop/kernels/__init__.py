"""How the steps are computed; the backend :mod:`.backends.eager` is the meaning of all others."""

from .backend import BACKENDS, ENVIRONMENT_VARIABLE, choose_backend, is_compiled_chosen
from .backends.eager import Asked, Gradients, Needs, backward
from .codes import codable, code_size, error_bound, has_constant_slope
from .layout import Layout, in_layout, layout_of
from .registered_steps import ROUNDING_FUNCTIONS, Integers, PaperStaircase, Sign, Ternary
from .saved_forms import SAVED_FORMS, Keep, empty_compact, keep_of, kept_of, what_to_keep
from .step import STAIRCASE_FORMS, Operands, Step
from .step_specs import STEPS, parse_step

__all__ = [
    "BACKENDS",
    "ENVIRONMENT_VARIABLE",
    "ROUNDING_FUNCTIONS",
    "SAVED_FORMS",
    "STAIRCASE_FORMS",
    "STEPS",
    "Asked",
    "Gradients",
    "Integers",
    "Keep",
    "Layout",
    "Needs",
    "Operands",
    "PaperStaircase",
    "Sign",
    "Step",
    "Ternary",
    "backward",
    "choose_backend",
    "codable",
    "code_size",
    "empty_compact",
    "error_bound",
    "has_constant_slope",
    "in_layout",
    "is_compiled_chosen",
    "keep_of",
    "kept_of",
    "layout_of",
    "parse_step",
    "what_to_keep",
]
