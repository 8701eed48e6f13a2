"""CIFAR-10 for the trainer: a folder, an archive to unpack, or random images."""

from __future__ import annotations

import fcntl
import os
import sys
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .check import Check


def data_section(check: Check, images: int) -> dict[str, Any]:
    """The section ``data`` of a recipe with so many training images at most.

    Raises:
        FileNotFoundError: for data that were named and are not there.
    """
    count = 64 if check.small else images
    counts = {"train_images": count, "test_images": min(count, 10_000)}
    if check.data is None:
        return {"name": "random", **counts}
    root = unpacked(check.data, check.work) if check.data.is_file() else check.data
    if not (root / "train").is_dir():
        raise FileNotFoundError(f"there is no folder train in {root}, which --data names")
    return {"name": "image_folder", "root": str(root), **counts}


def unpacked(archive: Path, work: Path) -> Path:
    """The folder of an archive's images; who comes second waits for who came first."""
    root = work / "data"
    with (work / "data.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not root.is_dir():
            partial = work / f"data.{os.getpid()}"
            with tarfile.open(archive) as members:
                members.extractall(partial, filter="data")
            partial.rename(root)
    return root


if __name__ == "__main__":
    unpacked(Path(sys.argv[1]), Path(sys.argv[2]))
