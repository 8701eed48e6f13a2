"""A folder that is there whole or not at all."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["check_folder", "output_folder"]

# Tells our own folders from a user's, and lists what was written there.
MARK = ".brevitas_ftprop"


def check_folder(path: str | os.PathLike[str], *, overwrite: bool) -> Path:
    """The path as a ``Path``, if a folder can be made there.

    Raises:
        FileNotFoundError: if the folder that is to hold it is missing.
        FileExistsError: if there is something already that may not be overwritten: a file, a folder
            that this package has not written or that something was added to, one that another run
            is writing now, or any without ``overwrite``.
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
    _refuse_one_in_use(folder)
    if folder.is_dir() and any(folder.iterdir()) and not overwrite:
        raise FileExistsError(f"{folder} exists: pass overwrite=True to replace it")
    if folder.is_dir():
        _refuse_added_files(folder)
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

    Raises:
        FileExistsError: if another run has begun to write it since.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as parent:
    ...     with output_folder(Path(parent) / "out") as unfinished:
    ...         _ = (unfinished / "file").write_text("whole")
    ...     (Path(parent) / "out" / "file").read_text()
    'whole'
    """
    _refuse_one_in_use(folder)
    unfinished = _unfinished(folder)
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    with (unfinished / MARK).open("w") as mark:
        # Held by the process, not by the file: it ends with a killed run.
        fcntl.flock(mark, fcntl.LOCK_EX)
        yield unfinished
        mark.write("\n".join(sorted(entry.name for entry in unfinished.iterdir())))
        replaced = _replaced(folder)
        shutil.rmtree(replaced, ignore_errors=True)
        if folder.exists():
            folder.rename(replaced)
        unfinished.rename(folder)
        shutil.rmtree(replaced, ignore_errors=True)


def _refuse_one_in_use(folder: Path) -> None:
    mark = _unfinished(folder) / MARK
    if not mark.is_file():
        return
    with mark.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            message = f"another run is writing {folder} now: give another path, or wait for its end"
            raise FileExistsError(message) from None


def _refuse_added_files(folder: Path) -> None:
    written = (folder / MARK).read_text().splitlines() if (folder / MARK).is_file() else []
    added = {entry.name for entry in folder.iterdir()} - set(written) if written else set()
    if added:
        raise FileExistsError(
            f"{folder} also holds {', '.join(sorted(added))}, which would be lost: move it away, "
            "or give another path"
        )


def _unfinished(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.unfinished")


def _replaced(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.replaced")
