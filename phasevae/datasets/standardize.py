"""Shift and scale of features, streamed over the rows with float64 moments.

Modes: ``none`` leaves the data alone; ``center`` subtracts the mean of each feature; ``global`` also divides by
one number, so that the mean variance of the features is 1; ``per-feature`` divides each feature by its own
standard deviation. A constant feature carries no variance to scale: it is kept at zero (by ``none``, as it is).
"""

from __future__ import annotations

import tempfile
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phasevae.datasets.base import Dataset, checked_choice, row_slices
from phasevae.errors import InputError

MODES = ("none", "center", "global", "per-feature")
LARGEST = 1e18
"""Squares of larger numbers overflow float32 in training."""

IN_MEMORY_BYTES = 512 * 2**20
"""Results above this size live in an unlinked temporary file."""


@dataclass(frozen=True)
class Moments:
    """Mean, variance (1/N), smallest and largest value of each feature; float64 [D]."""

    mean: NDArray
    variance: NDArray
    low: NDArray
    high: NDArray

    @property
    def constant(self) -> NDArray[np.bool_]:
        return (self.low == self.high) | (self.variance == 0)


def standardized(
    x: NDArray, mode: str, label: str, source: dict[str, Any], preprocessing: dict[str, Any] | None = None
) -> Dataset:
    """Data set of the raw samples `x` ([N, D]; further axes are flattened) after standardisation by `mode`.

    `label` names the data in messages. A float32 array with mode ``none`` is passed on as it is, so a
    memory-mapped file stays one. Warns (UserWarning) about constant features. Raises InputError for data that are
    not numbers, not finite, too few, of the wrong shape or constant altogether.
    """
    checked_choice("standardize", mode, MODES)
    x = _checked_array(x, label)
    found = moments(x, label)
    constant = np.flatnonzero(found.constant)
    if np.array_equal(found.low, found.high):
        raise InputError(f"{label}: every feature is constant, at least one must vary")
    if constant.size == x.shape[1] or (mode == "none" and _lost(found).all()):
        raise InputError(f"{label}: no feature varies by as much as single precision holds (standardize them?)")
    if constant.size:
        _warn_constant(constant, x.shape[1], mode, label)
    mean, scale = _shift_and_scale(found, mode)
    return Dataset(
        name="",
        x=_apply(x, mean, scale, mode),
        mean=mean,
        scale=scale,
        preprocessing={**(preprocessing or {}), "standardize": mode},
        constant_features=constant.tolist(),
        provenance={"source": source},
    )


def moments(x: NDArray, label: str) -> Moments:
    """Moments of the rows of `x` [N, D] in two passes. Raises InputError naming the first row and column that is not
    finite, or a magnitude that training in float32 cannot hold."""
    n, dimension = x.shape
    total = np.zeros(dimension)
    low = np.full(dimension, np.inf)
    high = np.full(dimension, -np.inf)
    for rows in row_slices(n, dimension):
        block = x[rows].astype(np.float64)
        _check_finite(block, rows.start, label)
        low = np.minimum(low, block.min(0))
        high = np.maximum(high, block.max(0))
        total += block.sum(0)
    # The exact value, so that a constant feature becomes exactly zero.
    mean = np.where(low == high, low, total / n)
    square = np.zeros(dimension)
    for rows in row_slices(n, dimension):
        square += np.square(x[rows].astype(np.float64) - mean).sum(0)
    return Moments(mean, square / n, low, high)


def _lost(found: Moments) -> NDArray[np.bool_]:
    """Features whose spread is below the spacing of float32 numbers at their mean."""
    return np.sqrt(found.variance) < np.finfo(np.float32).eps / 2 * np.abs(found.mean)


def _shift_and_scale(found: Moments, mode: str) -> tuple[NDArray, NDArray]:
    ones = np.ones_like(found.mean)
    if mode == "none":
        return np.zeros_like(found.mean), ones
    if mode == "global":
        return found.mean, ones * np.sqrt(found.variance.mean())
    if mode == "per-feature":
        return found.mean, np.where(found.constant, 1.0, np.sqrt(found.variance))
    return found.mean, ones


def _apply(x: NDArray, mean: NDArray, scale: NDArray, mode: str) -> NDArray[np.float32]:
    if mode == "none" and x.dtype == np.float32:
        return x
    result = new_array(x.shape)
    for rows in row_slices(*x.shape):
        result[rows] = (x[rows].astype(np.float64) - mean) / scale
    return result


def new_array(shape: tuple[int, int]) -> NDArray[np.float32]:
    """An empty array, of a temporary file where it would be large."""
    if 4 * shape[0] * shape[1] <= IN_MEMORY_BYTES:
        return np.empty(shape, np.float32)
    with tempfile.TemporaryFile() as stream:
        return np.memmap(stream, np.float32, "w+", shape=shape)


def _checked_array(x: NDArray, label: str) -> NDArray:
    if x.dtype.kind not in "fiub":
        raise InputError(f"{label}: holds values of type {x.dtype}, must be real numbers")
    if x.ndim < 2:
        raise InputError(f"{label}: shape {x.shape}, must be [samples, features]")
    if x.shape[0] < 2 or 0 in x.shape:
        raise InputError(f"{label}: shape {x.shape}, must have at least 2 samples and 1 feature")
    return x if x.ndim == 2 else x.reshape(x.shape[0], -1)


def _check_finite(block: NDArray, first_row: int, label: str) -> None:
    bad = ~(np.abs(block) <= LARGEST)
    if bad.any():
        row, column = np.argwhere(bad)[0]
        value = block[row, column]
        raise InputError(
            f"{label}: value {value} at row {first_row + row}, column {column} (counted from 0), "
            f"must be finite and at most {LARGEST:g} in magnitude"
        )


def _warn_constant(constant: NDArray, dimension: int, mode: str, label: str) -> None:
    listed = ", ".join(map(str, constant[:10])) + (", ..." if constant.size > 10 else "")
    kept = "kept as they are" if mode == "none" else "kept at zero"
    warnings.warn(
        f"{label}: {constant.size} of {dimension} features are constant and {kept}: {listed}", UserWarning, stacklevel=3
    )
