"""What a run of the trainer leaves behind, and the trained network that it makes.

This file is the contract between the trainer, which writes such a folder, and all that goes on from
one: the command line's ``--run`` and ``load_run``.

==================  ================================================================================
``result.json``     ``recipe``, all that the run was told; ``classes``, how many the images have;
                    ``delays``, what ``remaining_delays`` gave, which no state dict holds;
                    ``source``, hash of the module that defines a network of the user's own
``weights.pt``      the network's state dict
``recipe.yaml``     the recipe of the run that is going on, which ``--resume`` reads; of more
                    ``epochs`` than the result's, the run is being trained longer
``checkpoints/``    what ``--resume`` goes on from
==================  ================================================================================

Of a recipe these count here: ``model``, ``model_options``, ``act``, ``weight_bits`` and ``seed``
(see ``build_named``), ``rule``, ``weight_rule``, ``weighting``, ``staircase`` and ``saved`` (see
``follow_rules``), ``imports``, ``epochs``, and of ``data`` its ``channels``, ``image_size``,
``mean`` and ``std``, ``name``, ``resized`` and ``resize``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.nn import Module

from ..export.checks import check_finite
from .checkpoint import load_checkpoint
from .images import random_images
from .named_models import build_named
from .own_modules import check_source, import_parts
from .rule_choice import follow_rules
from .run_result import damaged, read_result

# Of a recipe, one line is all that is needed, and a YAML parser comes with the examples only.
EPOCHS = re.compile(r"^epochs: (\d+)$", re.MULTILINE)
RULE_FIELDS = ("rule", "weight_rule", "weighting", "staircase", "saved")


def remaining_delays(network: Module) -> dict[str, int]:
    """For how many calls the parts of a network that delay quantization still do so, by name."""
    return {
        name: vars(module)["quant_delay_steps"]
        for name, module in network.named_modules()
        if "quant_delay_steps" in vars(module)
    }


class RunFolder:
    """Names of what a run writes."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.checkpoints = self.path / "checkpoints"
        self.recipe = self.path / "recipe.yaml"
        self.result = self.path / "result.json"
        self.weights = self.path / "weights.pt"


@dataclass(frozen=True)
class LoadedRun:
    """A trained network, and what its images are.

    Attributes:
        model: in evaluation mode.
        recipe: all that the run was told.
        shape: of one image as the model takes it, (1, C, H, W).
        mean, std: of the channels; the model sees (x/255 - mean)/std of a pixel x.
    """

    model: Module
    recipe: Mapping[str, Any]
    shape: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def example(self) -> Tensor:
        """A random input of the model, the same in every run."""
        return random_images(self.shape, count=1)

    @property
    def pixels(self) -> dict[str, Any]:
        """The options of ``export_finn`` and ``check_deployable`` for an accelerator of pixels."""
        return {"images": "uint8", "mean": self.mean, "std": self.std}


def load_run(
    folder: str | os.PathLike[str], *, checkpoint: str | os.PathLike[str] | None = None
) -> LoadedRun:
    """The trained network of a run's folder.

    Modules that the run imported are imported again, from the current directory too. A rule that
    has changed since does no harm: it is in gradients, not in what the network computes.

    Args:
        folder: that ``train.py`` has written.
        checkpoint: other weights of the same network than its ``weights.pt``; also of a run that
            is being trained longer, and has not ended.

    Raises:
        FileNotFoundError: if there is no such folder, or the run in it has not ended.
        ImportError: if a module needs a package that is not installed.
        TypeError, ValueError: for a result that is none or damaged (names the field), a model that
            cannot be built as it was or whose module has changed since, or weights of another one.

    >>> load_run("nowhere")
    Traceback (most recent call last):
    FileNotFoundError: there is no folder nowhere: --run names that of a training

    Example::

        run = load_run("run")
        export_finn(run.model, run.example, "fpga", result="class", **run.pixels)
    """
    paths = RunFolder(folder)
    result = _read(paths)
    recipe = result["recipe"]
    data = recipe["data"]
    if checkpoint is None:
        _refuse_longer(paths, recipe["epochs"])
    import_parts(recipe.get("imports") or ())
    instead = f"name the network itself, and {paths.path} as its checkpoint"
    check_source(recipe["model"], result.get("source"), instead=instead)
    options = {name: recipe[name] for name in ("act", "weight_bits") if recipe[name] is not None}
    size = data["image_size"]
    shape = (1, data["channels"], *([size, size] if isinstance(size, int) else size))
    model = build_named(
        recipe["model"],
        options | recipe["model_options"],
        shape=shape,
        classes=result.get("classes"),
        seed=recipe["seed"],
        options_by="model_options",
    )
    chosen = {name: recipe[name] for name in RULE_FIELDS}
    follow_rules(model, recipe["model"], **chosen)
    load_checkpoint(model, paths.weights if checkpoint is None else Path(checkpoint))
    delays = result.get("delays", {})
    if not delays.keys() <= remaining_delays(model).keys():
        damaged(paths.result, "delays", delays, f"of layers of {recipe['model']} that delay")
    for name, steps in delays.items():
        vars(model.get_submodule(name))["quant_delay_steps"] = steps
    check_finite(model)
    return LoadedRun(model.eval(), recipe, shape, tuple(data["mean"]), tuple(data["std"]))


def _read(paths: RunFolder) -> dict[str, Any]:
    """The result of a run that has ended."""
    if not paths.path.is_dir():
        raise FileNotFoundError(f"there is no folder {paths.path}: --run names that of a training")
    if not paths.result.is_file():
        begun = (
            "its training has not ended: go on with --resume"
            if paths.recipe.is_file()
            else ("train.py has written none there")
        )
        raise FileNotFoundError(f"{paths.path} holds no {paths.result.name}: {begun}")
    return read_result(paths.result)


def _refuse_longer(paths: RunFolder, epochs: int) -> None:
    """Raise while a run that had ended is being trained longer."""
    recipe = paths.recipe.read_text() if paths.recipe.is_file() else ""
    found = EPOCHS.search(recipe)
    if found is not None and int(found[1]) > epochs:
        raise FileNotFoundError(
            f"{paths.path} is being trained longer, from {epochs} to {found[1]} epochs, and that "
            "has not ended: go on with --resume, or export and verify the weights of before with "
            f"--checkpoint {paths.weights}"
        )
