"""The errors that tests/cuda_on_cpu/mutants.py puts into the CUDA kernels still have their places in the sources."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

PATH = Path(__file__).parents[1] / "cuda_on_cpu" / "mutants.py"
SPEC = importlib.util.spec_from_file_location("mutants", PATH)
mutants = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(mutants)


@pytest.mark.parametrize("mutant", mutants.read_mutants(), ids=lambda mutant: f"{mutant.file}: {mutant.name}")
def test_a_mutant_changes_one_place(mutant):
    """`changed_source` raises ValueError where there is another number of places."""
    assert mutants.changed_source(mutant) != (mutants.CSRC / mutant.file).read_text()
