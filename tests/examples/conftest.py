"""Examples are scripts beside each other: what one imports lies in its folder."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
# The package of the training, and the networks that recipes of tests name.
sys.path[:0] = [str(HERE.parents[1] / "examples"), str(HERE / "training")]
