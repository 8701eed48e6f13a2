"""Load a checkpoint's tensors into a model, and nothing but tensors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

# Where training frameworks keep the state dict among other things.
WRAPPERS = ("state_dict", "model")
NAMED_KEYS = 3
# How torch.load refuses what is more than tensors in plain containers.
SIGNS_OF_CODE = ("Unsupported global", "unsupported GLOBAL", "TorchScript archive")


def load_checkpoint(model: Module, path: Path) -> None:
    """Load a state dict, strictly, without running code that a file may hold.

    The file holds the state dict or a dict with it as ``"state_dict"`` or ``"model"``, as
    Lightning's ``.ckpt`` does; of a folder, its ``weights.pt`` is meant. A prefix that the model's
    keys have there, such as ``model.`` or ``_orig_mod.``, is left out, with all keys that lack it.

    Raises:
        FileNotFoundError: if there is no file.
        ValueError: if the file is damaged, holds pickled code or anything but plain real tensors,
            or belongs to another model (names the first keys that do not fit).
    """
    path = _file(path)
    state = read_state(path, model.state_dict())
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        reason = _differences(model, state) or " ".join(str(error).split())
        raise ValueError(f"{path} is a checkpoint of another model: {reason}") from error


def read_state(path: Path, wanted: Iterable[str]) -> dict[str, Any]:
    """The state dict that a file holds, without the prefix that the wanted keys have there.

    Raises:
        FileNotFoundError: if there is no file.
        ValueError: if the file is damaged or holds no state dict of plain tensors.
    """
    path = _file(path)
    return _without_prefix(_state_dict(_read(path), path), wanted)


def _file(path: Path) -> Path:
    if not path.is_dir():
        return path
    weights = path / "weights.pt"
    if not weights.is_file():
        raise FileNotFoundError(f"{path} is a folder without {weights.name}: name a checkpoint")
    return weights


def _read(path: Path) -> Any:
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint {path}")
    with path.open("rb") as file:
        try:
            return torch.load(file, map_location="cpu", weights_only=True)
        # What a damaged file makes of the unpickler and the zip reader is anything.
        except Exception as error:
            if any(sign in str(error) for sign in SIGNS_OF_CODE):
                raise ValueError(
                    f"{path} holds pickled Python objects, which could run any code when loaded: "
                    "save model.state_dict() and pass that file"
                ) from error
            raise ValueError(
                f"{path} is damaged, or no checkpoint that torch.save wrote"
            ) from error


def _state_dict(content: Any, path: Path) -> dict[str, Any]:
    for wrapper in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    is_state = isinstance(content, Mapping) and any(isinstance(v, Tensor) for v in content.values())
    if not is_state:
        raise ValueError(
            f"{path} holds no state dict, neither as it is nor under {' or '.join(WRAPPERS)}"
        )
    for key, value in content.items():
        if not isinstance(key, str):
            raise ValueError(f"{path} holds no state dict: its keys are not all names, see {key!r}")
        _check_plain(key, value, path)
    return dict(content)


def _check_plain(key: str, value: Any, path: Path) -> None:
    if not isinstance(value, Tensor):
        return
    kinds = {
        "is on the meta device, without values": value.is_meta,
        "is sparse": value.layout != torch.strided,
        "is complex": value.is_complex(),
        "is quantized": value.is_quantized,
    }
    for kind, found in kinds.items():
        if found:
            raise ValueError(f"{key} of {path} {kind}: save plain tensors of real numbers")


def _without_prefix(state: dict[str, Any], wanted: Iterable[str]) -> dict[str, Any]:
    """What lies under the prefix that brings most of the wanted keys, the shortest of several."""
    wanted = list(wanted)
    parts = [key.split(".") for key in state]
    prefixes = {".".join([*key[:end], ""]) for key in parts for end in range(1, len(key))}
    prefix = max(
        ["", *sorted(prefixes, key=len)],
        key=lambda prefix: sum(f"{prefix}{key}" in state for key in wanted),
    )
    return {
        key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)
    }


def _differences(model: Module, state: Mapping[str, Any]) -> str:
    shapes = {
        key: f"{key} {tuple(state[key].shape)} instead of {tuple(value.shape)}"
        for key, value in model.state_dict().items()
        if isinstance(state.get(key), Tensor) and state[key].shape != value.shape
    }
    others = [key for key, value in state.items() if not isinstance(value, Tensor)]
    # Only loading tells which keys Brevitas' quantizers need.
    left_out = {*shapes, *others}
    fitting = {key: value for key, value in state.items() if key not in left_out}
    keys = model.load_state_dict(fitting, strict=False)
    parts = [
        _listed("missing", [key for key in keys.missing_keys if key not in left_out]),
        _listed("unexpected", keys.unexpected_keys),
        _listed("of another shape", list(shapes.values())),
        _listed("no tensors", others),
    ]
    return "; ".join(part for part in parts if part)


def _listed(what: str, keys: list[str]) -> str:
    if not keys:
        return ""
    more = f" and {len(keys) - NAMED_KEYS} more" if len(keys) > NAMED_KEYS else ""
    return f"{what} {', '.join(keys[:NAMED_KEYS])}{more}"
