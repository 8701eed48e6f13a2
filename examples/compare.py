"""Compare target rules on one recipe: rules x activations x seeds, and what survives statistics.

Target setters are compared in the same way (--targets), with what they cost.

Runs with the same seed start from the same weights and see the same batches. With several learning
rates, each rule's is chosen on held-out training images, from the same candidates; the test images
are seen once, at the end of each run. An interrupted comparison goes on where it was; more rules or
seeds can be added to its folder. It holds `comparison.json` (all runs), `comparison.md` (the table)
and `comparison.png`.

    python examples/compare.py examples/recipes/convnet4_10k.yaml --data-root cifar10 \
        --acts sign staircase3 --rules saturated_ste soft_hinge ste --seeds 3 --out comparison

    python examples/compare.py --from comparison/comparison.json
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from itertools import count
from pathlib import Path

import torch
from comparison.execution import Pool, TrialsError, execute
from comparison.fairness import chosen_learning_rates, refuse_mixed
from comparison.figures import draw
from comparison.plan import Arm, Plan, Trial
from comparison.report import Comparison
from rich.console import Console
from training import Result, TrainingError, load_recipe
from training.data import Images
from training.network import build_network
from training.recipe import PLAIN, STOCK
from training.result import versions

from brevitas_ftprop import get_rule
from brevitas_ftprop.provenance import device_name
from brevitas_ftprop.search.search_callback import TargetSearchCallback
from brevitas_ftprop.targets import get_setter


def run(plan: Plan, pool: Pool, console: Console) -> None:
    """Tune where there is something to tune, then train and test every arm with every seed."""

    def execute_all(trials: Sequence[Trial], what: str) -> list[Result]:
        ended = count(1)

        def show(trial: Trial, result: Result) -> None:
            of_test, of_validation = result.test_accuracy, result.validation_accuracy
            accuracy = of_validation if of_test is None else of_test
            console.print(
                f"{what} {next(ended)} of {len(trials)}: {trial.folder.name}  "
                f"{100 * accuracy:.2f} %  {result.seconds:.0f} s",
                highlight=False,
            )

        return execute(trials, pool, show)

    chosen = chosen_learning_rates(execute_all(list(plan.tuning()), "tuning"))
    execute_all(list(plan.tests(chosen)), "run")


def all_results(folder: Path) -> tuple[Result, ...]:
    """What this and earlier calls have left in a folder of runs."""
    return tuple(Result.read(file) for file in sorted(folder.glob("*/result.json")))


def spec(rule: str) -> str:
    """A rule's canonical name, or ``stock``."""
    return rule if rule == STOCK else get_rule(rule).spec


def refuse_unsearchable(plan: Plan, classes: int) -> None:
    """Raise, before anything is trained, for an arm whose network has no targets to search for."""
    for arm in plan.arms:
        if arm.targets != PLAIN:
            network, _ = build_network(
                plan.recipe.with_overrides(act=arm.act, rule=arm.rule), classes
            )
            try:
                TargetSearchCallback(arm.targets).prepare(network)
            except ValueError as error:
                raise ValueError(f"{arm}: {error}") from error


def arguments_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe", type=Path, nargs="?", help="YAML file of what all runs share")
    parser.add_argument("--from", dest="stored", type=Path, help="a comparison.json to show again")
    parser.add_argument("--rules", nargs="+", default=["saturated_ste", "soft_hinge"])
    parser.add_argument("--targets", nargs="+", default=[PLAIN], help="target setters")
    parser.add_argument("--acts", nargs="*", default=[], help="default: the recipe's")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--learning-rates", type=float, nargs="*", default=[], help="candidates for each rule"
    )
    parser.add_argument(
        "--reference", default="saturated_ste", help="rule to compare with, on its own"
    )
    parser.add_argument("--data-root", help="instead of the recipe's")
    parser.add_argument("--epochs", type=int, help="instead of the recipe's")
    parser.add_argument("--out", type=Path, default=Path("comparison"))
    gpus = torch.cuda.device_count()
    parser.add_argument("--accelerator", choices=["cpu", "gpu"], default="gpu" if gpus else "cpu")
    parser.add_argument("--devices", type=int, default=max(gpus, 1))
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time on each device")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    parser = arguments_parser()
    options = parser.parse_args(argv)
    if (options.recipe is None) == (options.stored is None):
        parser.error("give a recipe to run, or --from a comparison.json")
    console = Console()
    out = options.out
    try:
        if options.stored is not None:
            out = options.stored.parent
            comparison = Comparison.read(options.stored)
        else:
            overrides = {"data__root": options.data_root, "epochs": options.epochs}
            given = {name: each for name, each in overrides.items() if each is not None}
            plan = Plan(
                recipe=load_recipe(options.recipe, **given),
                rules=tuple(map(spec, options.rules)),
                targets=tuple(get_setter(each).spec for each in options.targets),
                acts=tuple(options.acts),
                seeds=options.seeds,
                learning_rates=tuple(options.learning_rates),
                out=out,
            )
            stored = (*all_results(out / "runs"), *all_results(out / "tuning"))
            device = torch.device("cuda" if options.accelerator == "gpu" else "cpu")
            images = Images(plan.recipe)
            environment = {
                "device": device_name(device),
                "versions": versions(),
                "data_hash": images.fingerprint(),
            }
            refuse_mixed(plan, environment, stored)
            reference = spec(options.reference)
            arms = {*plan.arms, *(Arm.of(result.recipe) for result in stored)}
            if reference not in {arm.rule for arm in arms if arm.targets == PLAIN}:
                raise ValueError(
                    f"--reference {reference} is none of the rules to compare with {PLAIN}"
                )
            refuse_unsearchable(plan, images.classes)
            run(
                plan,
                Pool(accelerator=options.accelerator, devices=options.devices, jobs=options.jobs),
                console,
            )
            comparison = Comparison(
                all_results(out / "runs"), all_results(out / "tuning"), reference
            )
            comparison.write(out / "comparison.json")
    except (OSError, TrainingError, TrialsError, ValueError) as error:
        print(f"compare.py: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("compare.py: interrupted; the same command goes on", file=sys.stderr)
        return 130
    (out / "comparison.md").write_text(comparison.table() + "\n")
    draw(comparison, out / "comparison.png")
    print(comparison.table())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
