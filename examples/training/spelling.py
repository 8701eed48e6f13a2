"""How options may be spelt: dots, dashes or underscores, and lists with or without brackets."""

from __future__ import annotations

import re
from argparse import Action, ArgumentParser
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, get_args, get_origin

# Python keeps the shorter word for itself; said twice, both count.
ALIASES = {"--import": "--imports+"}
# A comma between the parameters of a rule separates nothing.
BETWEEN = re.compile(r"[,\s]+(?![^()]*\))")


def respelled(argv: Sequence[str], *parsers: ArgumentParser) -> list[str]:
    """Arguments with each option, and each list, as its parser has it.

    Args:
        argv: as the user gave them.
        *parsers: whose options they are; of one that several have, the first parser's counts.

    Raises:
        ValueError: for an option that none has, with the one that was probably meant.

    >>> parser = ArgumentParser()
    >>> _ = parser.add_argument("--data.root")
    >>> respelled(["--data-root", "here", "--data_root=there"], parser)
    ['--data.root', 'here', '--data.root=there']
    """
    known: dict[str, tuple[str, Action]] = {}
    for parser in parsers:
        for option, action in parser._option_string_actions.items():
            known.setdefault(_plain(option), (option, action))
    known |= {alias: known[option] for alias, option in ALIASES.items() if option in known}
    spelled, hint = [], None
    for word in argv:
        if not word.startswith("--"):
            spelled.append(_listed(word, hint))
            hint = None
            continue
        given, equals, value = word.partition("=")
        option, hint = _found(given, known)
        spelled.append(f"{option}={_listed(value, hint)}" if equals else option)
    return spelled


def split_list(text: str) -> list[str]:
    """The entries of a list that is written with commas or spaces, with or without brackets.

    >>> split_list("[0.5, 0.25]")
    ['0.5', '0.25']
    >>> split_list("ste,local_search(candidates=8, iterations=1)")
    ['ste', 'local_search(candidates=8, iterations=1)']
    """
    inner = text.strip()
    if inner.startswith("[") and inner.endswith("]"):
        inner = inner[1:-1].strip()
    return [entry for entry in BETWEEN.split(inner) if entry]


def _plain(option: str) -> str:
    return option.replace("_", "-").replace(".", "-")


def _found(given: str, known: Mapping[str, tuple[str, Action]]) -> tuple[str, Any]:
    """An option in its parser's spelling, and what type its value has."""
    plain = _plain(given)
    if plain in known:
        option, action = known[plain]
        return option, getattr(action, "_typehint", None)
    for start, (option, action) in known.items():
        # An entry of a dictionary, whose keys are its own.
        if get_origin(getattr(action, "_typehint", None)) is dict and plain.startswith(f"{start}-"):
            return option + given[len(option) :], None
    name = plain.removeprefix("--")
    within = [each for each in known if each.endswith(f"-{name}")]
    nearest = within or get_close_matches(plain, known, n=1)
    meant = f"; did you mean {known[nearest[0]][0]}?" if nearest else "; --help lists all"
    raise ValueError(f"there is no option {given}{meant}")


def _listed(value: str, hint: Any) -> str:
    """A list without brackets with them, as YAML has it."""
    kinds = (hint, *get_args(hint))
    takes_list = any(get_origin(kind) is get_origin(Sequence[int]) for kind in kinds)
    is_list_only = not {int, str} & set(kinds)
    if takes_list and value[:1] not in ("[", "n") and (is_list_only or "," in value):
        return f"[{', '.join(split_list(value))}]"
    return value
