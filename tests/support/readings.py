"""What tests of readers share: data, and whether what is read of a file is what it should be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from phasevae import InputError
from phasevae.datasets.registry import dataset_from_path
from phasevae.spectrum.measure import spectrum_of

NAMES = ["a", "b", "c", "d"]
X = np.random.default_rng(0).normal(size=(40, 4)) @ np.random.default_rng(1).normal(size=(4, 4)) + 1
SPARSE = np.where(np.random.default_rng(2).random((40, 4)) < 0.5, 0, X)
TABLE = pd.DataFrame(X, columns=NAMES)


def assert_reads(path: Path, expected: np.ndarray = X, **options: Any) -> Any:
    """Compare samples with `expected`, and their spectrum with numpy's; return the data set."""
    dataset = dataset_from_path(path, **options)
    flat = np.asarray(expected).reshape(len(expected), -1).astype(np.float32)
    np.testing.assert_array_equal(dataset.x, flat)
    eigenvalues = np.linalg.eigvalsh(np.cov(flat.astype(float).T, bias=True).reshape(flat.shape[1], -1))[::-1]
    np.testing.assert_allclose(spectrum_of(dataset).eigenvalues, eigenvalues, rtol=3e-7, atol=3e-7 * eigenvalues[0])
    return dataset


def assert_refuses(path: Path, message: str, **options: Any) -> None:
    """Check that a file is refused in one line, which names it or the option, and matches `message`."""
    with pytest.raises(InputError, match=message) as caught:
        dataset_from_path(path, **options)
    text = str(caught.value)
    assert "\n" not in text and len(text) < 700
    assert text.startswith((str(path), *(f"{key}: " for key in options))), text
