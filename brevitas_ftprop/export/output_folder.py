"""A folder that is there whole or not at all."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from .output_file import TEMPORARY, check_name, new_permissions

# Tells our own folders from a user's: a JSON list of what was written there, empty until all is.
MARK = ".brevitas_ftprop"


def check_folder(path: str | os.PathLike[str], *, overwrite: bool) -> Path:
    """The path as a ``Path``, if a folder can be made there.

    Raises:
        FileNotFoundError: if the folder that is to hold it is missing.
        FileExistsError: if there is something already that may not be overwritten: a file, a folder
            that this package has not written (its mark is missing or torn) or that something was
            added to, one that another run is writing now, or any without ``overwrite``.
        PermissionError: if it cannot be written.
        OSError: for a name that is too long with ``.unfinished`` behind it.
    """
    folder = Path(os.path.realpath(path) if os.path.islink(path) else os.path.abspath(path))
    if not folder.parent.is_dir():
        raise FileNotFoundError(f"the folder {folder.parent} does not exist: create it first")
    check_name(_unfinished(folder))
    for existing in (folder, _unfinished(folder), _replaced(folder)):
        _refuse_foreign(existing)
    _refuse_one_in_use(folder)
    if _names(folder) and not overwrite:
        raise FileExistsError(f"{folder} exists: pass overwrite=True to replace it")
    for existing in (folder, _replaced(folder)):
        _refuse_added_files(existing)
    if not os.access(folder.parent, os.W_OK | os.X_OK):
        raise PermissionError(f"the folder {folder.parent} cannot be written")
    return folder


@contextmanager
def output_folder(folder: Path, *, overwrite: bool) -> Iterator[Path]:
    """Write into ``<folder>.unfinished``; it becomes ``folder`` when the block ends well.

    Where the block fails, the unfinished folder is left with the files so far, and what was at
    ``folder`` is untouched. The next run replaces it.

    Args:
        folder: as ``check_folder`` gave it.
        overwrite: replace a folder of ours that is there then.

    Raises:
        FileExistsError: if another run has begun to write it since, or something else has appeared
            there by the end.

    >>> with tempfile.TemporaryDirectory() as parent:
    ...     with output_folder(Path(parent) / "out", overwrite=False) as unfinished:
    ...         _ = (unfinished / "file").write_text("whole")
    ...     (Path(parent) / "out" / "file").read_text()
    'whole'
    """
    unfinished = _unfinished(folder)
    # Marked and locked before it has the name under which others see it.
    fresh = _temporary(folder)
    with (fresh / MARK).open("w") as mark:
        try:
            # Held by the process, not by the file: it ends with a killed run.
            fcntl.flock(mark, fcntl.LOCK_EX)
            _write_mark(mark, ())
            _remove_unfinished(folder)
            _rename(fresh, unfinished, _in_use(folder))
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise
        yield unfinished
        _write_mark(mark, sorted(entry.name for entry in unfinished.iterdir()))
        replaced = _replaced(folder)
        for existing in (folder, replaced):
            _refuse_foreign(existing)
            _refuse_added_files(existing)
        if overwrite and folder.exists():
            shutil.rmtree(replaced, ignore_errors=True)
            folder.rename(replaced)
        _rename(unfinished, folder, f"{folder} has appeared meanwhile: see {unfinished}")
        shutil.rmtree(replaced, ignore_errors=True)


def _write_mark(mark: TextIO, names: Sequence[str]) -> None:
    """On the disk, since a folder without a whole mark is nobody's to replace."""
    mark.seek(0)
    mark.truncate()
    json.dump(names, mark)
    mark.flush()
    os.fsync(mark.fileno())


def _written(folder: Path) -> list[str] | None:
    """What the mark lists; None for a folder that we have not written."""
    try:
        names = json.loads((folder / MARK).read_text())
    except (OSError, ValueError):
        return None
    return names if isinstance(names, list) else None


def _names(folder: Path) -> set[str]:
    """What lies in a folder, which another run may take away at any time."""
    try:
        return set(os.listdir(folder))
    except FileNotFoundError:
        return set()


def _refuse_foreign(folder: Path) -> None:
    if folder.is_symlink() and not folder.exists():
        raise FileExistsError(f"{folder} is a symbolic link that leads nowhere: remove it")
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"{folder} is a file: give the path of a folder")
    if _names(folder) and _written(folder) is None:
        raise FileExistsError(f"{folder} holds other files: give the path of a new folder")


def _refuse_added_files(folder: Path) -> None:
    added = _names(folder) - set(_written(folder) or ())
    if added:
        raise FileExistsError(
            f"{folder} also holds {', '.join(sorted(added))}, which would be lost: move it away, "
            "or give another path"
        )


def _refuse_one_in_use(folder: Path) -> None:
    with suppress(FileNotFoundError), (_unfinished(folder) / MARK).open() as file:
        _lock(file, fcntl.LOCK_SH, folder)


def _remove_unfinished(folder: Path) -> None:
    """Remove what an interrupted run left, unless another run gets hold of it first."""
    unfinished = _unfinished(folder)
    _refuse_foreign(unfinished)
    mark = unfinished / MARK
    with suppress(FileNotFoundError), mark.open() as file:
        _lock(file, fcntl.LOCK_EX, folder)
        # Since it was opened, another run may have put its own in its place.
        if not os.path.samestat(os.fstat(file.fileno()), mark.stat()):
            raise FileExistsError(_in_use(folder))
        stale = _temporary(folder)
        unfinished.rename(stale)
        shutil.rmtree(stale, ignore_errors=True)


def _lock(file: TextIO, kind: int, folder: Path) -> None:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        raise FileExistsError(_in_use(folder)) from None


def _rename(source: Path, target: Path, message: str) -> None:
    """Give a folder a name that is free, or that of an empty folder."""
    try:
        source.rename(target)
    except OSError as error:
        if os.path.lexists(target):
            raise FileExistsError(message) from error
        raise


def _in_use(folder: Path) -> str:
    return f"another run is writing {folder} now: give another path, or wait for its end"


def _temporary(folder: Path) -> Path:
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=TEMPORARY))
    temporary.chmod(new_permissions(0o777))
    return temporary


def _unfinished(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.unfinished")


def _replaced(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.replaced")
