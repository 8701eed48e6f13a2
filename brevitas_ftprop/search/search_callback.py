"""The search for targets as a Lightning callback; importing this file imports Lightning."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn

from ..targets import TargetSetter, get_setter
from .search_targets import TargetSearch, check_every, search_targets
from .target_report import LayerTargets, TargetReport


class TargetSearchCallback(Callback):
    """Searches for targets in the training batches of the module that is fitted.

    It is :func:`search_targets` around each training batch, accumulated ones too, and around
    nothing else. Random numbers of the setter depend on seed, step and process alone, so that a run
    that goes on from a checkpoint searches as one that was not cut off. Each epoch gives the share
    of a quantizer's targets that differ from −sign(g) to the trainer's loggers, as
    ``target_prop/<quantizer>/changed``.

    Args:
        setter: spec of a registered target setter, or one. With the default's targets nothing is
            looked at, and nothing costs time.
        every: search in each ``every``-th optimizer step.
        where, seed: as for :func:`search_targets`.

    Attributes:
        search: the :class:`TargetSearch` of the fit that is under way or was last; None before, and
            with the default's targets.

    Raises:
        ValueError: for an unknown setter, and an ``every`` that is no positive integer; when
            fitting starts, for a module that is compiled or has no sign quantizers.

    >>> TargetSearchCallback("local_search(candidates=8)", every=10).search is None
    True
    """

    def __init__(
        self,
        setter: str | TargetSetter,
        *,
        every: int = 1,
        where: Callable[[str, nn.Module], bool] | None = None,
        seed: int = 0,
    ):
        check_every(every)
        self.setter = get_setter(setter)
        self.search: TargetSearch | None = None
        self._every, self._where, self._seed = every, where, seed
        self._active = ExitStack()
        self._loaded = TargetReport()
        self._logged: dict[str, LayerTargets] = {}

    def report(self) -> TargetReport:
        """What has been chosen since training began, before the last checkpoint too."""
        if self.search is None:
            return TargetReport()
        now, before = self.search.report(), self._loaded
        layers = {
            name: _sum(now.layers.get(name), before.layers.get(name))
            for name in before.layers | now.layers
        }
        return TargetReport(layers, before.left | now.left)

    def prepare(self, module: nn.Module) -> None:
        """Look at what there is to search, as at the start of fitting.

        Raises:
            ValueError: for a module that is compiled, or has nothing to search.
        """
        self.search = None
        if self.setter.is_default:
            return
        # What Lightning leaves of a compiled module that it is given.
        if getattr(module, "_compiler_ctx", None) is not None:
            raise ValueError(
                f"{type(module).__name__} is compiled, which hides what runs in it: search for the "
                "targets of a module that is not"
            )
        search = search_targets(module, self.setter, where=self._where)
        if not search.served:
            raise ValueError(
                f"{type(module).__name__} has no sign quantizers whose targets could be searched "
                "for"
            )
        self.search = search

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.prepare(pl_module)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._logged = self.report().layers

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._active.close()
        if self.search is None or trainer.global_step % self._every:
            return
        key = [self._seed, trainer.global_step, batch_idx, trainer.global_rank]
        self.search.reseed(int(np.random.SeedSequence(key).generate_state(1)[0]))
        self._active.enter_context(self.search)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._active.close()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # A batch with which the module ends an epoch has a start and no end.
        self._active.close()
        layers = {
            name: _sum(layer, self._logged.get(name), sign=-1)
            for name, layer in self.report().layers.items()
        }
        scalars = {f"target_prop/{n}/changed": each.share for n, each in layers.items()}
        for logger in trainer.loggers if scalars else ():
            logger.log_metrics(scalars, step=trainer.global_step)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._active.close()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        self._active.close()

    def state_dict(self) -> dict[str, Any]:
        return {} if self.search is None else asdict(self.report())

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        layers = {name: LayerTargets(**each) for name, each in state_dict["layers"].items()}
        self._loaded = TargetReport(layers, state_dict["left"])


def _sum(one: LayerTargets | None, other: LayerTargets | None, sign: int = 1) -> LayerTargets:
    one, other = one or LayerTargets(), other or LayerTargets()
    return LayerTargets(one.chosen + sign * other.chosen, one.differing + sign * other.differing)
