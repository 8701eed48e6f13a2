"""First weights from elsewhere: another run, a float network, torchvision."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import brevitas.config
from torch import Tensor, nn

from brevitas_ftprop.runs.checkpoint import read_state

from .failures import TrainingError, layers_of

NAMED = 3


def load_initial(network: nn.Module, path: str | Path) -> str:
    """Load a state dict into a network that may have other quantizers than the one it is of.

    All weights and statistics of layers have to be in it, those of the last layer excepted where it
    has another number of classes; quantizers take what there is for them.

    Returns:
        What was loaded, in a sentence.

    Raises:
        FileNotFoundError: if there is no file.
        ValueError: if it is damaged or holds no state dict.
        TrainingError: names what is missing or has another shape.
    """
    own = network.state_dict()
    state = read_state(Path(path), own)
    fitting = {
        key: value
        for key, value in state.items()
        if key in own and isinstance(value, Tensor) and value.shape == own[key].shape
    }
    needed = _of_layers(network, own)
    last, _, _ = needed[-1].rpartition(".")
    wanting = [key for key in needed if key not in fitting]
    refused = [key for key in wanting if key not in state or key.rpartition(".")[0] != last]
    if refused:
        more = f" and {len(refused) - NAMED} more" if len(refused) > NAMED else ""
        raise TrainingError(
            f"init_weights {path} is of another network: it has no {', '.join(refused[:NAMED])}"
            f"{more}, or with another shape"
        )
    rebuild = brevitas.config.REINIT_ON_STATE_DICT_LOAD
    # Scales that start from statistics of the weights are those of the new ones.
    brevitas.config.REINIT_ON_STATE_DICT_LOAD = True
    try:
        network.load_state_dict(fitting, strict=False)
    finally:
        brevitas.config.REINIT_ON_STATE_DICT_LOAD = rebuild
    kept = f"; {', '.join(wanting)} start anew, for other classes" if wanting else ""
    return f"first weights: {len(needed) - len(wanting)} tensors of {path}{kept}"


def _of_layers(network: nn.Module, own: Mapping[str, Tensor]) -> list[str]:
    """Names of what layers have beside their quantizers, in their order."""
    names = (
        f"{prefix}.{name}" if prefix else name
        for prefix, layer in layers_of(network)
        for name in (*layer._parameters, *layer._buffers)
    )
    return [name for name in names if name in own]
