"""Make FINN usable from Python on a machine without Vivado."""

from __future__ import annotations

import os
import tempfile

from .exact_identities import remove_exact_identities_only
from .zero_thresholds import fix_thresholds_of_minus_one_and_zero

__all__ = ["prepare_finn"]

INSTALL = "pip install 'brevitas-ftprop[finn]'"


def prepare_finn() -> None:
    """Set FINN up for graph transformations and estimates: settings, build folder, simulator stubs.

    FINN's builder imports names of Vivado's simulator, which only its own command line provides;
    they are stubbed, and nothing here calls them. ``FINN_BUILD_DIR`` is left alone where it is set.

    Raises:
        ImportError: if finn-plus is not installed; says how to install it.

    References:
        ``finn.util.settings.initialize_dummy_settings``, ``finn.xsi`` (finn-plus 1.6.1).
    """
    try:
        import finn.xsi
        from finn.util import settings
    except ImportError as error:
        raise ImportError(f"the FINN flow needs finn-plus: {INSTALL}") from error
    if "FINN_BUILD_DIR" not in os.environ:
        os.environ["FINN_BUILD_DIR"] = os.path.join(tempfile.gettempdir(), "brevitas_ftprop_finn")
    os.makedirs(os.environ["FINN_BUILD_DIR"], exist_ok=True)
    if settings._SETTINGS is None:
        settings.initialize_dummy_settings()
    for name in finn.xsi._LAZY_NAMES:
        if name not in vars(finn.xsi):
            setattr(finn.xsi, name, object)
    fix_thresholds_of_minus_one_and_zero()
    remove_exact_identities_only()
