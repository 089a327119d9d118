"""Moments of streamed samples: the covariance matrix or its leading eigenpairs, and the shape of the components.

Everything is summed in float64 over blocks of rows, in memory that does not grow with their number. Blocks are
shifted by the first row: a constant feature is then exactly zero, and a large offset costs no digits.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from phasevae.datasets.base import SampleStream
from phasevae.datasets.feature_statistics import FeatureStatistics
from phasevae.errors import InputError

_NULL = 1e-12
"""Eigenvalues below this fraction of the first are rounding errors, and their moments are undefined."""

WHOLLY_MEASURED, THINNED_ROWS = 64, 16_384
"""The shape of this number of components is measured on all rows, that of the others on this number of rows, which is
enough for standard errors."""

_EXTRA = 16
"""Directions of a block in addition to the required ones."""

_MOST_BLOCKS = 40
_RESIDUAL = 3e-3
"""An eigenvector is accepted when |C v - lambda v| is below this fraction of lambda. The error of lambda is of second
order in it if the next eigenvalue is not close. If it is close, both are right to within this fraction."""

_SETTLED = 1e-5
"""An eigenvalue has converged when a block changes it by less than this fraction."""


def covariance_matrix(rows: SampleStream, features: FeatureStatistics) -> NDArray:
    """Return the covariance (1/N) of the features, [D, D].

    Parameters
    ----------
    rows : SampleStream
    features : FeatureStatistics
        Those of the rows.
    """
    covariance = np.zeros((rows.dimension, rows.dimension))
    for centred in _centred(rows, features):
        covariance += centred.T @ centred
    return covariance / features.n_samples


def eigendecomposition(covariance: NDArray) -> tuple[NDArray, NDArray]:
    """Return eigenvalues [D], descending and not negative, and vectors [D, D] whose largest entries are positive."""
    values, vectors = np.linalg.eigh(covariance)
    return np.maximum(values[::-1], 0.0), _signed(vectors[:, ::-1])


def leading_eigenpairs(rows: SampleStream, features: FeatureStatistics, k: int) -> tuple[NDArray, NDArray, NDArray]:
    """Compute the largest eigenvalues of the covariance without the matrix.

    Block Krylov iteration from random directions of a fixed seed, with Rayleigh-Ritz values over all blocks. Each block
    takes one pass over the rows. The iteration ends when the residuals are small.

    Parameters
    ----------
    rows : SampleStream
    features : FeatureStatistics
        Those of the rows.
    k : int
        Number of eigenvalues.

    Returns
    -------
    eigenvalues : array [k]
    vectors : array [D, k]
    variances : array [D]
        Of the features.

    Raises
    ------
    InputError
        If the iteration does not converge.

    References
    ----------
    C. Musco and C. Musco, Randomized block Krylov methods for stronger and faster approximate singular value
    decomposition, NeurIPS (2015).
    """
    dimension, n = rows.dimension, features.n_samples
    k = min(k, dimension, n)
    width = min(k + _EXTRA, dimension)
    block = np.random.default_rng(0).standard_normal((dimension, width))
    basis, products = np.empty((dimension, 0)), np.empty((dimension, 0))
    variance, before = None, np.zeros(k)
    for _ in range(_MOST_BLOCKS):
        block = _orthonormal(block, basis)
        product = np.zeros_like(block)
        square = np.zeros(dimension)
        for centred in _centred(rows, features):
            product += centred.T @ (centred @ block)
            if variance is None:
                square += np.square(centred).sum(0)
        variance = square / n if variance is None else variance
        product /= n
        basis, products = np.hstack([basis, block]), np.hstack([products, product])
        values, mixing = np.linalg.eigh(basis.T @ products)
        values, mixing = values[::-1][:k], mixing[:, ::-1][:, :k]
        vectors = basis @ mixing
        residual = np.linalg.norm(products @ mixing - vectors * values, axis=0)
        settled = (np.abs(values - before) <= _SETTLED * values) & (residual <= _RESIDUAL * values)
        settled |= values <= _NULL * values[0]  # fewer rows than directions, or dependent features
        left = dimension - basis.shape[1]
        if left == 0 or settled.all():
            return np.maximum(values, 0.0), _signed(vectors), variance
        block, before = product[:, :left], values
    raise InputError(
        f"{rows.label}: the {k} largest eigenvalues did not settle in {_MOST_BLOCKS} passes; ask for fewer"
    )


def shape_moments(
    rows: SampleStream, features: FeatureStatistics, vectors: NDArray, eigenvalues: NDArray
) -> tuple[NDArray, NDArray]:
    """Compute skewness and excess kurtosis of principal components.

    Parameters
    ----------
    rows : SampleStream
    features : FeatureStatistics
        Those of the rows.
    vectors : array [D, k]
        The components. Those after the first 64 are measured on at most 16,384 rows, evenly thinned.
    eigenvalues : array [k] or longer

    Returns
    -------
    skewness, excess kurtosis : array [k]
        NaN where the eigenvalue is a rounding error.
    """
    return shape_of_powers(power_sums(rows, features, vectors), eigenvalues)


def power_sums(rows: SampleStream, features: FeatureStatistics, vectors: NDArray, first_row: int = 0) -> NDArray:
    """Sum powers of the principal components over the rows; the sums of parts add up to those of the whole.

    Parameters
    ----------
    rows : SampleStream
        All rows or a part of them.
    features : FeatureStatistics
        Those of all rows.
    vectors : array [D, k]
        The components.
    first_row : int
        The number of the first row of the part.

    Returns
    -------
    array [4, k]
        Sums of the powers 0, 2, 3 and 4.
    """
    first, rest = vectors[:, :WHOLLY_MEASURED], vectors[:, WHOLLY_MEASURED:]
    step = _step(features.n_samples, THINNED_ROWS)
    sums = np.zeros((4, vectors.shape[1]))
    start = first_row
    for centred in _centred(rows, features):
        sums[:, : first.shape[1]] += _powers(centred @ first)
        if rest.size:
            sums[:, first.shape[1] :] += _powers(_thinned(centred, start, step) @ rest)
        start += len(centred)
    return sums


def shape_of_powers(sums: NDArray, eigenvalues: NDArray) -> tuple[NDArray, NDArray]:
    """Return skewness and excess kurtosis.

    Parameters
    ----------
    sums : array [4, k]
        The `power_sums` of all rows.
    eigenvalues : array [k] or longer

    Returns
    -------
    skewness, excess kurtosis : array [k]
        NaN where the eigenvalue is a rounding error.
    """
    second, third, fourth = sums[1:] / np.maximum(sums[0], 1)
    second = np.where(eigenvalues[: second.size] > _NULL * eigenvalues[0], second, np.nan)
    return third / second**1.5, fourth / second**2 - 3


def principal_components(
    rows: SampleStream, features: FeatureStatistics, vectors: NDArray, most_rows: int, first_row: int = 0
) -> NDArray:
    """Project evenly thinned rows on the principal components.

    Parameters
    ----------
    rows : SampleStream
        All rows or a part of them.
    features : FeatureStatistics
        Those of all rows.
    vectors : array [D, k]
        The components.
    most_rows : int
        The most rows of the whole that are projected.
    first_row : int
        The number of the first row of the part.

    Returns
    -------
    array [rows, k]
    """
    step = _step(features.n_samples, most_rows)
    parts, start = [], first_row
    for centred in _centred(rows, features):
        parts.append(_thinned(centred, start, step) @ vectors)
        start += len(centred)
    return np.concatenate(parts)


def _step(n_rows: int, most_rows: int) -> int:
    return max(1, -(-n_rows // most_rows))


def _thinned(block: NDArray, start: int, step: int) -> NDArray:
    """Every `step`-th of all rows that is in a block whose first row has the number `start`."""
    return block[-start % step :: step]


def _powers(projected: NDArray) -> NDArray:
    """Sums over rows of the powers 0, 2, 3 and 4, [4, k]."""
    squared = np.square(projected)
    higher = (np.einsum("bk,bk->k", squared, other) for other in (projected, squared))
    return np.stack([np.full(projected.shape[1], float(len(projected))), squared.sum(0), *higher])


def _centred(rows: SampleStream, features: FeatureStatistics) -> Iterator[NDArray[np.float64]]:
    for block in rows.read():
        centred = block - features.origin
        centred -= features.shift
        yield centred


def _orthonormal(block: NDArray, basis: NDArray) -> NDArray:
    """An orthonormal basis of the part of `block` outside the span of `basis`. Done twice, as once leaves rounding."""
    for _ in range(2):
        block = np.linalg.qr(block - basis @ (basis.T @ block))[0]
    return block


def _signed(vectors: NDArray) -> NDArray:
    largest = np.take_along_axis(vectors, np.abs(vectors).argmax(0)[None], 0)
    return vectors * np.where(largest < 0, -1.0, 1.0)
