"""Whether a command was told which weights it is about."""

from __future__ import annotations

from pathlib import Path


def check_weights(model: str, checkpoint: Path | None, *, untrained: bool) -> None:
    """Raise unless there is a checkpoint, or it was said that there is none.

    Raises:
        ValueError: if neither or both were given.
    """
    if checkpoint is not None and untrained:
        raise ValueError("--checkpoint and --untrained exclude each other: pass one of them")
    if checkpoint is None and not untrained:
        raise ValueError(
            f"no --checkpoint was given, so that the weights are those that {model} gives: pass "
            "--checkpoint FILE, or --untrained if that is meant"
        )
