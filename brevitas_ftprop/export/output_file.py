"""A file that is there whole or not at all."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

# Begins temporary names, which are not made of the file's: they could be longer than names can be.
TEMPORARY = ".brevitas_ftprop."


@contextmanager
def output_file(path: Path, *, overwrite: bool) -> Iterator[BinaryIO]:
    """Write into a temporary file in the same folder; it becomes ``path`` when the block ends well.

    Args:
        path: as ``check_path`` gave it.
        overwrite: replace what is there then.

    Raises:
        FileExistsError: without ``overwrite``, if something has appeared at ``path`` since.
        OSError: if the file cannot be written; whatever was at ``path`` is untouched.

    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with output_file(Path(folder) / "file", overwrite=False) as stream:
    ...         _ = stream.write(b"whole")
    ...     (Path(folder) / "file").read_text()
    'whole'
    """
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=TEMPORARY)
    partial = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        kept = stat.S_IMODE(path.stat().st_mode) if path.exists() else new_permissions(0o666)
        partial.chmod(kept)
        if overwrite:
            partial.replace(path)
        else:
            _move_to_free_name(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def check_name(path: Path) -> None:
    """Raise unless a path's last part is short enough for its file system.

    Raises:
        OSError: says how long it may be.

    >>> check_name(Path("/model.onnx"))
    """
    longest = os.pathconf(path.parent, "PC_NAME_MAX")
    if len(os.fsencode(path.name)) > longest:
        raise OSError(f"{path.name} is longer than the {longest} bytes that a name may have there")


def new_permissions(wanted: int) -> int:
    """Those of any new file or folder; temporary ones are private."""
    mask = os.umask(0)
    os.umask(mask)
    return wanted & ~mask


def _move_to_free_name(partial: Path, path: Path) -> None:
    try:
        try:
            path.hardlink_to(partial)
        except FileExistsError:
            raise
        except OSError:
            # A file system without links: the name is taken first.
            path.touch(exist_ok=False)
            partial.replace(path)
    except FileExistsError:
        raise FileExistsError(f"{path} exists: pass overwrite=True to replace it") from None
