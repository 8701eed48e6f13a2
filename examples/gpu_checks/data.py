"""CIFAR-10 for the trainer: a folder, an archive to unpack, or random images."""

from __future__ import annotations

import tarfile
from typing import Any

from .check import Check

__all__ = ["data_section"]


def data_section(check: Check) -> dict[str, Any]:
    """The section ``data`` of a recipe.

    Raises:
        FileNotFoundError: for data that were named and are not there.
    """
    count = 64 if check.small else None
    if check.data is None:
        return {"name": "random", "train_images": count or 50_000, "test_images": 64}
    root = check.data
    if root.is_file():
        root = check.work / "data"
        if not (root / "complete").is_file():
            with tarfile.open(check.data) as archive:
                archive.extractall(root, filter="data")
            (root / "complete").touch()
    if not (root / "train").is_dir():
        raise FileNotFoundError(f"there is no folder train in {root}, which --data names")
    return {
        "name": "image_folder",
        "root": str(root),
        "train_images": count or 50_000,
        "test_images": count or 10_000,
    }
