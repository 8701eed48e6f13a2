"""How deep the FIFOs are to be."""

from __future__ import annotations

from collections.abc import Mapping

from .network import SHALLOWEST, Network

FROM_FOLDING = "folding"
AUTO = "auto"


def check_depths(fifo_depths: str | Mapping[str, int]) -> None:
    """Raise for what is no way to give depths.

    Raises:
        TypeError, ValueError: says what is.
    """
    if isinstance(fifo_depths, str):
        if fifo_depths not in (FROM_FOLDING, AUTO):
            raise ValueError(
                f'fifo_depths must be "{FROM_FOLDING}", "{AUTO}" or a dict of depths by FIFO, not'
                f" {fifo_depths!r}"
            )
    elif not isinstance(fifo_depths, Mapping):
        raise TypeError(
            f'fifo_depths must be "{FROM_FOLDING}", "{AUTO}" or a dict of depths by FIFO, not'
            f" {type(fifo_depths).__name__}"
        )


def depths_of(network: Network, changed: Mapping[str, int]) -> dict[str, int]:
    """The depth of each FIFO: that of the nodes' attributes, unless it is told.

    Raises:
        ValueError: for a FIFO that is not there, or a depth below 2.
    """
    names = [fifo.name for fifo in network.fifos]
    for name in changed:
        if name not in names:
            raise ValueError(f"the accelerator has no FIFO {name!r}; it has {', '.join(names)}")
    depths = {fifo.name: fifo.depth for fifo in network.fifos} | dict(changed)
    for fifo in network.fifos:
        depth = depths[fifo.name]
        if isinstance(depth, bool) or not isinstance(depth, int) or depth < SHALLOWEST:
            raise ValueError(
                f"{fifo.name} between {fifo.ends} has depth {depth!r}: FINN's FIFOs hold"
                f" {SHALLOWEST} transactions or more"
            )
    return depths
