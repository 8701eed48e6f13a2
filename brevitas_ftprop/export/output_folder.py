"""A folder that is there whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["check_folder", "output_folder"]

# Tells our own unfinished folders from a user's.
MARK = ".brevitas_ftprop"


def check_folder(path: str | os.PathLike[str], *, overwrite: bool) -> Path:
    """The path as a ``Path``, if a folder can be made there.

    Raises:
        FileNotFoundError: if the folder that is to hold it is missing.
        FileExistsError: if there is something already that may not be overwritten: a file, a folder
            that this package has not written, or any without ``overwrite``.
        PermissionError: if it cannot be written.
    """
    folder = Path(os.path.abspath(path))
    if not folder.parent.is_dir():
        raise FileNotFoundError(f"the folder {folder.parent} does not exist: create it first")
    for existing in (folder, _unfinished(folder), _replaced(folder)):
        if existing.exists() and not existing.is_dir():
            raise FileExistsError(f"{existing} is a file: give the path of a folder")
        is_own = (existing / MARK).is_file() or not (existing.exists() and any(existing.iterdir()))
        if not is_own:
            raise FileExistsError(f"{existing} holds other files: give the path of a new folder")
    if folder.is_dir() and any(folder.iterdir()) and not overwrite:
        raise FileExistsError(f"{folder} exists: pass overwrite=True to replace it")
    if not os.access(folder.parent, os.W_OK | os.X_OK):
        raise PermissionError(f"the folder {folder.parent} cannot be written")
    return folder


@contextmanager
def output_folder(folder: Path) -> Iterator[Path]:
    """Write into ``<folder>.unfinished``; it becomes ``folder`` when the block ends well.

    Where the block fails, the unfinished folder is left with the files so far, and what was at
    ``folder`` is untouched. The next run replaces it.

    Args:
        folder: as ``check_folder`` gave it.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as parent:
    ...     with output_folder(Path(parent) / "out") as unfinished:
    ...         _ = (unfinished / "file").write_text("whole")
    ...     (Path(parent) / "out" / "file").read_text()
    'whole'
    """
    unfinished = _unfinished(folder)
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    (unfinished / MARK).touch()
    yield unfinished
    replaced = _replaced(folder)
    shutil.rmtree(replaced, ignore_errors=True)
    if folder.exists():
        folder.rename(replaced)
    unfinished.rename(folder)
    shutil.rmtree(replaced, ignore_errors=True)


def _unfinished(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.unfinished")


def _replaced(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.replaced")
