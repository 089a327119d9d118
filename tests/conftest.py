"""What the tests share: one thread, as their arrays are small; OMP_NUM_THREADS asks for another number."""

from __future__ import annotations

import functools
import gc
import os
import shutil

os.environ.setdefault("OMP_NUM_THREADS", "1")

import forked
import pytest
import torch
import typer.testing
from hypothesis import settings

# A deadline would measure the machine, not the code.
settings.register_profile("phasevae", deadline=None)
settings.load_profile("phasevae")
# For .ci/environments, where the same tests have run before: pytest --hypothesis-profile fewer.
settings.register_profile("fewer", deadline=None, max_examples=20)

# A test that runs many commands would build all of them anew for each.
typer.testing._get_command = functools.cache(typer.testing._get_command)


def pytest_xdist_auto_num_workers() -> int:
    """Two workers a processor, up to 8: half of the time they wait for processes that they started."""
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(processors, min(2 * processors, 8))


def pytest_configure(config: pytest.Config) -> None:
    """Programs of all workers are forks of one server."""
    if not hasattr(config, "workerinput"):
        folder = forked.share_server()
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The workflow's runs first: they take longest, and a worker with nothing left to do takes tests from the end."""
    items.sort(key=lambda item: item.get_closest_marker("workflow") is None)


def pytest_collection_finish() -> None:
    """Keep collections of garbage from walking the objects of the imported libraries again and again."""
    gc.freeze()


@pytest.fixture(autouse=True)
def seeded():
    """No test depends on chance, nor on those before it."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Commands run within the test process set the number for all that follows."""
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
