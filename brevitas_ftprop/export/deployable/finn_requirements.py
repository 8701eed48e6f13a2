"""The requirements of the FINN flow, in one table."""

from __future__ import annotations

from .finn_copies import COPY_REQUIREMENTS
from .finn_flattening import FLATTENING_REQUIREMENTS
from .finn_io import IO_REQUIREMENTS
from .finn_layers import LAYER_REQUIREMENTS
from .finn_numbers import NUMBER_REQUIREMENTS
from .finn_operators import OPERATOR_REQUIREMENTS
from .finn_padding import PADDING_REQUIREMENTS
from .finn_quantization import QUANTIZATION_REQUIREMENTS
from .requirement import Requirements

FINN_REQUIREMENTS = Requirements(
    IO_REQUIREMENTS
    | OPERATOR_REQUIREMENTS
    | COPY_REQUIREMENTS
    | LAYER_REQUIREMENTS
    | FLATTENING_REQUIREMENTS
    | PADDING_REQUIREMENTS
    | QUANTIZATION_REQUIREMENTS
    | NUMBER_REQUIREMENTS
)
