"""The CUDA kernels, emulated, in the place of the native CPU kernels: pytest -p emulated_kernels ..."""

from __future__ import annotations

import os

import torch

from phasevae.kernels import native  # noqa: F401  (it registers what is replaced)

torch.ops.load_library(os.environ["EMULATED_KERNELS"])
