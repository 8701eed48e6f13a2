"""What ``result.json`` of a run has to hold for its network to be made again."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from types import NoneType
from typing import Any, NoReturn

KINDS = {
    dict: "an object",
    int: "a whole number",
    list: "a list",
    str: "a text",
    NoneType: "null",
}
FIELDS = {
    "recipe": (dict,),
    "recipe.model": (str,),
    "recipe.model_options": (dict,),
    "recipe.act": (str, NoneType),
    "recipe.weight_bits": (int, NoneType),
    "recipe.rule": (str,),
    "recipe.weight_rule": (str, NoneType),
    "recipe.weighting": (str,),
    "recipe.staircase": (str,),
    "recipe.saved": (str,),
    "recipe.epochs": (int,),
    "recipe.seed": (int,),
    "recipe.data": (dict,),
    "recipe.data.channels": (int,),
    "recipe.data.image_size": (int, list),
    "recipe.data.mean": (list,),
    "recipe.data.std": (list,),
}
# Not in the results of every version.
OPTIONAL = {
    "recipe.imports": (dict, list, NoneType),
    "classes": (int, NoneType),
    "delays": (dict,),
    "source": (str, NoneType),
}


def read_result(file: Path) -> dict[str, Any]:
    """A run's result, whose fields are there and of their kinds.

    Raises:
        ValueError: for a file that holds something else; names the first field that is wrong.
    """
    try:
        result = json.loads(file.read_text())
    except ValueError as error:
        raise ValueError(f"{file} is not the result of a run: it is no JSON") from error
    if not isinstance(result, dict):
        raise ValueError(f"{file} is not the result of a run: it is no JSON object")
    for name, kinds in (FIELDS | OPTIONAL).items():
        *path, last = name.split(".")
        section = result
        for part in path:
            section = section[part]
        if last in section:
            if type(section[last]) not in kinds:
                damaged(file, name, section[last], " or ".join(KINDS[kind] for kind in kinds))
        elif name in FIELDS:
            raise ValueError(f"{file} is damaged: it has no {name}")
    _check_images(file, result["recipe"]["data"])
    return result


def damaged(file: Path, field: str, found: Any, right: str) -> NoReturn:
    """Raise what is wrong with a field.

    Raises:
        ValueError: always.
    """
    raise ValueError(f"{file} is damaged: {field} is {json.dumps(found)}, not {right}")


def _check_images(file: Path, data: Mapping[str, Any]) -> None:
    size, channels = data["image_size"], data["channels"]
    sizes = [size] * 2 if isinstance(size, int) else size
    if len(sizes) != 2 or not all(type(each) is int and each > 0 for each in sizes):
        damaged(file, "recipe.data.image_size", size, "a positive number, or height and width")
    for name, least in (("mean", -math.inf), ("std", 0)):
        numbers = data[name]
        are_numbers = all(type(each) in (int, float) and each > least for each in numbers)
        if len(numbers) != channels or not are_numbers:
            right = f"{channels} {'positive ' if name == 'std' else ''}numbers"
            damaged(file, f"recipe.data.{name}", numbers, right)
