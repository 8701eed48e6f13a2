"""Training by recipes: what ``train.py`` and ``compare.py`` stand on.

>>> from training import Run, load_recipe, train
"""

from .failures import TrainingError
from .recipe import Data, Loss, Optimizer, Recipe, Schedule, differences, load_recipe
from .result import Epoch, Result
from .run import Run, train

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
