"""On a GPU where there is one, else on the CPU."""

from contextlib import nullcontext

import pytest

from tests.ops.units import DEVICE


@pytest.fixture(autouse=True)
def tensors_on_the_device():
    with nullcontext() if DEVICE.type == "cpu" else DEVICE:
        yield
