"""Shift and scale of features, streamed over the rows in float64.

Modes: ``none`` leaves the data as they are. ``center`` subtracts the mean of each feature. ``global`` also divides all
features by the same number, so that their mean variance is 1. ``per-feature`` divides each feature by its own standard
deviation instead. A constant feature has no variance to scale: it becomes zero (with ``none`` it stays as it is).
"""

from __future__ import annotations

import math
import tempfile
import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phasevae.datasets.base import Dataset, SampleStream, checked_choice, in_single_precision, row_slices
from phasevae.datasets.feature_statistics import check_varies, reading_of, stream_features
from phasevae.datasets.reading import Origin, RawSamples, Reading, ReadingWarning
from phasevae.errors import InputError

MODES = ("none", "center", "global", "per-feature")

IN_MEMORY_BYTES = 512 * 2**20
"""Results above this size live in an unlinked temporary file."""


@dataclass(frozen=True)
class Standardisation:
    """What is done to samples, and what they are afterwards."""

    mean: NDArray  # [D], subtracted
    scale: NDArray  # [D], divided by
    constant: NDArray[np.bool_]  # [D]
    reading: Reading

    def applied(self, block: NDArray) -> NDArray[np.float64]:
        """Return rows [b, D] as networks take them."""
        return in_single_precision((block - self.mean) / self.scale)


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
    ReadingWarning
        About constant features, and `Reading.concerns`.
    """
    x = _checked_array(raw.x, raw.label)
    origin = raw.origin
    if raw.x.ndim == 2 and preprocessing and "height" in preprocessing:
        origin = replace(origin, shape=_shape_of_images(preprocessing))
    rows = SampleStream(
        lambda: (x[part].astype(np.float64) for part in row_slices(*x.shape)), x.shape[1], raw.label, origin
    )
    found = fitted(rows, mode)
    return Dataset(
        name="",
        x=_applied(x, found, mode),
        mean=found.mean,
        scale=found.scale,
        preprocessing={**(preprocessing or {}), "standardize": mode},
        constant_features=np.flatnonzero(found.constant).tolist(),
        provenance={"source": raw.source},
        reading=found.reading,
        labels=raw.labels,
    )


def standardized_rows(rows: SampleStream, mode: str) -> SampleStream:
    """Standardise a stream in two passes over it.

    Parameters
    ----------
    rows : SampleStream
        In double precision.
    mode : str
        One of `MODES`.

    Raises
    ------
    InputError
        As `standardized` does.
    """
    found = fitted(rows, mode)
    return replace(rows.mapped(found.applied), origin=rows.origin, reading=found.reading)


def fitted(rows: SampleStream, mode: str) -> Standardisation:
    """Return how to standardise a stream of rows in double precision; see `standardized`."""
    checked_choice("standardize", mode, MODES)
    rows = single_precision(rows) if mode == "none" else rows
    features = stream_features(rows)
    if features.n_samples < 2:
        raise InputError(f"{rows.label}: shape (1, {rows.dimension}), must have at least 2 samples and 1 feature")
    check_varies(features, rows.label)
    mean, scale, constant = np.zeros(rows.dimension), np.ones(rows.dimension), features.constant
    if mode != "none":
        mean = features.mean
        variance = sum(np.square(block - mean).sum(0) for block in rows.read()) / features.n_samples
        constant = constant | (variance == 0)
        if constant.all():
            raise InputError(f"{rows.label}: no feature varies by as much as double precision holds")
        if mode == "global":
            scale *= np.sqrt(variance.mean())
        elif mode == "per-feature":
            scale = np.where(constant, 1.0, np.sqrt(variance))
    reading = reading_of(rows.origin or Origin(), features)
    if mode != "none":
        low, high = ((bound - mean) / scale for bound in (features.low, features.high))
        reading = replace(
            reading,
            low=float(np.float32(low.min())),
            high=float(np.float32(high.max())),
            preparation=(*reading.preparation, f"standardised ({mode})"),
        )
    if constant.any():
        _warn_constant(np.flatnonzero(constant), rows.dimension, mode, rows.label)
    for concern in reading.concerns().values():
        warnings.warn(f"{rows.label}: {concern}", ReadingWarning, stacklevel=3)
    return Standardisation(mean, scale, constant, reading)


def single_precision(rows: SampleStream) -> SampleStream:
    """Return a stream whose values are rounded as networks take them, once, with the rows before the rounding."""
    return replace(rows, read=lambda: map(in_single_precision, rows.read()), unrounded=rows.read)


def _shape_of_images(preprocessing: dict[str, Any]) -> tuple[int, ...]:
    height, width, channels = (preprocessing[key] for key in ("height", "width", "channels"))
    return (height, width) if channels == 1 else (height, width, channels)


def _applied(x: NDArray, found: Standardisation, mode: str) -> NDArray[np.float32]:
    if mode == "none" and x.dtype == np.float32:
        return x
    result = new_array(x.shape)
    for rows in row_slices(*x.shape):
        result[rows] = found.applied(x[rows].astype(np.float64))
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
        f"{label}: {constant.size} of {dimension} features are constant and {kept}: {listed}",
        ReadingWarning,
        stacklevel=4,
    )
