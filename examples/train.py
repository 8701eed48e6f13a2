"""Train a recipe: any network with any rule, on one device or many, to be resumed at any time.

    python examples/train.py --config examples/recipes/convnet4_sign_ftp_sh.yaml --data.root DATA

    python examples/train.py --resume --out RUN --epochs 400

Every field of the recipe is an option: --rule ste --optimizer.lr 1e-3 --epochs 3. The folder --out
then holds the result, the weights, checkpoints and logs; --resume goes on with what it holds.
"""

from __future__ import annotations

import shlex
import sys
import warnings
from argparse import ArgumentError
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

# First, for Ctrl-C during the other imports.
import interruption
from jsonargparse import ArgumentParser
from training import Recipe, Run, TrainingError, train
from training.longer import bound_to_the_end
from training.spelling import respelled

from brevitas_ftprop.runs.run_folder import RunFolder

FLAGS = {
    "resume": "go on from the last complete checkpoint in --out, by the recipe that lies there; "
    "with more --epochs, train longer",
    "fast-dev-run": "two small batches of everything, to see that all works; keeps nothing",
}


def build_parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="train.py", description=__doc__.partition("\n")[0], exit_on_error=False
    )
    parser.add_argument("--config", action="config", help="recipe in YAML; options come after it")
    parser.add_argument("--out", default="train_out", help="folder of this run alone")
    parser.add_class_arguments(Recipe)
    parser.add_class_arguments(Run, skip={flag.replace("-", "_") for flag in FLAGS})
    for flag, text in FLAGS.items():
        parser.add_argument(f"--{flag}", action="store_true", help=text)
    return parser


def read_arguments(argv: Sequence[str]) -> tuple[Recipe, Run, Path]:
    """What to train, how, and where.

    Raises:
        ValueError: for options that are not there, and values that they do not take.
    """
    parser = build_parser()
    words = respelled(argv, parser)
    try:
        parsed = parser.parse_args(words)
        if parsed.resume and parsed.config is None:
            kept = RunFolder(parsed.out).recipe
            if kept.is_file():
                parsed = parser.parse_args(["--config", str(kept), *words])
        options = parser.instantiate(parsed)
    except ArgumentError as error:
        raise ValueError(" ".join(str(error).split())) from error
    recipe, run = (
        kind(**{field.name: options[field.name] for field in fields(kind)})
        for kind in (Recipe, Run)
    )
    if run.resume and parsed.config is None and recipe == Recipe():
        raise ValueError(f"{parsed.out} holds no run to go on with: name its folder by --out")
    return recipe, run, Path(options.out)


def next_commands(recipe: Recipe, out: Path) -> str:
    """What a run can be gone on with."""
    words = [
        ["brevitas-ftprop", "export", "finn", "--run", out, "--out", "fpga"],
        ["tensorboard", "--logdir", out],
        ["python", sys.argv[0], "--resume", "--out", out],
    ]
    if bound_to_the_end(recipe) is None:
        words[-1] += ["--epochs", 2 * recipe.epochs]
    return "\n".join(["next:", *(f"  {shlex.join(map(str, each))}" for each in words)])


def main(argv: Sequence[str] | None = None) -> int:
    interruption.over()
    warnings.filterwarnings("ignore", module=r"lightning\.|torch\.|torchmetrics\.")
    out = None
    try:
        recipe, run, out = read_arguments(sys.argv[1:] if argv is None else argv)
        result = train(recipe, out, run)
    except (TrainingError, ValueError, OSError) as error:
        print(f"train.py: error: {error}", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, SystemExit) as stop:
        # What Lightning makes of Ctrl-C.
        if not isinstance(stop.__context__ or stop, KeyboardInterrupt):
            raise
        has_begun = out is not None and (out / "recipe.yaml").exists()
        how = "; the same command with --resume goes on" if has_begun else ""
        print(f"train.py: interrupted{how}", file=sys.stderr)
        return interruption.INTERRUPTED
    if not run.fast_dev_run:
        if result.test_accuracy is not None:
            print(f"test accuracy {result.test_accuracy:.2%}; result and weights: {out}")
        print(next_commands(recipe, out))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
