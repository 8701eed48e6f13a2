"""Make FINN usable from Python without Vivado and without its own command line."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from ..quiet import silence

__all__ = ["prepare_finn"]


def prepare_finn() -> None:
    """Import FINN and give it the settings that its own command line would.

    Raises:
        ImportError: where FINN is missing (says the install line).
    """
    os.environ.setdefault("FINN_BUILD_DIR", str(Path(tempfile.gettempdir()) / "finn_build"))
    try:
        with silence():
            import finn.util.settings as settings
            import finn.xsi as xsi
    except ImportError as error:
        raise ImportError("FINN is not installed: pip install 'brevitas-ftprop[finn]'") from error
    if settings._SETTINGS is None:
        settings.initialize_dummy_settings()
    # FINN looks for Vivado's simulator when one of these names is first used.
    for name in xsi._LAZY_NAMES:
        if name not in vars(xsi):
            setattr(xsi, name, object)
