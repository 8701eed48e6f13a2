"""Where there is no GPU, Triton's kernels run in its interpreter."""

import os

import torch

# Triton reads it when a kernel is made, which is when a step is first computed by one.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")
