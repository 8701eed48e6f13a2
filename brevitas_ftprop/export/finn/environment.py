"""Make FINN usable from Python on a machine without Vivado, for as long as it is used."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from .corrections import corrections

INSTALL = "pip install 'brevitas-ftprop[finn]'"
# Those that FINN's settings write.
VARIABLES = ("FINN_BUILD_DIR", "FINN_DEPS", "FINN_DEPS_DEFINITIONS", "NUM_DEFAULT_WORKERS")

_lock = threading.Lock()
_users = 0
_borrowed = ExitStack()


@contextmanager
def finn_environment() -> Iterator[None]:
    """Set FINN up in the block: settings, build folder, simulator stubs, corrected functions.

    FINN's builder imports names of Vivado's simulator, which only its own command line provides;
    they are stubbed, and nothing here calls them. ``FINN_BUILD_DIR`` is left alone where it is set,
    and is a folder of the block's own otherwise. Behind the block, however it ends, FINN, QONNX and
    the environment are as they were; blocks within each other or in several threads share one
    environment, until the last of them ends.

    Raises:
        ImportError: if finn-plus is not installed; says how to install it.

    References:
        ``finn.util.settings.initialize_dummy_settings``, ``finn.xsi`` (finn-plus 1.6.1).
    """
    global _users, _borrowed
    with _lock:
        if _users == 0:
            _borrowed = _set_up()
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                _borrowed.close()


def _set_up() -> ExitStack:
    """FINN's environment, until the stack is closed."""
    try:
        import finn.xsi
        from finn.util import settings
    except ImportError as error:
        raise ImportError(f"the FINN flow needs finn-plus: {INSTALL}") from error
    with ExitStack() as stack:
        stack.enter_context(_own_variables())
        # What initialize_dummy_settings writes.
        stack.enter_context(_replaced(settings, "_SETTINGS", settings._SETTINGS))
        if settings._SETTINGS is None:
            settings.initialize_dummy_settings()
        for name in finn.xsi._LAZY_NAMES - vars(finn.xsi).keys():
            stack.enter_context(_replaced(finn.xsi, name, object))
        for owner, name, method in corrections():
            stack.enter_context(_replaced(owner, name, method))
        return stack.pop_all()


@contextmanager
def _replaced(owner: object, name: str, value: object) -> Iterator[None]:
    """Let an attribute have another value in the block, or be there at all."""
    before = {key: known for key, known in vars(owner).items() if key == name}
    setattr(owner, name, value)
    try:
        yield
    finally:
        delattr(owner, name)
        for key, known in before.items():
            setattr(owner, key, known)


@contextmanager
def _own_variables() -> Iterator[None]:
    """A build folder for the block, and FINN's variables as they were behind it."""
    before = {name: os.environ[name] for name in VARIABLES if name in os.environ}
    with tempfile.TemporaryDirectory(prefix="finn-", ignore_cleanup_errors=True) as folder:
        try:
            os.makedirs(os.environ.setdefault("FINN_BUILD_DIR", folder), exist_ok=True)
            yield
        finally:
            for name in VARIABLES:
                os.environ.pop(name, None)
            os.environ.update(before)
