"""Synthetic samples: Gaussian or a two-component mixture with a given covariance, clusters, Gaussians of classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phasevae.datasets.base import Dataset, checked_int, row_slices
from phasevae.datasets.reading import RawSamples
from phasevae.datasets.standardize import standardized
from phasevae.errors import InputError

DEFAULT_EIGENVALUES = tuple(float(value) for value in np.exp(-0.1 * np.arange(8)))


def synthetic(
    *,
    eigenvalues: Sequence[float] = DEFAULT_EIGENVALUES,
    n_samples: int = 256_000,
    seed: int = 1234,
    standardize: str = "center",
) -> Dataset:
    """Build a data set of zero-mean Gaussian samples in a random orthogonal basis.

    Parameters
    ----------
    eigenvalues : sequence of float
        Those of the covariance. The default is the synthetic set of Li et al. (2026), exp(-0.1 (i - 1)), i = 1..8.
    n_samples, seed : int
    standardize : str
        See `phasevae.datasets.standardize`; by default the sample mean is removed.
    """
    return _sampled("synthetic", _gaussian, eigenvalues, n_samples, seed, standardize)


def mixture(
    *,
    eigenvalues: Sequence[float] = DEFAULT_EIGENVALUES,
    separation: float = 0.5,
    n_samples: int = 256_000,
    seed: int = 1234,
    standardize: str = "center",
) -> Dataset:
    """Build a data set of two Gaussian components with a given covariance.

    X = O D^(1/2) Y with Y = (I - a^2 v v^T)^(1/2) G + a eta v, v = (1, ..., 1) / sqrt(D) and eta = +-1.

    Parameters
    ----------
    eigenvalues, n_samples, seed, standardize
        As in `synthetic`.
    separation : float
        a, in [0, 1].

    References
    ----------
    Li, arXiv:2610.11257.
    """
    if isinstance(separation, bool) or not isinstance(separation, int | float) or not 0 <= separation <= 1:
        raise InputError(f"separation: {separation!r}, must be a number between 0 and 1")

    def whitened(rng: np.random.Generator, n: int, dimension: int) -> NDArray:
        v = np.full(dimension, dimension**-0.5)
        g = rng.standard_normal((n, dimension))
        eta = rng.choice((-1.0, 1.0), n)
        # (I - a^2 v v^T)^(1/2) = I - (1 - sqrt(1 - a^2)) v v^T for a unit vector v.
        along = separation * eta - (1 - np.sqrt(1 - separation**2)) * (g @ v)
        return g + along[:, None] * v

    return _sampled("mixture", whitened, eigenvalues, n_samples, seed, standardize)


def clusters(
    *,
    weights: Sequence[float] = (0.1, 0.9),
    noise: float = 0.0,
    n_samples: int = 64_000,
    seed: int = 1234,
    standardize: str = "center",
) -> Dataset:
    """Build a data set of clusters at the corners of a simplex: a row is the unit vector of its cluster plus noise.

    Without noise, two clusters of weights w and 1 - w are a two-point variable of variance 2 w (1 - w) along one
    direction and constant along the other. n equal clusters have n - 1 eigenvalues 1 / n.

    Parameters
    ----------
    weights : sequence of float
        Probabilities of the clusters, before normalisation.
    noise : float
        Standard deviation of the isotropic Gaussian noise.
    n_samples, seed, standardize
        As in `synthetic`.
    """
    probability = _checked_weights(weights)
    if isinstance(noise, bool) or not isinstance(noise, int | float) or not 0 <= noise < np.inf:
        raise InputError(f"noise: {noise!r}, must be a number that is not negative")
    n = checked_int("n_samples", n_samples, 2)
    rng = np.random.default_rng(checked_int("seed", seed, 0))
    x = np.zeros((n, probability.size), np.float32)
    labels = rng.choice(probability.size, n, p=probability)
    x[np.arange(n), labels] = 1.0
    if noise:
        for rows in row_slices(n, probability.size, most_rows=65536):
            x[rows] += noise * rng.standard_normal((rows.stop - rows.start, probability.size))
    return standardized(RawSamples(x, "clusters", labels=labels), standardize)


def conditional(
    *,
    condition_eigenvalues: Sequence[Sequence[float]] = ((1.0, 0.1, 0.1, 0.1), (0.4, 0.1, 0.1, 0.1)),
    weights: Sequence[float] | None = None,
    spread: float = 1.0,
    n_samples: int = 64_000,
    seed: int = 1234,
    standardize: str = "center",
) -> Dataset:
    """Build a data set of Gaussian samples whose mean and covariance depend on their condition, one of a few classes.

    Each class has an orthogonal basis of its own, at random, so that the leading directions of two classes differ. The
    classes are the condition of the data set.

    Parameters
    ----------
    condition_eigenvalues : sequence of sequences of float
        Those of the covariance given each class, of one length.
    weights : sequence of float, optional
        Probabilities of the classes, before normalisation; equal by default.
    spread : float
        Standard deviation of the features of the classes' means.
    n_samples, seed, standardize
        As in `synthetic`.
    """
    spectra = [_checked_eigenvalues(values) for values in _checked_lists(condition_eigenvalues)]
    probability = _checked_weights([1.0] * len(spectra) if weights is None else weights)
    if probability.size != len(spectra):
        raise InputError(f"weights: {probability.size} numbers, must be {len(spectra)} as condition_eigenvalues has")
    if isinstance(spread, bool) or not isinstance(spread, int | float) or not 0 <= spread < np.inf:
        raise InputError(f"spread: {spread!r}, must be a number that is not negative")
    n, dimension = checked_int("n_samples", n_samples, 2), spectra[0].size
    basis_seed, sample_seed = np.random.SeedSequence(checked_int("seed", seed, 0)).spawn(2)
    basis_rng, rng = np.random.default_rng(basis_seed), np.random.default_rng(sample_seed)
    factors = [np.sqrt(lam) * orthogonal(basis_rng, dimension) for lam in spectra]
    means = spread * basis_rng.standard_normal((len(spectra), dimension))
    labels = rng.choice(len(spectra), n, p=probability)
    x = np.empty((n, dimension), np.float32)
    for rows in row_slices(n, dimension, most_rows=65536):
        whitened = rng.standard_normal((rows.stop - rows.start, dimension))
        for number, (factor, mean) in enumerate(zip(factors, means, strict=True)):
            chosen = labels[rows] == number
            x[rows][chosen] = whitened[chosen] @ factor.T + mean
    return standardized(RawSamples(x, "conditional", labels=labels), standardize)


def _gaussian(rng: np.random.Generator, n: int, dimension: int) -> NDArray:
    return rng.standard_normal((n, dimension))


def _sampled(
    kind: str,
    whitened: Callable[[np.random.Generator, int, int], NDArray],
    eigenvalues: Any,
    n_samples: Any,
    seed: Any,
    standardize: str,
) -> Dataset:
    lam = _checked_eigenvalues(eigenvalues)
    n = checked_int("n_samples", n_samples, 2)
    basis_seed, sample_seed = np.random.SeedSequence(checked_int("seed", seed, 0)).spawn(2)
    factor = np.sqrt(lam) * orthogonal(np.random.default_rng(basis_seed), lam.size)
    rng = np.random.default_rng(sample_seed)
    x = np.empty((n, lam.size), np.float32)
    for rows in row_slices(n, lam.size, most_rows=65536):
        x[rows] = whitened(rng, rows.stop - rows.start, lam.size) @ factor.T
    return standardized(RawSamples(x, kind), standardize)


def orthogonal(rng: np.random.Generator, dimension: int) -> NDArray:
    """Orthogonal matrix with Haar measure: QR of a Gaussian matrix with the signs of R removed (Mezzadri 2007)."""
    q, r = np.linalg.qr(rng.standard_normal((dimension, dimension)))
    return q * np.sign(np.diag(r))


def _checked_lists(lists: Any) -> Sequence[Any]:
    is_list = isinstance(lists, list | tuple) and all(isinstance(each, list | tuple) and each for each in lists)
    if not is_list or len(lists) < 2 or len({len(each) for each in lists}) > 1:
        raise InputError(
            f"condition_eigenvalues: {lists!r}, must be two or more lists of one length, one for each class"
        )
    return lists


def _checked_weights(weights: Any) -> NDArray:
    try:
        values = np.asarray(weights, dtype=np.float64)
    except (TypeError, ValueError):
        values = np.empty(0)
    if isinstance(weights, str) or values.ndim != 1 or values.size < 2 or not np.all((values > 0) & (values < np.inf)):
        raise InputError(f"weights: {weights!r}, must be a list of two or more positive numbers")
    return values / values.sum()


def _checked_eigenvalues(eigenvalues: Any) -> NDArray:
    try:
        lam = np.asarray(eigenvalues, dtype=np.float64)
    except (TypeError, ValueError):
        lam = np.empty(0)
    if isinstance(eigenvalues, str) or lam.ndim != 1 or not lam.size or not np.all((lam >= 0) & (lam < np.inf)):
        raise InputError(f"eigenvalues: {eigenvalues!r}, must be a list of numbers that are not negative")
    return lam
