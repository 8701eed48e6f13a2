"""Train a recipe: any network with any rule, on one device or many, to be resumed at any time.

    python examples/train.py --config examples/recipes/convnet4_sign_ftp_sh.yaml --data.root DATA

Every field of the recipe is an option: --rule ste --optimizer.lr 1e-3 --epochs 3. The folder --out
then holds the result, the weights, checkpoints and logs.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from dataclasses import fields

from jsonargparse import ArgumentParser
from training import Recipe, Run, TrainingError, train

FLAGS = {
    "resume": "go on from the last complete checkpoint in --out",
    "fast-dev-run": "two small batches of everything, to see that all works; keeps nothing",
}


def build_parser() -> ArgumentParser:
    parser = ArgumentParser(prog="train.py", description=__doc__.partition("\n")[0])
    parser.add_argument("--config", action="config", help="recipe in YAML; options come after it")
    parser.add_argument("--out", default="train_out", help="folder of this run alone")
    parser.add_class_arguments(Recipe)
    parser.add_class_arguments(Run, skip={flag.replace("-", "_") for flag in FLAGS})
    for flag, text in FLAGS.items():
        parser.add_argument(f"--{flag}", action="store_true", help=text)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    parser = build_parser()
    parsed = parser.parse_args(argv)
    warnings.filterwarnings("ignore", module=r"lightning\.|torch\.|torchmetrics\.")
    try:
        options = parser.instantiate(parsed)
        recipe = Recipe(**{field.name: options[field.name] for field in fields(Recipe)})
        run = Run(**{field.name: options[field.name] for field in fields(Run)})
        result = train(recipe, options.out, run)
    except (TrainingError, ValueError, OSError) as error:
        print(f"train.py: error: {error}", file=sys.stderr)
        return 2
    except SystemExit as stop:
        # What Lightning makes of Ctrl-C.
        if not isinstance(stop.__context__, KeyboardInterrupt):
            raise
        print("train.py: interrupted; the same command with --resume goes on", file=sys.stderr)
        return 130
    if result.test_accuracy is not None and not run.fast_dev_run:
        print(f"test accuracy {result.test_accuracy:.2%}; result and weights: {options.out}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
