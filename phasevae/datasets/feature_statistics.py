"""TODO."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from phasevae.datasets.base import SampleStream
from phasevae.errors import InputError

LARGEST_DIMENSION = 20_000
"""A covariance of this size and its eigenvectors take 10 GB."""


@dataclass(frozen=True)
class FeatureStatistics:
    """What one pass tells of each feature [D]. `origin` is the first row and `shift` the mean relative to it."""

    n_samples: int
    origin: NDArray
    shift: NDArray
    low: NDArray
    high: NDArray
    share_binary: float  # part of all values that are 0 or 1

    @property
    def mean(self) -> NDArray:
        return self.origin + self.shift

    @property
    def constant(self) -> NDArray[np.bool_]:
        return self.low == self.high


def feature_statistics(rows: SampleStream, of_part: bool = False) -> FeatureStatistics:
    """One pass over the rows. Raises InputError for a value that is not finite, more than 20,000 features and, but for
    a part of the data, for fewer than 2 samples and where every feature is constant."""
    if rows.dimension > LARGEST_DIMENSION:
        raise InputError(
            f"{rows.label}: {rows.dimension} features, must be at most {LARGEST_DIMENSION} (resize the images?)"
        )
    n, n_binary = 0, 0
    origin = total = low = high = None
    for block in rows.read():
        if origin is None:
            origin = block[0].copy()
            total = np.zeros(rows.dimension)
            low, high = origin.copy(), origin.copy()
        n += len(block)
        n_binary += int(np.count_nonzero((block == 0) | (block == 1)))
        with np.errstate(invalid="ignore"):
            total += (block - origin).sum(0)
        low, high = np.minimum(low, block.min(0)), np.maximum(high, block.max(0))
    if n < (1 if of_part else 2):
        raise InputError(
            f"{rows.label}: shape ({n}, {rows.dimension}), must be [samples, features] with at least 2 samples"
        )
    finite = np.isfinite(total)
    if not finite.all():
        raise InputError(f"{rows.label}: column {np.argmin(finite)} (counted from 0) has a value that is not finite")
    if np.all(low == high) and not of_part:
        raise InputError(f"{rows.label}: every feature is constant, at least one must vary")
    return FeatureStatistics(n, origin, total / n, low, high, n_binary / (n * rows.dimension))
