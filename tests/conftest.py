"""What the tests share: one thread, because their arrays are small and numbers are compared bit for bit."""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"

import pytest
import torch
from hypothesis import settings

# A deadline would measure the machine, not the code.
settings.register_profile("phasevae", deadline=None)
settings.load_profile("phasevae")


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Commands run within the test process set the number for all that follows."""
    torch.set_num_threads(1)
