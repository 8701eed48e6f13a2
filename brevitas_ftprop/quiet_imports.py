"""What Brevitas' import says of machines where nothing is missing, left out.

Importing this file leaves out two messages: that there is no CUDA runtime beside a compiler for it,
which PyTorch logs (older ones print it, and it stays), and that a package for large language models
is missing, which Brevitas warns of. Everything else that they log and warn of stays.
"""

import logging
import warnings

CUDA_LOGGER = "torch.utils.cpp_extension"
CUDA_MESSAGE = "No CUDA runtime is found"
HADAMARD_MESSAGE = "fast_hadamard_transform package not found"


def _is_worth_telling(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith(CUDA_MESSAGE)


logging.getLogger(CUDA_LOGGER).addFilter(_is_worth_telling)
warnings.filterwarnings("ignore", message=HADAMARD_MESSAGE)
