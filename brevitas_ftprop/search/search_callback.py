"""The search for targets as a Lightning callback; importing this file imports Lightning."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn

from ..targets import TargetSetter, get_setter
from .search_targets import TargetSearch, check_every, search_targets

__all__ = ["TargetSearchCallback"]


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
        self._loaded: dict[str, Any] = {}
        self._logged: dict[str, tuple[int, int]] = {}

    @property
    def changed(self) -> dict[str, float]:
        """Of each searched quantizer's targets, the share that differs from −sign(g)."""
        return {} if self.search is None else _shares(self.search.searched, {})

    @property
    def left(self) -> dict[str, str]:
        """Quantizers that keep −sign(g) and |g|, with the reason."""
        return {} if self.search is None else dict(self.search.left)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.setter.is_default:
            return
        # What Lightning leaves of a compiled module that it is given.
        if getattr(pl_module, "_compiler_ctx", None) is not None:
            raise ValueError(
                f"{type(pl_module).__name__} is compiled, which hides what runs in it: search for "
                "the targets of a module that is not"
            )
        self.search = search_targets(pl_module, self.setter, where=self._where)
        self.search.left.update(self._loaded.get("left", {}))
        self.search.searched.update(self._loaded.get("searched", {}))
        self._loaded = {}

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.search is not None:
            self._logged = dict(self.search.searched)

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
        if self.search is None:
            return
        shares = _shares(self.search.searched, self._logged)
        scalars = {f"target_prop/{name}/changed": share for name, share in shares.items()}
        for logger in trainer.loggers if scalars else ():
            logger.log_metrics(scalars, step=trainer.global_step)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._active.close()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        self._active.close()

    def state_dict(self) -> dict[str, Any]:
        if self.search is None:
            return {}
        return {"left": dict(self.search.left), "searched": dict(self.search.searched)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._loaded = state_dict


def _shares(
    searched: dict[str, tuple[int, int]], before: dict[str, tuple[int, int]]
) -> dict[str, float]:
    shares = {}
    for name, (chosen, differ) in searched.items():
        chosen_before, differ_before = before.get(name, (0, 0))
        if chosen > chosen_before:
            shares[name] = (differ - differ_before) / (chosen - chosen_before)
    return shares
