"""The options of ``compare.py``: its own, and every field of a recipe in the trainer's spelling."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

import cluster
import torch
from training.recipe import PLAIN, recipe_parser
from training.spelling import respelled, split_list

REFERENCE = "saturated_ste"
# What takes the place of a recipe's field here.
COMPARED = {"--rule": "--rules", "--act": "--acts", "--seed": "--seeds"}
# What goes with runs that are there already.
OF_STORED = {"stored", "out", "reference"}


def read_arguments(description: str, argv: Sequence[str]) -> argparse.Namespace:
    """The options; ``recipe_arguments`` are those that replace fields of the recipe.

    Raises:
        ValueError: for options that are not there or do not go together.
    """
    parser, of_recipe = _parser(description), recipe_parser()
    own, recipe_arguments = [], []
    words = iter(respelled(argv, parser, of_recipe))
    for word in words:
        option, equals, _ = word.partition("=")
        if option in COMPARED:
            raise ValueError(f"{option} is what is compared: give {COMPARED[option]}")
        if option in parser._option_string_actions or not option.startswith("--"):
            own.append(word)
        else:
            recipe_arguments += [word] if equals else [word, *([next(words, "")])]
    options = parser.parse_args(own)
    options.recipe_arguments = recipe_arguments
    if (options.recipe is None) == (options.stored is None):
        parser.error("give a recipe to run, or --from a comparison.json")
    if options.stored is not None:
        _refuse_what_runs(parser, options)
    # A cluster may have GPUs where this machine has none.
    elif options.accelerator == "gpu" and options.cluster is None and not torch.cuda.is_available():
        raise ValueError("--accelerator gpu: PyTorch finds no GPU here; leave it out, or pass cpu")
    return options


def seeds(text: str) -> tuple[int, ...]:
    """``3`` is how many, from 0; ``0-4`` a range with its end; ``0,2,7`` are these.

    >>> seeds("3"), seeds("1-3"), seeds("0,5-6")
    ((0, 1, 2), (1, 2, 3), (0, 5, 6))
    """
    entries = split_list(text)
    if len(entries) == 1 and entries[0].isdigit() and not text.strip().startswith("["):
        return tuple(range(int(entries[0])))
    chosen: list[int] = []
    for entry in entries:
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", entry)
        if match is None:
            raise argparse.ArgumentTypeError(f"write 3, 0-4 or 0,2,7, not {text!r}")
        first, last = int(match[1]), int(match[2] or match[1])
        chosen += range(first, last + 1)
    return tuple(chosen)


class _Entries(argparse.Action):
    """Several words, each of which may be a list, as one list."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        convert = float if self.dest == "learning_rates" else str
        entries = [entry for value in values for entry in split_list(value)]
        try:
            setattr(namespace, self.dest, [convert(entry) for entry in entries])
        except ValueError as error:
            parser.error(f"{option_string}: {error}")


def _parser(description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=description,
        epilog="Every field of a recipe is an option too, as for train.py: --epochs 3 "
        "--optimizer.lr 1e-3 --data.root FOLDER.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("recipe", type=Path, nargs="?", help="YAML file of what all runs share")
    parser.add_argument("--from", dest="stored", type=Path, help="a comparison.json to show again")
    parser.add_argument(
        "--rules",
        nargs="+",
        action=_Entries,
        default=["saturated_ste", "soft_hinge"],
        help="target rules, or stock for the model's own gradients (default: %(default)s)",
    )
    parser.add_argument(
        "--targets", nargs="+", action=_Entries, default=[PLAIN], help="target setters"
    )
    parser.add_argument(
        "--acts", nargs="*", action=_Entries, default=[], help="default: the recipe's"
    )
    parser.add_argument(
        "--seeds",
        type=seeds,
        default=(0, 1, 2),
        help="how many, from 0; or which: 0-4 or 0,2,7 (default: 3)",
    )
    parser.add_argument(
        "--learning-rates",
        nargs="*",
        action=_Entries,
        default=[],
        help="candidates for each rule",
    )
    parser.add_argument(
        "--reference",
        help=f"rule to compare with (default: {REFERENCE} where it is among the rules, else the "
        "first of them)",
    )
    parser.add_argument(
        "--out", type=Path, help="folder (default: comparison, or the one of the file of --from)"
    )
    gpus = torch.cuda.device_count()
    parser.add_argument("--accelerator", choices=["cpu", "gpu"], default="gpu" if gpus else "cpu")
    parser.add_argument("--devices", type=int, default=max(gpus, 1))
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time on each device")
    cluster.add_argument(parser)
    return parser


def _refuse_what_runs(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    given = [
        action.option_strings[0]
        for action in parser._actions
        if action.option_strings
        and action.dest not in {*OF_STORED, "help"}
        and getattr(options, action.dest) != action.default
    ]
    given += [word for word in options.recipe_arguments if word.startswith("--")]
    if given:
        raise ValueError(
            f"--from shows runs that are there already: {', '.join(given)} would change nothing"
        )
