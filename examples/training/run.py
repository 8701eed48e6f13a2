"""Train a recipe into a folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lightning.pytorch.callbacks import Callback

from .recipe import Recipe
from .result import Result

__all__ = ["Run", "train"]


@dataclass(frozen=True, kw_only=True)
class Run:
    """How a recipe is carried out; nothing here changes what it computes on one device.

    Args:
        accelerator, devices, strategy: as for Lightning's ``Trainer``.
        workers: processes that decode ImageNet's images.
        checkpoint_every: steps between checkpoints within an epoch; None for one an epoch.
        finite_every: steps between looks at whether the loss is finite; more than 1 keeps a fast
            GPU from waiting, but then only tells of a NaN after it has spread.
        threads: of torch on the CPU; None leaves its own choice.
        progress: whether to show a progress bar.
        log: whether to write TensorBoard and CSV logs.
        resume: go on from the folder's last complete checkpoint.
        fast_dev_run: two small batches of everything, to see that all works; nothing is kept.
    """

    accelerator: str = "auto"
    devices: int | str | Sequence[int] = 1
    strategy: str = "auto"
    workers: int = 4
    checkpoint_every: int | None = None
    finite_every: int = 1
    threads: int | None = None
    progress: bool = True
    log: bool = True
    resume: bool = False
    fast_dev_run: bool = False


def train(
    recipe: Recipe,
    out: str | Path,
    run: Run | None = None,
    *,
    callbacks: Sequence[Callback] = (),
) -> Result:
    """Train a recipe, and write its result and weights.

    ``out`` then holds ``result.json`` (see :class:`Result`), ``weights.pt`` (the network's state
    dict), ``recipe.yaml``, ``checkpoints/`` and the logs.

    Args:
        recipe: what to train; its ``seed`` fixes the first weights and the order of the images.
        out: folder of this run alone.
        run: how, by default on one device.
        callbacks: more of Lightning's, such as a monitor.

    Returns:
        The result; of a run that is complete already, with ``resume``, the one that it left.

    Raises:
        TrainingError: if the folder is in use or holds another recipe's run, the data and the model
            do not fit, the loss is not finite, or a batch does not fit into memory.
        ValueError, TypeError: for a recipe that names something unknown.
        OSError: if the data are not there.
    """
    raise NotImplementedError
