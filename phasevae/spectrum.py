"""Covariance eigenvalues of any data, streamed over the rows, with their sampling errors.

The largest eigenvalue is the predicted critical variance of the decoder (Li et al. 2026, Eq. 26).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phasevae import artifacts, datasets
from phasevae.certificate import MOST_ROWS, N_COMPONENTS, certificate_ratio
from phasevae.datasets.base import Dataset, row_slices, write_npy
from phasevae.errors import InputError

N_LEADING = 8
"""Number of components whose skewness and excess kurtosis are reported."""
MOST_MEASURED = 4096
"""Components beyond this one get the standard error of Gaussian data."""
LARGEST_DIMENSION = 20_000
"""A covariance of this size and its eigenvectors take 10 GB."""
_NULL = 1e-12
"""Eigenvalues below this fraction of the first are rounding: their moments are undefined."""


@dataclass(frozen=True)
class Spectrum:
    """Eigenvalues of the covariance (1/N) of N samples in D dimensions, in squared units of the data."""

    eigenvalues: NDArray  # [D], descending
    standard_errors: NDArray  # [D]
    trace: float
    n_samples: int
    critical_variance: float  # the first eigenvalue
    skewness: NDArray  # [min(D, 8)], of the leading principal components; NaN where the eigenvalue is zero
    excess_kurtosis: NDArray  # [min(D, 8)]
    certificate: float | None = None  # collapse is the global optimum from here on (phasevae.certificate)
    name: str = ""
    data_sha256: str | None = None
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def dimension(self) -> int:
        return self.eigenvalues.size


def compute(x: NDArray, chunk_rows: int = 65536, with_certificate: bool = False) -> Spectrum:
    """Spectrum of the samples `x` [N, D], memory-mapped or not, in three passes of constant memory in N.

    Sums are kept in float64: the mean first, then the products of centred rows, then the third and fourth moments
    of the principal components. The standard error of an eigenvalue is lambda sqrt((2 + excess kurtosis) / N), that
    of the sample variance along its direction. A component is signed so that its largest entry is positive, which
    fixes the sign of its skewness. `with_certificate` adds that of up to 65,536 rows, held as 8 components each.
    Raises InputError for fewer than 2 samples, constant or not finite data, or more than 20,000 dimensions.
    """
    n, dimension = _checked_shape(x)
    mean = _shifted_mean(x, chunk_rows)
    covariance = np.zeros((dimension, dimension))
    for rows in row_slices(n, dimension, chunk_rows):
        centred = _shifted(x, rows) - mean
        covariance += centred.T @ centred
    values, vectors = np.linalg.eigh(covariance / n)
    eigenvalues = np.maximum(values[::-1], 0.0)
    if eigenvalues[0] == 0:
        raise InputError("data: every feature is constant, at least one must vary")
    leading = _signed(vectors[:, ::-1][:, :MOST_MEASURED])
    skewness, kurtosis = _shape_moments(x, mean, leading, eigenvalues, chunk_rows)
    error_kurtosis = np.zeros(dimension)
    # At least -2 for any distribution, but for rounding.
    error_kurtosis[: kurtosis.size] = np.maximum(np.nan_to_num(kurtosis), -2)
    return Spectrum(
        eigenvalues=eigenvalues,
        standard_errors=eigenvalues * np.sqrt((2 + error_kurtosis) / n),
        trace=float(np.trace(covariance) / n),
        n_samples=n,
        critical_variance=float(eigenvalues[0]),
        skewness=skewness[:N_LEADING],
        excess_kurtosis=kurtosis[:N_LEADING],
        certificate=_certificate(x, mean, leading, eigenvalues[0], chunk_rows) if with_certificate else None,
    )


def spectrum_of(source: Dataset | Path | str, chunk_rows: int = 65536) -> Spectrum:
    """Spectrum of a data set, or of the folder of a saved one, with its name, sha256 and provenance."""
    dataset = source if isinstance(source, Dataset) else datasets.load(source)
    found = compute(dataset.x, chunk_rows, with_certificate=True)
    # The bytes of data.npy that this data set has, or would have.
    sha256 = dataset.sha256 or write_npy(dataset.x)
    return replace(found, name=dataset.name, data_sha256=sha256, provenance=dataset.provenance)


def to_json(spectrum: Spectrum) -> dict[str, Any]:
    """The keys of spectrum.json."""
    return {
        "name": spectrum.name,
        "n_samples": spectrum.n_samples,
        "dimension": spectrum.dimension,
        "critical_variance": spectrum.critical_variance,
        "trace": spectrum.trace,
        "eigenvalues": spectrum.eigenvalues,
        "standard_errors": spectrum.standard_errors,
        "skewness": spectrum.skewness,
        "excess_kurtosis": spectrum.excess_kurtosis,
        "certificate": spectrum.certificate,
        "data_sha256": spectrum.data_sha256,
        "provenance": spectrum.provenance,
    }


def write(path: Path | str, spectrum: Spectrum) -> None:
    """Write spectrum.json."""
    artifacts.write_json(path, to_json(spectrum))


_ARRAYS = ("eigenvalues", "standard_errors", "skewness", "excess_kurtosis")
_KEYS = (*_ARRAYS, "trace", "n_samples", "critical_variance", "name", "data_sha256", "provenance")


def read(path: Path | str) -> Spectrum:
    """Read spectrum.json; null becomes NaN in the lists of moments. Raises InputError naming what is wrong."""
    record = artifacts.read_json(path, required=_KEYS)
    values = {key: record[key] for key in _KEYS} | {"certificate": record.get("certificate")}
    for key in _ARRAYS:
        try:
            values[key] = np.array(record[key], dtype=np.float64)
        except (TypeError, ValueError):
            values[key] = np.empty(())
        if values[key].ndim != 1 or not values[key].size:
            raise InputError(f"{path}: key '{key}' is not a list of numbers")
    eigenvalues = values["eigenvalues"]
    if not np.all(eigenvalues >= 0) or np.any(np.diff(eigenvalues) > 0) or eigenvalues[0] == 0:
        raise InputError(f"{path}: key 'eigenvalues' must descend from a positive number and not go below zero")
    if values["standard_errors"].shape != eigenvalues.shape:
        raise InputError(f"{path}: key 'standard_errors' must have one number for each of the eigenvalues")
    return Spectrum(**values)


def _shifted(x: NDArray, rows: slice) -> NDArray[np.float64]:
    """Rows relative to the first one: a constant feature is exactly zero, and a large offset costs no digits."""
    return x[rows].astype(np.float64) - x[0].astype(np.float64)


def _shifted_mean(x: NDArray, chunk_rows: int) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore"):
        mean = sum(_shifted(x, rows).sum(0) for rows in row_slices(*x.shape, chunk_rows)) / len(x)
    finite = np.isfinite(mean)
    if not finite.all():
        raise InputError(f"data: column {np.argmin(finite)} (counted from 0) has a value that is not finite")
    return mean


def _shape_moments(
    x: NDArray, mean: NDArray, leading: NDArray, eigenvalues: NDArray, chunk_rows: int
) -> tuple[NDArray, NDArray]:
    """Skewness and excess kurtosis of the projections on the columns of `leading` [D, k]. Shapes [k]."""
    third, fourth = np.zeros((2, leading.shape[1]))
    for rows in row_slices(*x.shape, chunk_rows):
        projected = (_shifted(x, rows) - mean) @ leading
        squared = np.square(projected)
        third += np.einsum("bk,bk->k", squared, projected)
        fourth += np.einsum("bk,bk->k", squared, squared)
    variance = eigenvalues[: leading.shape[1]]
    variance = np.where(variance > _NULL * eigenvalues[0], variance, np.nan)
    return third / len(x) / variance**1.5, fourth / len(x) / variance**2 - 3


def _certificate(x: NDArray, mean: NDArray, leading: NDArray, largest: float, chunk_rows: int) -> float:
    thinned = x[:: max(1, -(-len(x) // MOST_ROWS))]
    directions = leading[:, :N_COMPONENTS]
    origin = x[0].astype(np.float64) + mean
    parts = [
        (thinned[rows].astype(np.float64) - origin) @ directions for rows in row_slices(*thinned.shape, chunk_rows)
    ]
    return float(largest * certificate_ratio(np.concatenate(parts)))


def _signed(vectors: NDArray) -> NDArray:
    largest = np.take_along_axis(vectors, np.abs(vectors).argmax(0)[None], 0)
    return vectors * np.where(largest < 0, -1.0, 1.0)


def _checked_shape(x: NDArray) -> tuple[int, int]:
    if x.ndim != 2 or x.shape[0] < 2 or x.shape[1] < 1:
        raise InputError(f"data: shape {x.shape}, must be [samples, features] with at least 2 samples")
    if x.shape[1] > LARGEST_DIMENSION:
        raise InputError(f"data: {x.shape[1]} features, must be at most {LARGEST_DIMENSION} (resize the images?)")
    return x.shape
