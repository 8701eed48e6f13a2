"""Compare target rules on one recipe: rules x activations x seeds, and what survives statistics.

Target setters are compared in the same way (--targets), with what they cost.

Runs with the same seed start from the same weights and see the same batches. With several learning
rates, each rule's is chosen on held-out training images, from the same candidates; the test images
are seen once, at the end of each run. An interrupted comparison goes on where it was; more rules or
seeds can be added to its folder. It holds `comparison.json` (all runs), the table (`comparison.md`,
`.csv` and `.tex`) and `comparison.png`.

    python examples/compare.py examples/recipes/convnet4_10k.yaml --data-root cifar10 \
        --acts sign staircase3 --rules saturated_ste soft_hinge ste --seeds 3 --out comparison

    python examples/compare.py --from comparison/comparison.json --out elsewhere
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

# First, for Ctrl-C during the other imports.
import interruption
from cluster import Cluster
from comparison.arguments import REFERENCE, read_arguments
from comparison.execution import TrialsError, execute
from comparison.fairness import chosen_learning_rates, refuse_mixed
from comparison.figures import draw
from comparison.on_cluster import ClusterPool
from comparison.plan import Arm, Plan, Trial
from comparison.processes import Pool
from comparison.progress import TrialsProgress
from comparison.report import Comparison
from comparison.tables import csv_table, latex_table
from rich.console import Console
from training import Result, TrainingError, load_recipe
from training.data import Images
from training.network import build_network
from training.recipe import PLAIN, rule_spec

from brevitas_ftprop.runs.own_modules import network_source, own_part
from brevitas_ftprop.search.search_callback import TargetSearchCallback
from brevitas_ftprop.targets import get_setter


def run(plan: Plan, pool: Pool | ClusterPool, console: Console) -> None:
    """Tune where there is something to tune, then train and test every arm with every seed."""

    def execute_all(trials: Sequence[Trial], what: str) -> list[Result]:
        return execute(trials, pool, TrialsProgress(console, what, len(trials)))

    chosen = chosen_learning_rates(execute_all(list(plan.tuning()), "tuning"))
    execute_all(list(plan.tests(chosen)), "run")


def all_results(folder: Path) -> tuple[Result, ...]:
    """What this and earlier calls have left in a folder of runs."""
    return tuple(Result.read(file) for file in sorted(folder.glob("*/result.json")))


def refuse_untrainable(plan: Plan, classes: int) -> None:
    """Raise, before anything is trained, for an arm without a network, or targets to search for."""
    for arm in plan.arms:
        try:
            network, _ = build_network(
                plan.recipe.with_overrides(act=arm.act, rule=arm.rule), classes
            )
            if arm.targets != PLAIN:
                TargetSearchCallback(arm.targets).prepare(network)
        except (TrainingError, ValueError) as error:
            raise ValueError(f"{arm}: {error}") from error


def planned(options: Namespace, out: Path) -> Plan:
    """The plan that the options ask for."""
    recipe = load_recipe(options.recipe, options.recipe_arguments)
    rules, targets = (list(map(own_part, given)) for given in (options.rules, options.targets))
    own = {module: None for _, module in (*rules, *targets) if module is not None}
    return Plan(
        recipe=replace(recipe, imports=own | recipe.imports),
        rules=tuple(rule_spec(spec) for spec, _ in rules),
        targets=tuple(get_setter(spec).spec for spec, _ in targets),
        acts=tuple(options.acts),
        seeds=options.seeds,
        learning_rates=tuple(options.learning_rates),
        out=out,
    )


def reference_of(given: str | None, plan: Plan, stored: Sequence[Result]) -> str:
    """The rule that the others are compared with.

    Raises:
        ValueError: for a rule that is not compared.
    """
    arms = (*plan.arms, *(Arm.of(result.recipe) for result in stored))
    rules = [arm.rule for arm in arms if arm.targets == PLAIN]
    default = REFERENCE if REFERENCE in rules else next(iter(rules), REFERENCE)
    reference = default if given is None else rule_spec(own_part(given)[0])
    if reference not in rules:
        raise ValueError(
            f"--reference {reference} is none of the rules to compare with {PLAIN}"
            f"{': ' * bool(rules)}{', '.join(dict.fromkeys(rules))}"
        )
    return reference


@contextmanager
def place(options: Namespace) -> Iterator[Pool | ClusterPool]:
    """Where the options have trials run."""
    pool = Pool(accelerator=options.accelerator, devices=options.devices, jobs=options.jobs)
    if options.cluster is None:
        yield pool
    else:
        with Cluster(options.cluster) as cluster:
            yield ClusterPool(cluster, pool)


def compared(options: Namespace, out: Path, console: Console) -> Comparison:
    """Train what is not there yet, and compare it all."""
    plan = planned(options, out)
    stored = (*all_results(out / "runs"), *all_results(out / "tuning"))
    reference = reference_of(options.reference, plan, stored)
    images = Images(plan.recipe)
    refuse_untrainable(plan, images.classes)
    with place(options) as pool:
        environment = pool.surroundings() | {
            "data_hash": images.fingerprint(),
            "source": network_source(plan.recipe.model),
        }
        refuse_mixed(plan, environment, stored)
        run(plan, pool, console)
    comparison = Comparison(all_results(out / "runs"), all_results(out / "tuning"), reference)
    comparison.write(out / "comparison.json")
    return comparison


def write_tables(comparison: Comparison, out: Path) -> None:
    """The table in Markdown, CSV and LaTeX, and the figure."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "comparison.md").write_text(comparison.table() + "\n")
    (out / "comparison.csv").write_text(csv_table(comparison))
    (out / "comparison.tex").write_text(latex_table(comparison))
    draw(comparison, out / "comparison.png")


def main(argv: Sequence[str] | None = None) -> int:
    interruption.over()
    try:
        options = read_arguments(__doc__, sys.argv[1:] if argv is None else argv)
        if options.stored is None:
            out = options.out or Path("comparison")
            comparison = compared(options, out, Console())
        else:
            out = options.out or options.stored.parent
            comparison = Comparison.read(options.stored)
            if options.reference is not None:
                comparison = replace(comparison, reference=rule_spec(options.reference))
        write_tables(comparison, out)
    except (OSError, TrainingError, TrialsError, ValueError) as error:
        print(f"compare.py: error: {error}", file=sys.stderr)
        return 1 if isinstance(error, TrialsError) else 2
    except KeyboardInterrupt:
        print("compare.py: interrupted; the same command goes on", file=sys.stderr)
        return interruption.INTERRUPTED
    print(comparison.table())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
