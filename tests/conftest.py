"""What the tests share: one thread, as their arrays are small; OMP_NUM_THREADS asks for another number."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from hypothesis import settings

# A deadline would measure the machine, not the code.
settings.register_profile("phasevae", deadline=None)
settings.load_profile("phasevae")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first: begun last, they would run beside workers that have nothing left to do."""
    items.sort(key=lambda item: item.get_closest_marker("workflow") is None)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Commands run within the test process set the number for all that follows."""
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
