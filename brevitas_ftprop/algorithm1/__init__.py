"""FTPROP, Algorithm 1 of Friesen & Domingos, as a scikit-learn classifier.

Its name is imported when it is asked for, with scikit-learn and SciPy, which it needs.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .classifier import FTPROPClassifier

__all__ = ["FTPROPClassifier"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        import sklearn  # noqa: F401 - only whether it is there
    except ImportError as error:
        raise ImportError(
            f"{name} needs scikit-learn and SciPy: pip install 'brevitas-ftprop[algorithm1]'"
        ) from error
    return getattr(import_module(".classifier", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
