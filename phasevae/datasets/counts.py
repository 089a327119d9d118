"""Synthetic counts whose log rates vary along a few directions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phasevae.datasets.base import Dataset, checked_int, row_slices
from phasevae.datasets.reading import RawSamples
from phasevae.datasets.standardize import standardized
from phasevae.errors import InputError

DEFAULT_RATES = (10.0,) * 20
DEFAULT_LOG_VARIANCES = (0.5, 0.15)


def counts(
    *,
    rates: Sequence[float] = DEFAULT_RATES,
    log_variances: Sequence[float] = DEFAULT_LOG_VARIANCES,
    dispersion: float | None = None,
    n_samples: int = 64_000,
    seed: int = 1234,
) -> Dataset:
    """Build a data set of counts.

    The log rates of a row are Gaussian. Their covariance has the eigenvalues `log_variances` along cosines over the
    features, of half a period, one period, and so on, and none along the others. Given the rates the counts are
    Poisson, or negative binomial. A cosine rises and falls alike, so with equal rates the scores are not skewed.

    Parameters
    ----------
    rates : sequence of float
        The mean count of each feature.
    log_variances : sequence of float
        At most one for each feature.
    dispersion : float, optional
        Inverse dispersion r of a negative binomial, whose variance is m + m^2 / r given the rate m. By default the
        counts are Poisson.
    n_samples, seed : int
    """
    mean, variances = _positive("rates", rates), _positive("log_variances", log_variances)
    if variances.size > mean.size:
        raise InputError(f"log_variances: {variances.size} numbers, must be at most one for each of {mean.size} rates")
    if dispersion is not None:
        _positive("dispersion", [dispersion])
    n = checked_int("n_samples", n_samples, 2)
    loadings = np.sqrt(variances) * _cosines(mean.size, variances.size)
    # The mean of a log-normal rate is larger than the exponential of the mean log rate.
    level = np.log(mean) - 0.5 * np.square(loadings).sum(1)
    rng = np.random.default_rng(checked_int("seed", seed, 0))
    x = np.empty((n, mean.size), np.float32)
    for rows in row_slices(n, mean.size, most_rows=65536):
        size = rows.stop - rows.start
        rate = np.exp(level + rng.standard_normal((size, variances.size)) @ loadings.T)
        if dispersion is not None:
            rate *= rng.gamma(dispersion, 1 / dispersion, rate.shape)
        x[rows] = rng.poisson(rate)
    return standardized(RawSamples(x, "counts"), "none")


def _cosines(dimension: int, number: int) -> NDArray:
    """Return orthonormal cosines over the features as columns, [D, number]; the last of D of them is constant."""
    place, order = np.arange(dimension)[:, None] + 0.5, np.arange(1, number + 1) % dimension
    waves = np.cos(np.pi * place * order / dimension)
    return waves / np.linalg.norm(waves, axis=0)


def _positive(key: str, values: Any) -> NDArray:
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        array = np.empty(0)
    if isinstance(values, str) or array.ndim != 1 or not array.size or not np.all((array > 0) & (array < np.inf)):
        raise InputError(f"{key}: {values!r}, must be positive numbers")
    return array
