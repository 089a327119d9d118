"""Covariance eigenvalues of any data, streamed over the rows, with their sampling errors.

The largest eigenvalue is the predicted critical variance of the decoder (Li et al. 2026, Eq. 26).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from phasevae.artifacts.files import read_json, write_json
from phasevae.artifacts.schemas import check_record
from phasevae.datasets.base import Dataset, SampleStream, write_npy
from phasevae.datasets.feature_statistics import FeatureStatistics, feature_statistics
from phasevae.datasets.store import load_dataset
from phasevae.datasets.streams import sample_stream
from phasevae.errors import InputError
from phasevae.spectrum.moments import (
    covariance_matrix,
    eigendecomposition,
    leading_eigenpairs,
    principal_components,
    shape_moments,
)
from phasevae.spectrum.variance_proxy import MOST_ROWS, N_COMPONENTS, variance_proxy_ratio

if TYPE_CHECKING:
    pass


N_LEADING = 8
"""Number of components whose skewness and excess kurtosis are reported."""

MOST_MEASURED = 4096
"""Components beyond this one get the standard error of Gaussian data."""


@dataclass(frozen=True)
class Spectrum:
    """Eigenvalues of the covariance (1/N) of N samples in D dimensions, in squared units of the data."""

    eigenvalues: NDArray  # [D], descending; or only the leading ones
    standard_errors: NDArray  # as many
    trace: float
    n_samples: int
    critical_variance: float  # the first eigenvalue
    skewness: NDArray  # [min(D, 8)], of the leading principal components; NaN where the eigenvalue is zero
    excess_kurtosis: NDArray  # [min(D, 8)]
    variance_proxy: float | None = None  # collapse is the global optimum from here on (spectrum.variance_proxy)
    name: str = ""
    data_sha256: str | None = None
    provenance: dict[str, Any] = field(default_factory=dict)
    n_features: int | None = None  # D, where only the leading eigenvalues are known

    @property
    def dimension(self) -> int:
        return self.eigenvalues.size if self.n_features is None else self.n_features


@dataclass(frozen=True)
class Measured:
    """A spectrum with what the passes over the data tell besides: features [D], their variances [D], and the
    covariance [D, D] where it was computed."""

    spectrum: Spectrum
    features: FeatureStatistics
    variances: NDArray
    covariance: NDArray | None


def compute_spectrum(
    x: Any, chunk_rows: int = 65536, with_variance_proxy: bool = True, top: int | None = None
) -> Spectrum:
    """Spectrum of the samples `x`: an array [N, D], memory-mapped or not, or anything that `rows.rows_of` reads, in a
    few passes of constant memory in N.

    Sums are kept in float64: the mean first, then the products of centred rows, then the third and fourth moments
    of the principal components. The standard error of an eigenvalue is lambda sqrt((2 + excess kurtosis) / N), that
    of the sample variance along its direction. A component is signed so that its largest entry is positive, which
    fixes the sign of its skewness. `with_variance_proxy` adds that of up to 65,536 rows, held as 8 components each.
    With `top` only the `top` largest eigenvalues are found, without the D x D matrix (`covariance.leading`).
    Raises InputError for fewer than 2 samples, constant or not finite data, or more than 20,000 dimensions.
    """
    return measure_spectrum(sample_stream(x, chunk_rows), with_variance_proxy, top).spectrum


def measure_spectrum(
    rows: SampleStream, with_variance_proxy: bool = True, top: int | None = None, found: FeatureStatistics | None = None
) -> Measured:
    """`compute` with all that it found on the way. `found`: what `covariance.features` told of these rows."""
    found = feature_statistics(rows) if found is None else found
    n, dimension = found.n_samples, rows.dimension
    if top is not None and top < 1:
        raise InputError(f"top: {top}, must be at least 1")
    partial = top is not None and top < dimension
    if partial:
        matrix = None
        eigenvalues, vectors, variances = leading_eigenpairs(rows, found, top)
    else:
        matrix = covariance_matrix(rows, found)
        eigenvalues, vectors = eigendecomposition(matrix)
        variances = np.diagonal(matrix)
    if eigenvalues[0] == 0:
        raise InputError(f"{rows.label}: every feature is constant, at least one must vary")
    leading = vectors[:, :MOST_MEASURED]
    skewness, kurtosis = shape_moments(rows, found, leading, eigenvalues)
    variance_proxy = _variance_proxy(rows, found, leading, eigenvalues[0]) if with_variance_proxy else None
    spectrum = replace(
        assemble_spectrum(eigenvalues, float(variances.sum()), n, skewness, kurtosis, variance_proxy),
        name="" if rows.label == "data" else rows.label,
        n_features=dimension if partial else None,
    )
    return Measured(spectrum, found, variances, matrix)


def assemble_spectrum(
    eigenvalues: NDArray, trace: float, n: int, skewness: NDArray, kurtosis: NDArray, variance_proxy: float | None
) -> Spectrum:
    """The spectrum of `n` samples from its eigenvalues and the moments of the leading components, NaN where they are
    unknown; the standard errors are those of Gaussian data there."""
    error_kurtosis = np.zeros(eigenvalues.size)
    # At least -2 for any distribution, but for rounding.
    error_kurtosis[: kurtosis.size] = np.maximum(np.nan_to_num(kurtosis), -2)
    return Spectrum(
        eigenvalues=eigenvalues,
        standard_errors=eigenvalues * np.sqrt((2 + error_kurtosis) / n),
        trace=trace,
        n_samples=n,
        critical_variance=float(eigenvalues[0]),
        skewness=skewness[:N_LEADING],
        excess_kurtosis=kurtosis[:N_LEADING],
        variance_proxy=variance_proxy,
    )


def spectrum_of(source: Dataset | Path | str, chunk_rows: int = 65536) -> Spectrum:
    """Spectrum of a data set, or of the folder of a saved one, with its name, sha256 and provenance."""
    dataset = source if isinstance(source, Dataset) else load_dataset(source)
    found = compute_spectrum(dataset.x, chunk_rows)
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
        "variance_proxy": spectrum.variance_proxy,
        "data_sha256": spectrum.data_sha256,
        "provenance": spectrum.provenance,
    }


def write_spectrum(path: Path | str, spectrum: Spectrum, made_by: Mapping[str, Any] | None = None) -> None:
    """Write spectrum.json; `made_by` says how it was computed."""
    write_json(path, {**to_json(spectrum), **({} if made_by is None else {"made_by": made_by})})


_ARRAYS = ("eigenvalues", "standard_errors", "skewness", "excess_kurtosis")
_KEYS = (*_ARRAYS, "trace", "n_samples", "critical_variance", "name", "data_sha256", "provenance")


def read_spectrum(path: Path | str) -> Spectrum:
    """Read spectrum.json; null becomes NaN in the lists of moments. Raises InputError naming what is wrong."""
    record = read_json(path, required=_KEYS)
    values = {key: record[key] for key in _KEYS} | {"variance_proxy": record.get("variance_proxy")}
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
    check_record(path, record, "spectrum")
    dimension = record.get("dimension", eigenvalues.size)
    return Spectrum(**values, n_features=None if dimension == eigenvalues.size else dimension)


def _variance_proxy(rows: SampleStream, found: FeatureStatistics, vectors: NDArray, largest: float) -> float:
    projected = principal_components(rows, found, vectors[:, :N_COMPONENTS], MOST_ROWS)
    return float(largest * variance_proxy_ratio(projected))


def looks_gaussian(spectrum: Mapping[str, Any]) -> bool:
    """Whether no leading principal component has |skewness| or |excess kurtosis| beyond 0.1 and 4 standard errors.

    The standard errors are those of Gaussian samples, sqrt(6 / N) and sqrt(24 / N). Moments that are not
    recorded count as Gaussian.
    """
    n_samples = spectrum.get("n_samples") or np.inf
    for key, variance in (("skewness", 6.0), ("excess_kurtosis", 24.0)):
        moments = np.asarray(spectrum.get(key) or [], dtype=float)
        if np.any(np.abs(moments) > max(0.1, 4 * np.sqrt(variance / n_samples))):
            return False
    return True
