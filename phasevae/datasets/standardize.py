"""Shift and scale of features, streamed over the rows in float64.

Modes: ``none`` leaves the data as they are. ``center`` subtracts the mean of each feature. ``global`` also divides all
features by the same number, so that their mean variance is 1. ``per-feature`` divides each feature by its own standard
deviation instead. A constant feature has no variance to scale: it becomes zero (with ``none`` it stays as it is).
"""

from __future__ import annotations

import math
import tempfile
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phasevae.datasets.base import Dataset, SampleStream, checked_choice, row_slices
from phasevae.datasets.feature_statistics import stream_features
from phasevae.datasets.reading import RawSamples, Reading
from phasevae.errors import InputError

MODES = ("none", "center", "global", "per-feature")
LARGEST = 1e18
"""Squares of larger numbers overflow float32 in training."""

IN_MEMORY_BYTES = 512 * 2**20
"""Results above this size live in an unlinked temporary file."""


def standardized(raw: RawSamples, mode: str, preprocessing: dict[str, Any] | None = None) -> Dataset:
    """Standardise raw samples.

    Parameters
    ----------
    raw : RawSamples
        Axes after the first are flattened to [N, D].
    mode : str
        One of `MODES`. With ``none`` a float32 array is used as it is, so a memory-mapped file stays one.
    preprocessing : dict, optional
        What was done to the samples before, for the record.

    Raises
    ------
    InputError
        For data that are not numbers, not finite, too few, of the wrong shape or constant.

    Warns
    -----
    UserWarning
        About constant features.
    """
    checked_choice("standardize", mode, MODES)
    label = raw.label
    x = _checked_array(raw.x, label)
    rows = SampleStream(lambda: (x[part].astype(np.float64) for part in row_slices(*x.shape)), x.shape[1], label)
    features = stream_features(rows, largest=LARGEST)
    mean = features.mean
    variance = sum(np.square(block - mean).sum(0) for block in rows.read()) / len(x)
    constant = features.constant | (variance == 0)
    if features.constant.all():
        raise InputError(f"{label}: every feature is constant, at least one must vary")
    if constant.all() or (mode == "none" and _lost_in_float32(mean, variance).all()):
        raise InputError(f"{label}: no feature varies by as much as single precision holds (standardize them?)")
    if constant.any():
        _warn_constant(np.flatnonzero(constant), x.shape[1], mode, label)
    scale = np.ones_like(mean)
    if mode == "none":
        mean = np.zeros_like(mean)
    elif mode == "global":
        scale *= np.sqrt(variance.mean())
    elif mode == "per-feature":
        scale = np.where(constant, 1.0, np.sqrt(variance))
    return Dataset(
        name="",
        x=_applied(x, mean, scale, mode),
        reading=_reading(raw, mode, (features.low - mean) / scale, (features.high - mean) / scale),
        mean=mean,
        scale=scale,
        preprocessing={**(preprocessing or {}), "standardize": mode},
        constant_features=np.flatnonzero(constant).tolist(),
        provenance={"source": raw.source},
    )


def _reading(raw: RawSamples, mode: str, low: NDArray, high: NDArray) -> Reading:
    return Reading(
        n_samples=len(raw.x),
        shape=tuple(raw.x.shape[1:]),
        low=float(low.min()),
        high=float(high.max()),
        preparation=raw.changes if mode == "none" else (*raw.changes, f"standardised ({mode})"),
        columns=raw.columns,
        parts=raw.parts,
        left_out=raw.left_out,
    )


def _lost_in_float32(mean: NDArray, variance: NDArray) -> NDArray[np.bool_]:
    """Features whose spread is below the spacing of float32 numbers at their mean."""
    return np.sqrt(variance) < np.finfo(np.float32).eps / 2 * np.abs(mean)


def _applied(x: NDArray, mean: NDArray, scale: NDArray, mode: str) -> NDArray[np.float32]:
    if mode == "none" and x.dtype == np.float32:
        return x
    result = new_array(x.shape)
    for rows in row_slices(*x.shape):
        result[rows] = (x[rows].astype(np.float64) - mean) / scale
    return result


def new_array(shape: tuple[int, ...], dtype: np.dtype = np.dtype(np.float32)) -> NDArray:
    """Return an uninitialised array, in a temporary file if it is large."""
    if dtype.itemsize * math.prod(shape) <= IN_MEMORY_BYTES:
        return np.empty(shape, dtype)
    with tempfile.TemporaryFile() as stream:
        return np.memmap(stream, dtype, "w+", shape=shape)


def _checked_array(x: NDArray, label: str) -> NDArray:
    if x.dtype.kind not in "fiub":
        raise InputError(f"{label}: holds values of type {x.dtype}, must be real numbers")
    if x.ndim < 2:
        raise InputError(f"{label}: shape {x.shape}, must be [samples, features]")
    if x.shape[0] < 2 or 0 in x.shape:
        raise InputError(f"{label}: shape {x.shape}, must have at least 2 samples and 1 feature")
    return x if x.ndim == 2 else x.reshape(x.shape[0], -1)


def _warn_constant(constant: NDArray, dimension: int, mode: str, label: str) -> None:
    listed = ", ".join(map(str, constant[:10])) + (", ..." if constant.size > 10 else "")
    kept = "kept as they are" if mode == "none" else "kept at zero"
    warnings.warn(
        f"{label}: {constant.size} of {dimension} features are constant and {kept}: {listed}", UserWarning, stacklevel=3
    )
