"""Computes the spectrum of any data, streamed over the rows."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phasevae.datasets.base import Dataset, SampleStream
from phasevae.datasets.class_streams import streams_of_classes
from phasevae.datasets.feature_statistics import (
    FeatureStatistics,
    feature_statistics,
    reading_of_rows,
    stream_features,
)
from phasevae.datasets.reading import Reading, ReadingWarning
from phasevae.datasets.samples import read_samples
from phasevae.datasets.store import load_dataset
from phasevae.errors import InputError
from phasevae.spectrum.conditional import residuals, unaware_variance
from phasevae.spectrum.moments import (
    covariance_matrix,
    eigendecomposition,
    leading_eigenpairs,
    principal_components,
    shape_moments,
)
from phasevae.spectrum.spectrum import MOST_MEASURED, N_LEADING, ConditionSpectrum, Spectrum, assemble_spectrum
from phasevae.spectrum.variance_proxy import MOST_ROWS, N_COMPONENTS, variance_proxy_ratio


@dataclass(frozen=True)
class Measured:
    """A spectrum with the other results of the passes over the data."""

    spectrum: Spectrum
    features: FeatureStatistics
    variances: NDArray  # of the features, [D]
    covariance: NDArray | None  # [D, D]; None if it was not computed


def compute_spectrum(
    x: Any,
    chunk_rows: int | None = None,
    with_variance_proxy: bool = True,
    top: int | None = None,
    *,
    key: str | None = None,
    size: int | None = None,
    grey: bool | None = None,
    standardize: str | None = None,
    skip_damaged: bool = False,
    drop: str | int | list[str | int] | None = None,
    header: bool | None = None,
) -> Spectrum:
    """Compute the spectrum of samples in a few passes over the rows, in memory that does not grow with their number.

    A component is signed such that its largest entry is positive, which fixes the sign of its skewness.

    Parameters
    ----------
    x : array [N, D] or other samples
        Anything that `phasevae.datasets.samples.read_samples` reads: an array, a table, a loader, a path. Data are
        taken as they are, in single precision.
    chunk_rows : int, optional
        The most rows in a block.
    with_variance_proxy : bool
        Whether to estimate the variance proxy. It takes up to 65,536 rows of 8 components each.
    top : int, optional
        Compute only this number of largest eigenvalues, without the D x D matrix.
    key, size, grey, standardize, skip_damaged, drop, header : optional
        How the data are read; see `phasevae.predict`.

    Returns
    -------
    Spectrum
        The standard error of an eigenvalue is lambda sqrt((2 + excess kurtosis) / N), that of the sample variance along
        its direction.

    Raises
    ------
    InputError
        For fewer than 2 samples, constant data, values that are not finite, more than 20,000 dimensions, and options
        that do not fit the data.

    Warns
    -----
    ReadingWarning
        `Reading.concerns`.
    """
    options = {
        "key": key,
        "size": size,
        "grey": grey,
        "standardize": standardize,
        "skip_damaged": skip_damaged,
        "drop": drop,
        "header": header,
    }
    spectrum = measure_spectrum(read_samples(x, chunk_rows, **options), with_variance_proxy, top).spectrum
    warn_of_reading(spectrum.reading)
    return spectrum


def warn_of_reading(reading: Reading | None, stacklevel: int = 3) -> None:
    """Warn of what may be wrong with the samples."""
    for concern in {} if reading is None else reading.concerns().values():
        warnings.warn(concern, ReadingWarning, stacklevel=stacklevel)


def measure_spectrum(
    rows: SampleStream,
    with_variance_proxy: bool = True,
    top: int | None = None,
    features: FeatureStatistics | None = None,
) -> Measured:
    """Compute the spectrum of a stream and return the other results of the passes with it.

    Parameters
    ----------
    rows : SampleStream
    with_variance_proxy, top
        See `compute_spectrum`.
    features : FeatureStatistics, optional
        Those of these rows, if they are known.
    """
    features = feature_statistics(rows) if features is None else features
    if top is not None and top < 1:
        raise InputError(f"top: {top}, must be at least 1")
    if rows.condition is not None:
        return _measure_conditional(rows, features, with_variance_proxy, top)
    partial = top is not None and top < rows.dimension
    if partial:
        matrix = None
        eigenvalues, vectors, variances = leading_eigenpairs(rows, features, top)
    else:
        matrix = covariance_matrix(rows, features)
        eigenvalues, vectors = eigendecomposition(matrix)
        variances = np.diagonal(matrix)
    if eigenvalues[0] == 0:
        raise InputError(f"{rows.label}: every feature is constant, at least one must vary")
    leading = vectors[:, :MOST_MEASURED]
    skewness, kurtosis = shape_moments(rows, features, leading, eigenvalues)
    variance_proxy = None
    if with_variance_proxy:
        projected = principal_components(rows, features, leading[:, :N_COMPONENTS], MOST_ROWS)
        variance_proxy = float(eigenvalues[0] * variance_proxy_ratio(projected))
    spectrum = replace(
        assemble_spectrum(eigenvalues, float(variances.sum()), features.n_samples, skewness, kurtosis, variance_proxy),
        name="" if rows.label == "data" else rows.label,
        reading=reading_of_rows(rows, features),
        n_features=rows.dimension if partial else None,
    )
    return Measured(spectrum, features, variances, matrix)


def _measure_conditional(
    rows: SampleStream, features: FeatureStatistics, with_variance_proxy: bool, top: int | None
) -> Measured:
    """The spectrum of the residuals, with those of the classes."""
    left = residuals(rows, features)
    measured = measure_spectrum(left.rows, with_variance_proxy, top)
    classes = streams_of_classes(rows)
    of_classes = [_measure_class(each.rows, with_variance_proxy, top) for each in classes]
    spectra = [each.spectrum for each in of_classes] or [measured.spectrum]
    proxies = [spectrum.variance_proxy for spectrum in spectra if spectrum.variance_proxy is not None]
    unaware = None
    if measured.covariance is not None:
        shares = [each.share for each in classes]
        covariances = [each.covariance for each in of_classes]
        unaware = unaware_variance(measured.covariance, left.explained, shares, covariances)
    spectrum = replace(
        measured.spectrum,
        critical_variance=max(spectrum.critical_variance for spectrum in spectra),
        variance_proxy=max(proxies, default=None),
        reading=reading_of_rows(rows, features),
        condition={"kind": rows.condition.coding.kind, "source": rows.condition.source},
        conditions=tuple(
            ConditionSpectrum(each.value, each.share, spectrum)
            for each, spectrum in zip(classes, spectra, strict=False)
        ),
        unaware_variance=unaware,
    )
    return replace(measured, spectrum=spectrum, features=features)


def _measure_class(rows: SampleStream, with_variance_proxy: bool, top: int | None) -> Measured:
    """The spectrum of one class; all zeros where its rows are the same."""
    features = stream_features(rows)
    if not features.constant.all():
        return measure_spectrum(rows, with_variance_proxy, top, features)
    zeros = np.zeros(rows.dimension if top is None else min(top, rows.dimension))
    n_shown = min(N_LEADING, zeros.size)
    spectrum = Spectrum(
        zeros, zeros, 0.0, features.n_samples, 0.0, np.full(n_shown, np.nan), np.full(n_shown, np.nan), None
    )
    return Measured(spectrum, features, np.zeros(rows.dimension), np.zeros((rows.dimension, rows.dimension)))


def spectrum_of(source: Dataset | Path | str, chunk_rows: int | None = None) -> Spectrum:
    """Compute the spectrum of a data set and record its name, sha256 and provenance.

    Parameters
    ----------
    source : Dataset or path
        The data set, or the folder of a saved one.
    chunk_rows : int, optional
        The most rows in a block.
    """
    dataset = source if isinstance(source, Dataset) else load_dataset(source)
    spectrum = measure_spectrum(read_samples(dataset, chunk_rows)).spectrum
    if dataset.sha256 is not None:  # one that was built just now has warned
        warn_of_reading(spectrum.reading)
    return replace(spectrum, name=dataset.name, data_sha256=dataset.digest, provenance=dataset.provenance)
