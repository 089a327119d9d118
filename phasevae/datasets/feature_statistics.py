"""Statistics of each feature from one pass over the rows, in float64 and constant memory.

Values are summed relative to the first row: a constant feature then has exactly its value as mean, and a large offset
costs no digits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from phasevae.datasets.base import SampleStream, in_single_precision
from phasevae.datasets.reading import Origin, Reading
from phasevae.datasets.repeats import RowCounter
from phasevae.datasets.unusable import unusable_value
from phasevae.errors import InputError

LARGEST_DIMENSION = 20_000
"""A covariance of this size and its eigenvectors take 10 GB."""

LARGEST_VALUE = 1e150
"""Squares of larger values overflow float64."""

LARGEST_SAMPLE = 1e18
"""Squares of larger numbers overflow float32 in training."""


@dataclass(frozen=True)
class FeatureStatistics:
    """Statistics of each feature. Arrays have the shape [D] and the units of the data."""

    n_samples: int
    origin: NDArray  # the first row
    shift: NDArray  # the mean relative to it
    low: NDArray
    high: NDArray
    share_binary: float  # part of all values that are 0 or 1
    rounding: float = 0.0  # see `Reading`
    effective_samples: float | None = None  # see `Reading`

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
    if first_row is None:
        check_varies(features, rows.label)
    return features


def check_varies(features: FeatureStatistics, label: str) -> None:
    """Raise InputError where every feature is constant; `label` is the name of the data."""
    if features.constant.all():
        if features.rounding:
            raise InputError(f"{label}: no feature varies by as much as single precision holds (standardize them?)")
        raise InputError(f"{label}: every feature is constant, at least one must vary")


def stream_features(rows: SampleStream, first_row: int = 0) -> FeatureStatistics:
    """Compute statistics of the features of any stream of at least one row.

    Of samples without a reading, repeated rows are counted as well.

    Parameters
    ----------
    rows : SampleStream
    first_row : int
        The number of the first row, for messages.

    Raises
    ------
    InputError
        For a value that is not finite or too large. It names the row and the column.
    """
    n = n_binary = 0
    largest = LARGEST_VALUE if rows.origin is None else LARGEST_SAMPLE
    counter = RowCounter(rows.dimension) if rows.origin is not None and rows.reading is None else None
    rounding = _Rounding()
    for exact in rows.read() if rows.unrounded is None else rows.unrounded():
        block = exact if rows.unrounded is None else in_single_precision(exact)
        if n == 0:
            origin, total = block[0].copy(), np.zeros(rows.dimension)
            low, high = origin, origin
        with np.errstate(invalid="ignore"):
            low, high = np.minimum(low, block.min(0)), np.maximum(high, block.max(0))
        if not (np.maximum(-low, high) <= largest).all():
            raise unusable_value(rows, exact, first_row + n, largest)
        if counter is not None:
            counter.add(exact)
        if rows.unrounded is not None:
            rounding.add(exact, block)
        total += (block - origin).sum(0)
        n_binary += int(np.count_nonzero((block == 0) | (block == 1)))
        n += len(block)
    if n == 0:
        raise InputError(f"{rows.label}: has no rows")
    return FeatureStatistics(
        n_samples=n,
        origin=origin,
        shift=total / n,
        low=low,
        high=high,
        share_binary=n_binary / (n * rows.dimension),
        rounding=rounding.share(n),
        effective_samples=None if counter is None else counter.effective_samples(n),
    )


class _Rounding:
    """The mean square of rounding errors, relative to the variance of each feature."""

    def __init__(self) -> None:
        self._first: NDArray | None = None
        self._errors = self._sums = self._squares = 0.0
        self._varies = False

    def add(self, exact: NDArray, rounded: NDArray) -> None:
        """Add a block of rows before and after the rounding."""
        self._first = exact[0] if self._first is None else self._first
        shifted, error = exact - self._first, exact - rounded
        self._varies = self._varies or bool(shifted.any())
        self._errors = self._errors + np.einsum("ij,ij->j", error, error)
        self._sums = self._sums + shifted.sum(0)
        self._squares = self._squares + np.einsum("ij,ij->j", shifted, shifted)

    def share(self, n: int) -> float:
        """Return the largest share of a feature, 0 without any rounding; `n` is the number of rows."""
        if not self._varies:
            return 0.0
        variance = self._squares - self._sums**2 / n
        if not (variance > 0).any():  # smaller than the smallest number
            return 1.0
        return float(np.max(np.divide(self._errors, variance, out=np.zeros_like(variance), where=variance > 0)))


def reading_of(origin: Origin, features: FeatureStatistics) -> Reading:
    """Return what was read: what is known of samples, and the statistics of their features."""
    return Reading(
        n_samples=features.n_samples,
        shape=origin.shape or (features.low.size,),
        low=float(features.low.min()),
        high=float(features.high.max()),
        preparation=origin.changes,
        columns=origin.columns,
        parts=origin.parts,
        left_out=origin.left_out,
        rounding=features.rounding,
        effective_samples=features.effective_samples,
    )


def reading_of_rows(rows: SampleStream, features: FeatureStatistics | None = None) -> Reading | None:
    """Return what was read.

    Parameters
    ----------
    rows : SampleStream
    features : FeatureStatistics, optional
        Those of the rows, if they are known.

    Returns
    -------
    Reading or None
        None for numbers that were computed from samples.
    """
    if rows.reading is not None or rows.origin is None:
        return rows.reading
    return reading_of(rows.origin, stream_features(rows) if features is None else features)
