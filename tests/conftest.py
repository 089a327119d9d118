"""What the tests share: one thread, because their arrays are small and numbers are compared bit for bit."""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"

import pytest
import torch
from hypothesis import settings

from phasevae.measurement import measure

# A deadline would measure the machine, not the code.
settings.register_profile("phasevae", deadline=None)
settings.load_profile("phasevae")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first: begun last, they would run beside workers that have nothing left to do."""
    items.sort(key=lambda item: item.get_closest_marker("workflow") is None)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Commands run within the test process set the number for all that follows."""
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def few_draws():
    """For tests that compare trainings with each other: four fifths of the time of a small one go into the draws of
    its log likelihood."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "LIKELIHOOD_DRAWS", 8)
        yield
