"""Write folders whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["REPORT", "check_folder", "replacing_folder"]

# What tells a folder of ours, which may be replaced, from any other.
REPORT = "report.json"


def check_folder(path: str | os.PathLike[str], *, overwrite: bool) -> Path:
    """The path as an absolute ``Path``, if a folder can be written there.

    Raises:
        FileNotFoundError: if the folder that is to hold it is missing.
        NotADirectoryError: if there is a file.
        FileExistsError: if there is a folder and it may not be overwritten, or was not written by
            an export.
        PermissionError: if the folder that is to hold it cannot be written.
    """
    target = Path(os.path.abspath(path))
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise NotADirectoryError(f"{target} is not a folder: give another path")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"the folder {target.parent} does not exist: create it first")
    if target.is_dir() and any(target.iterdir()):
        if not overwrite:
            raise FileExistsError(f"{target} exists: pass overwrite=True to replace it")
        if not (target / REPORT).is_file():
            raise FileExistsError(
                f"{target} was not written by an export (it has no {REPORT}), so it is not "
                "replaced: give another path"
            )
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise PermissionError(f"the folder {target.parent} cannot be written")
    return target


@contextmanager
def replacing_folder(target: Path) -> Iterator[Path]:
    """A new folder beside ``target``, which takes its place if the block succeeds.

    Whatever was at ``target`` stays until then; if the block fails, nothing is left beside it.

    >>> with tempfile.TemporaryDirectory() as parent:
    ...     with replacing_folder(Path(parent) / "built") as folder:
    ...         _ = (folder / "file").write_text("whole")
    ...     sorted(path.name for path in Path(parent).iterdir())
    ['built']
    """
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as hidden:
        built, replaced = Path(hidden) / "new", Path(hidden) / "old"
        built.mkdir()
        yield built
        if target.exists():
            os.replace(target, replaced)
        try:
            os.replace(built, target)
        except BaseException:
            if replaced.exists():
                os.replace(replaced, target)
            raise
