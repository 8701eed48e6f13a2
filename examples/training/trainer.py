"""Lightning's trainer, set up for a recipe and for how it is carried out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from brevitas_ftprop.monitor.callback import MonitorCallback

from .checkpoint import AtomicCheckpointIO, RecipeInCheckpoint, checkpoint_callbacks
from .curve import Curve
from .ema import QuantizerAwareEMA
from .failures import TrainingError
from .folder import RunFolder
from .progress import Progress
from .recipe import Recipe
from .sections import refuse_below
from .sync import AverageStatistics

PRECISIONS = {"32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}
# What torchrun and Slurm tell a process of its place among all.
STARTERS = {"TORCHELASTIC_RUN_ID", "SLURM_PROCID"}
# Of each device in a fast run.
FAST_BATCHES = 2


@dataclass(frozen=True, kw_only=True)
class Run:
    """How a recipe is carried out; nothing here changes what it computes on one device.

    Args:
        accelerator, devices, strategy: as for Lightning's ``Trainer``.
        num_nodes: machines that train together, each with ``devices``, started by ``torchrun`` or
            Slurm's ``srun`` on a folder that all of them see.
        workers: processes that decode ImageNet's images; they live as long as the run.
        prefetch: batches that each of them decodes ahead.
        checkpoint_every: steps between checkpoints within an epoch; None for one an epoch.
        finite_every: steps between looks at whether the loss is finite; more than 1 keeps a fast
            GPU from waiting, but then only tells of a NaN after it has spread. None for 100 on
            CUDA and 1 elsewhere.
        threads: of torch on the CPU; None leaves its own choice.
        progress: whether to show a progress bar.
        log: whether to write TensorBoard and CSV logs.
        monitor: steps between samples of the quantizers' targets, margins and gradients, which go
            into the logs; None for none.
        resume: go on from the folder's last complete checkpoint.
        fast_dev_run: two small batches of everything, to see that all works; nothing is kept.
    """

    accelerator: str = "auto"
    devices: int | str | Sequence[int] = 1
    strategy: str = "auto"
    num_nodes: int = 1
    workers: int = 4
    prefetch: int = 2
    checkpoint_every: int | None = None
    finite_every: int | None = None
    threads: int | None = None
    progress: bool = True
    log: bool = True
    monitor: int | None = None
    resume: bool = False
    fast_dev_run: bool = False

    def __post_init__(self) -> None:
        refuse_below(
            1,
            num_nodes=self.num_nodes,
            checkpoint_every=self.checkpoint_every,
            finite_every=self.finite_every,
            prefetch=self.prefetch,
            threads=self.threads,
            monitor=self.monitor,
        )
        refuse_below(0, workers=self.workers)


def build_trainer(
    recipe: Recipe, folder: RunFolder, run: Run, callbacks: Sequence[Callback], curve: Curve
) -> lightning.Trainer:
    """Lightning's trainer for a recipe; callbacks come first the ones given, then the curve.

    Raises:
        TrainingError: for an accelerator, devices or a strategy that are not there, and for several
            nodes without what starts them.
    """
    if run.num_nodes > 1 and not STARTERS & os.environ.keys():
        raise TrainingError(
            f"num_nodes {run.num_nodes} needs a start on each node that says which one it is: "
            f"torchrun --nnodes {run.num_nodes} … or srun"
        )
    # First of all, so that the average of the weights is one of averaged statistics.
    callbacks = [AverageStatistics(), *callbacks, curve]
    if recipe.ema is not None:
        callbacks.append(QuantizerAwareEMA(decay=recipe.ema))
    loggers: Any = False
    if not run.fast_dev_run:
        callbacks.append(RecipeInCheckpoint(recipe))
        callbacks += checkpoint_callbacks(folder.checkpoints, run.checkpoint_every)
        if run.log:
            loggers = [CSVLogger(folder.path, "csv"), TensorBoardLogger(folder.path, "tensorboard")]
    if run.monitor is not None:
        callbacks.append(MonitorCallback(every=run.monitor))
    if run.progress:
        callbacks.append(Progress(curve))
    try:
        return lightning.Trainer(
            accelerator=run.accelerator,
            devices=run.devices,
            strategy=run.strategy,
            num_nodes=run.num_nodes,
            precision=PRECISIONS[recipe.precision],
            max_epochs=recipe.epochs,
            accumulate_grad_batches=recipe.accumulate,
            gradient_clip_val=recipe.gradient_clip,
            deterministic=recipe.deterministic or None,
            benchmark=recipe.cudnn_benchmark or None,
            fast_dev_run=FAST_BATCHES if run.fast_dev_run else False,
            callbacks=callbacks,
            plugins=[AtomicCheckpointIO()],
            logger=loggers,
            default_root_dir=folder.path,
            enable_checkpointing=not run.fast_dev_run,
            enable_model_summary=False,
            enable_progress_bar=run.progress,
            num_sanity_val_steps=0,
            # The loaders shard themselves.
            use_distributed_sampler=False,
        )
    except (MisconfigurationException, TypeError, ValueError) as error:
        raise TrainingError(
            f"accelerator {run.accelerator}, devices {run.devices}, strategy {run.strategy}, "
            f"num_nodes {run.num_nodes}: {error}"
        ) from error
