"""What a part is given: the options, the time that is left, and someone to tell its findings."""

from __future__ import annotations

import importlib.util
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import torch

# What the trainer imports that a machine with PyTorch may lack.
TRAINER = (
    "docstring_parser",
    "jsonargparse",
    "lightning",
    "rich",
    "sklearn",
    "torchmetrics",
    "typeshed_client",
    "yaml",
)

Made = TypeVar("Made")


# No error, as the name of one would say.
class Unavailable(Exception):  # noqa: N818
    """What cannot be here, and why; no failure."""


class LostDeviceError(Exception):
    """A GPU that this process can use no more."""


class Check:
    """One part's run.

    Attributes:
        small: whether all is done in small, on a CPU.
        data: CIFAR-10, or None.
        out: folder of the report.
        work: folder for what goes on in a later call.
        soft, hard: when to start nothing more, and when this process is ended.
    """

    def __init__(
        self,
        options: Mapping[str, Any],
        soft: float,
        hard: float,
        done: set[str],
        tell: Callable[..., None],
    ) -> None:
        self.small = options["device"] == "cpu"
        self.data = Path(options["data"]) if options["data"] else None
        self.out, self.work = Path(options["out"]), Path(options["work"])
        self.soft, self.hard, self.done, self.tell = soft, hard, done, tell
        self.has_begun = False

    @property
    def device(self) -> torch.device:
        """What is checked."""
        # Here, so that a part can say what it lacks before it waits for imports.
        import torch

        return torch.device("cpu" if self.small else "cuda")

    def case(self, name: str, function: Callable[..., Made], *arguments: Any) -> Made | None:
        """Call a function; None where it fails, cannot be here, or there is no time for it.

        The first case of a part is always tried.

        Raises:
            LostDeviceError: where the failure has taken the device with it.
        """
        if name in self.done:
            return None
        if self.has_begun and time.time() >= self.soft:
            self.tell(event="left_out", case=name)
            return None
        self.has_begun = True
        self.tell(event="case", case=name)
        try:
            return function(*arguments)
        except Unavailable as error:
            self.tell(event="skipped", case=name, why=str(error))
        except Exception as error:
            self.failure(name, error, traceback.format_exc())
            if not self.small and _is_lost():
                raise LostDeviceError from error
        return None

    def failure(self, case: str, error: BaseException, trace: str) -> None:
        text = f"{type(error).__name__}: {error}"
        self.tell(event="failure", case=case, error=text, traceback=trace)

    def row(self, table: str, **row: Any) -> None:
        """A line of a table: column → value."""
        self.tell(event="row", table=table, row=row)

    def note(self, text: str) -> None:
        self.tell(event="note", text=text)


def needs(*modules: str) -> None:
    """Raise Unavailable unless all of these can be imported."""
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise Unavailable(f"needs {', '.join(missing)}")


def _is_lost() -> bool:
    import torch

    try:
        torch.cuda.synchronize()
    except RuntimeError:
        return True
    return False
