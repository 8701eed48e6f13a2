"""Train a recipe into a folder."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import brevitas.config
import lightning
import torch
import yaml
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_only

from brevitas_ftprop.export.output_file import output_file
from brevitas_ftprop.provenance import device_name
from brevitas_ftprop.runs.own_modules import check_source, import_parts, network_source
from brevitas_ftprop.runs.run_folder import RunFolder, remaining_delays
from brevitas_ftprop.search.search_callback import TargetSearchCallback

from .checkpoint import keep_only, last_checkpoint, load_checkpoint
from .classifier import Classifier
from .compilation import compile_network
from .curve import Curve
from .data import Images
from .failures import TrainingError, explained_memory, uninterrupted
from .folder import taken
from .initial import load_initial
from .longer import going_on, is_longer
from .network import build_network
from .recipe import Recipe
from .result import Result, hash_weights, versions
from .step_cost import StepCost
from .trainer import FAST_BATCHES, Run, build_trainer

# Of each device's batches in a fast run.
FAST_IMAGES = 4


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
        The result; of a run that is complete already, with ``resume``, the one that it left, unless
        the recipe now has more epochs.

    Raises:
        TrainingError: if the recipe names something unknown, the data are not there or do not fit
            the model, the folder is in use or holds another recipe's or network's run, the loss is
            not finite, or a batch does not fit into memory.
    """
    run = run or Run()
    # Here too, since the recipe may come from another process.
    import_parts(recipe.imports)
    if run.fast_dev_run:
        with _torch_settings(run):
            return _fit(recipe, RunFolder(out), run, callbacks)
    folder = RunFolder(out)
    with taken(folder, resume=run.resume), _torch_settings(run):
        if run.resume and folder.result.exists():
            result = Result.read(folder.result)
            if not is_longer(folder.result, result.recipe, recipe):
                return result
        result = _fit(recipe, folder, run, callbacks)
        if rank_zero_only.rank == 0:
            result.write(folder.result)
        return result


def _fit(recipe: Recipe, folder: RunFolder, run: Run, callbacks: Sequence[Callback]) -> Result:
    curve, cost = Curve(), StepCost()
    search = TargetSearchCallback(recipe.targets, seed=recipe.seed)
    trainer = build_trainer(recipe, folder, run, [*callbacks, cost, search], curve)
    devices = trainer.world_size
    if run.fast_dev_run:
        recipe = _fast(recipe, devices)
    _check_devices(recipe, trainer)
    images = Images(recipe, run.workers, run.prefetch)
    if run.progress and rank_zero_only.rank == 0:
        print(images.summary())
    data_hash = images.fingerprint()
    network, converted = build_network(recipe, images.classes)
    source = network_source(recipe.model)
    if recipe.init_weights is not None:
        told = load_initial(network, recipe.init_weights)
        if run.progress and rank_zero_only.rank == 0:
            print(told)
    initial = hash_weights(network)
    if recipe.channels_last:
        network.to(memory_format=torch.channels_last)
    module = Classifier(
        network,
        recipe,
        images.classes,
        images.steps,
        images.parts,
        finite_every=run.finite_every,
    )
    if recipe.compile is not None:
        compile_network(network, recipe.compile, trainer.strategy.root_device)
    checkpoint = None if run.fast_dev_run else _checkpoint(recipe, folder, run)
    batch = recipe.batch_size // (devices * recipe.accumulate)
    with explained_memory(batch, recipe.accumulate):
        trainer.fit(module, datamodule=images, ckpt_path=checkpoint, weights_only=True)
        final = curve.epochs[-1]
        accuracies = {
            f"{part}_{name}": getattr(final, f"{part}_{name}")
            for part in ("validation", "test")
            for name in ("accuracy", "top5")
        }
        if not run.fast_dev_run:
            # Averaged weights, where there are some, also if the run was killed after its last one.
            last = load_checkpoint(last_checkpoint(folder.checkpoints))
            module.load_state_dict(last["state_dict"])
        if recipe.test == "end":
            trainer.test(module, datamodule=images, verbose=False)
            accuracies |= module.tested
    if rank_zero_only.rank == 0 and not run.fast_dev_run:
        with uninterrupted(), output_file(folder.weights, overwrite=True) as stream:
            torch.save(network.state_dict(), stream)
    targets = search.report()
    timed = curve.epochs[1:] or curve.epochs
    seconds = sum(epoch.seconds for epoch in timed)
    return Result(
        recipe=recipe.to_dict(),
        curve=curve.epochs,
        **accuracies,
        seconds=sum(epoch.seconds for epoch in curve.epochs),
        images_per_second=sum(e.images_per_second * e.seconds for e in timed) / seconds,
        initial_weights=initial,
        final_weights=hash_weights(network),
        images=images.counts,
        classes=images.classes,
        source=source,
        delays=remaining_delays(network),
        data_hash=data_hash,
        converted=converted,
        targets_changed={name: layer.share for name, layer in targets.layers.items()},
        targets_left=targets.left,
        step_seconds=cost.seconds,
        peak_bytes=cost.peak_bytes,
        device=device_name(trainer.strategy.root_device),
        devices=devices,
        resumed=curve.resumed,
        versions=versions(),
    )


def _fast(recipe: Recipe, devices: int) -> Recipe:
    step = FAST_IMAGES * recipe.accumulate * devices
    few = FAST_BATCHES * FAST_IMAGES * devices
    return recipe.with_overrides(
        epochs=1,
        schedule__warmup_epochs=min(1, recipe.schedule.warmup_epochs),
        batch_size=step,
        data__train_images=FAST_BATCHES * step,
        data__validation_images=min(few, recipe.data.validation_images),
        data__test_images=few,
    )


def _check_devices(recipe: Recipe, trainer: lightning.Trainer) -> None:
    shares = trainer.world_size * recipe.accumulate
    if recipe.batch_size % shares:
        raise TrainingError(
            f"batch_size {recipe.batch_size} cannot be split evenly over {trainer.world_size} "
            f"devices and accumulate = {recipe.accumulate}"
        )
    if recipe.precision == "fp16" and trainer.strategy.root_device.type == "cpu":
        raise TrainingError("precision: fp16 needs a GPU; the CPU has bf16 and 32")


def _checkpoint(recipe: Recipe, folder: RunFolder, run: Run) -> Path | None:
    """Where to go on from; writes the recipe of a run that starts."""
    last = last_checkpoint(folder.checkpoints) if run.resume else None
    longer = False
    if last is not None:
        contents = load_checkpoint(last)
        saved = contents["recipe"]
        longer = is_longer(last, saved, recipe)
        try:
            instead = "train anew in a folder of its own"
            check_source(recipe.model, contents.get("source"), instead=instead)
        except ValueError as error:
            raise TrainingError(str(error)) from error
        if rank_zero_only.rank == 0:
            # What a killed run was writing, or had not removed yet.
            keep_only(last)
            if longer and run.progress:
                print(going_on(saved, recipe))
    if (last is None or longer) and rank_zero_only.rank == 0:
        with output_file(folder.recipe, overwrite=True) as stream:
            yaml.safe_dump(recipe.to_dict(), stream, sort_keys=False, encoding="utf-8")
    return last


@contextmanager
def _torch_settings(run: Run) -> Iterator[None]:
    """What a run sets for the whole process, and sets back."""
    deterministic = torch.are_deterministic_algorithms_enabled()
    threads = torch.get_num_threads()
    benchmark = torch.backends.cudnn.benchmark
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    rebuild = brevitas.config.REINIT_ON_STATE_DICT_LOAD
    # A checkpoint is of the same network; its values go into the very quantizers.
    brevitas.config.REINIT_ON_STATE_DICT_LOAD = False
    if run.threads is not None:
        torch.set_num_threads(run.threads)
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(deterministic)
        torch.backends.cudnn.benchmark = benchmark
        torch.set_num_threads(threads)
        logger.setLevel(level)
        brevitas.config.REINIT_ON_STATE_DICT_LOAD = rebuild
