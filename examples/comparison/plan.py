"""Which runs a comparison is made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from training import Recipe
from training.recipe import PLAIN

# No test run has it, so that nothing is tested with the seed that chose its learning rate.
TUNING_SEED = 1_000_000


@dataclass(frozen=True)
class Arm:
    """What is compared: a rule on an activation (None: the model's own), with a target setter."""

    act: str | None
    rule: str
    targets: str = PLAIN

    @staticmethod
    def of(recipe: Mapping) -> Arm:
        """The arm that a recipe, as a dictionary, belongs to."""
        # Old recipes had no targets.
        return Arm(recipe["act"], recipe["rule"], recipe.get("targets", PLAIN))

    @property
    def plain(self) -> Arm:
        """The same without a search."""
        return Arm(self.act, self.rule)

    @property
    def method(self) -> str:
        """The rule and, where it is not the default, the setter."""
        return self.rule if self == self.plain else f"{self.rule}-{self.targets}"

    def __str__(self) -> str:
        return self.method if self.act is None else f"{self.act}-{self.method}"


@dataclass(frozen=True)
class Trial:
    """A recipe to train and the folder that it leaves its result in."""

    recipe: Recipe
    folder: Path


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The declared factors of a comparison: activations × rules × setters × seeds of one recipe.

    Args:
        recipe: what all runs share.
        rules: canonical specs, or ``stock`` for the model's own gradients.
        targets: canonical specs of target setters.
        acts: activation quantizers; empty for the recipe's.
        seeds: of the runs.
        learning_rates: candidates among which each arm's is chosen on the validation images, each
            with one run; empty for the recipe's learning rate.
        out: folder of the comparison.

    Raises:
        ValueError: for a rule or setter that is given twice, no seed, candidates without
            validation images, or a setter that the recipe cannot have.
    """

    recipe: Recipe
    rules: tuple[str, ...]
    targets: tuple[str, ...] = (PLAIN,)
    acts: tuple[str | None, ...] = ()
    seeds: tuple[int, ...] = (0, 1, 2)
    learning_rates: tuple[float, ...] = ()
    out: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "acts", self.acts or (self.recipe.act,))
        for name in ("rules", "targets", "acts", "seeds", "learning_rates"):
            given = getattr(self, name)
            if len(set(given)) < len(given):
                raise ValueError(f"{name} holds one twice: {', '.join(map(str, given))}")
        for targets in self.targets:
            # What they do not go with is refused by the recipe.
            self.recipe.with_overrides(targets=targets)
        if not self.rules or not self.seeds:
            raise ValueError("a comparison needs at least one rule and one seed")
        if self.learning_rates and not self.recipe.data.validation_images:
            raise ValueError(
                "learning rates are chosen on validation images: set data.validation_images in "
                "the recipe"
            )

    @property
    def arms(self) -> list[Arm]:
        """Every activation with every rule and every setter."""
        return [Arm(*each) for each in product(self.acts, self.rules, self.targets)]

    def tuning(self) -> Iterator[Trial]:
        """One run for each arm and candidate; the test images are left alone."""
        for arm, lr in product(self.arms, self.learning_rates):
            recipe = self._of(arm, lr, seed=TUNING_SEED, test="never")
            yield Trial(recipe, self.out / "tuning" / f"{arm}-lr{lr:g}")

    def tests(self, chosen: Mapping[Arm, float]) -> Iterator[Trial]:
        """One run for each arm and seed, which sees the test images once, at its end.

        Args:
            chosen: learning rate of each arm that has one of its own.
        """
        # Seed after seed, so that an interrupted comparison has whole ones.
        for seed, arm in product(self.seeds, self.arms):
            lr = chosen.get(arm, self.recipe.optimizer.lr)
            recipe = self._of(arm, lr, seed=seed, test="end")
            yield Trial(recipe, self.out / "runs" / f"{arm}-lr{lr:g}-seed{seed}")

    def _of(self, arm: Arm, lr: float, *, seed: int, test: str) -> Recipe:
        return self.recipe.with_overrides(
            act=arm.act,
            rule=arm.rule,
            targets=arm.targets,
            seed=seed,
            test=test,
            optimizer__lr=lr,
        )
