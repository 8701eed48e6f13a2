"""Training by recipes: what ``train.py`` and ``compare.py`` stand on.

>>> from training import Run, load_recipe, train
"""

# Before Brevitas.
from brevitas_ftprop import quiet_imports as quiet_imports

# isort: split
from .failures import TrainingError
from .recipe import Recipe, differences, load_recipe
from .result import Epoch, Result
from .run import train
from .sections import Data, Loss, Optimizer, Schedule
from .trainer import Run

__all__ = [
    "Data",
    "Epoch",
    "Loss",
    "Optimizer",
    "Recipe",
    "Result",
    "Run",
    "Schedule",
    "TrainingError",
    "differences",
    "load_recipe",
    "train",
]
