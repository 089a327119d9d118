"""Statistics of each feature from one pass over the rows, in float64 and constant memory.

Values are summed relative to the first row: a constant feature then has exactly its value as mean, and a large offset
costs no digits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from phasevae.datasets.base import SampleStream
from phasevae.errors import InputError

LARGEST_DIMENSION = 20_000
"""A covariance of this size and its eigenvectors take 10 GB."""

LARGEST_VALUE = 1e150
"""Squares of larger values overflow float64."""


@dataclass(frozen=True)
class FeatureStatistics:
    """Statistics of each feature. Arrays have the shape [D] and the units of the data."""

    n_samples: int
    origin: NDArray  # the first row
    shift: NDArray  # the mean relative to it
    low: NDArray
    high: NDArray
    share_binary: float  # part of all values that are 0 or 1

    @property
    def mean(self) -> NDArray:
        return self.origin + self.shift

    @property
    def constant(self) -> NDArray[np.bool_]:
        return self.low == self.high


def feature_statistics(rows: SampleStream, first_row: int | None = None) -> FeatureStatistics:
    """Compute the statistics that a spectrum needs.

    Parameters
    ----------
    rows : SampleStream
        All of the data or a part of them.
    first_row : int, optional
        For a part: the number of its first row. A part may be a single row, and constant.

    Raises
    ------
    InputError
        For more than 20,000 features, unusable values (see `stream_features`), fewer than 2 rows and constant data.
    """
    if rows.dimension > LARGEST_DIMENSION:
        raise InputError(
            f"{rows.label}: {rows.dimension} features, must be at most {LARGEST_DIMENSION} (resize the images?)"
        )
    features = stream_features(rows, first_row or 0)
    if first_row is None and features.n_samples < 2:
        raise InputError(
            f"{rows.label}: shape (1, {rows.dimension}), must be [samples, features] with at least 2 samples"
        )
    if first_row is None and features.constant.all():
        raise InputError(f"{rows.label}: every feature is constant, at least one must vary")
    return features


def stream_features(rows: SampleStream, first_row: int = 0, largest: float = LARGEST_VALUE) -> FeatureStatistics:
    """Compute statistics of the features of any stream of at least one row.

    Parameters
    ----------
    rows : SampleStream
    first_row : int
        The number of the first row, for messages.
    largest : float
        The largest magnitude of a value.

    Raises
    ------
    InputError
        For a value that is not finite or too large. It names the row and the column.
    """
    n = n_binary = 0
    for block in rows.read():
        if n == 0:
            origin, total = block[0].copy(), np.zeros(rows.dimension)
            low, high = origin, origin
        with np.errstate(invalid="ignore"):
            low, high = np.minimum(low, block.min(0)), np.maximum(high, block.max(0))
        if not (np.maximum(-low, high) <= largest).all():
            raise _unusable(block, first_row + n, largest, rows.label)
        total += (block - origin).sum(0)
        n_binary += int(np.count_nonzero((block == 0) | (block == 1)))
        n += len(block)
    if n == 0:
        raise InputError(f"{rows.label}: has no rows")
    return FeatureStatistics(n, origin, total / n, low, high, n_binary / (n * rows.dimension))


def _unusable(block: NDArray, first_row: int, largest: float, label: str) -> InputError:
    """The error that names the first value of a block that is not finite or too large."""
    row, column = np.argwhere(~(np.abs(block) <= largest))[0]
    return InputError(
        f"{label}: value {block[row, column]} at row {first_row + row}, column {column} (counted from 0), "
        f"must be finite and at most {largest:g} in magnitude"
    )
