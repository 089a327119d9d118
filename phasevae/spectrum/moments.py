"""Moments of streamed samples: features, covariance matrix or its leading part, and the shape of components.

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
"""Eigenvalues below this fraction of the first are rounding: their moments are undefined."""

WHOLLY_MEASURED, THINNED_ROWS = 64, 16_384
"""Components whose shape is measured on all rows, and the rows for that of the others, enough for standard errors."""

_EXTRA = 16
"""Directions of a block beyond those wanted."""

_MOST_BLOCKS = 40
_RESIDUAL = 3e-3
"""Leading eigenvectors are accepted when C v - lambda v is shorter than this part of lambda; the error of lambda is of
second order in it where the next eigenvalue is not close, and where it is, both are right to within this part."""

_SETTLED = 1e-5


def covariance_matrix(rows: SampleStream, found: FeatureStatistics) -> NDArray:
    """Covariance (1/N), [D, D]."""
    covariance = np.zeros((rows.dimension, rows.dimension))
    for centred in _centred(rows, found):
        covariance += centred.T @ centred
    return covariance / found.n_samples


def eigendecomposition(covariance: NDArray) -> tuple[NDArray, NDArray]:
    """Eigenvalues [D], descending and not below zero, and vectors [D, D] signed so that their largest entry is
    positive."""
    values, vectors = np.linalg.eigh(covariance)
    return np.maximum(values[::-1], 0.0), _signed(vectors[:, ::-1])


def leading_eigenpairs(rows: SampleStream, found: FeatureStatistics, k: int) -> tuple[NDArray, NDArray, NDArray]:
    """The k largest eigenvalues [k], their vectors [D, k] and the variance of each feature [D], without the matrix.

    Block Krylov iteration (Musco & Musco, NeurIPS 2015) from random directions of a fixed seed, with
    Rayleigh-Ritz values over all blocks: one pass over the rows a block, until the residuals are small.
    Raises InputError when they do not become so.
    """
    dimension, n = rows.dimension, found.n_samples
    k = min(k, dimension, n)
    width = min(k + _EXTRA, dimension)
    block = np.random.default_rng(0).standard_normal((dimension, width))
    basis, products = np.empty((dimension, 0)), np.empty((dimension, 0))
    variance, before = None, np.zeros(k)
    for _ in range(_MOST_BLOCKS):
        block = _orthonormal(block, basis)
        product = np.zeros_like(block)
        square = np.zeros(dimension)
        for centred in _centred(rows, found):
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
        settled |= values <= _NULL * values[0]  # of fewer rows than directions, or dependent features
        left = dimension - basis.shape[1]
        if left == 0 or settled.all():
            return np.maximum(values, 0.0), _signed(vectors), variance
        block, before = product[:, :left], values
    raise InputError(
        f"{rows.label}: the {k} largest eigenvalues did not settle in {_MOST_BLOCKS} passes; ask for fewer"
    )


def shape_moments(
    rows: SampleStream, found: FeatureStatistics, vectors: NDArray, eigenvalues: NDArray
) -> tuple[NDArray, NDArray]:
    """Skewness and excess kurtosis of the projections on the columns of `vectors` [D, k]. Shapes [k]; NaN where the
    eigenvalue is rounding. Columns beyond the first 64 are measured on at most 16,384 rows, evenly thinned."""
    return shape_of_powers(power_sums(rows, found, vectors), eigenvalues)


def power_sums(rows: SampleStream, found: FeatureStatistics, vectors: NDArray, first_row: int = 0) -> NDArray:
    """Sums over rows of the powers 0, 2, 3 and 4 of the projections on the columns of `vectors` [D, k]. Shape [4, k].

    `found` is of all rows; `rows` may be a part of them, from number `first_row` on: sums of parts add up.
    """
    first, rest = vectors[:, :WHOLLY_MEASURED], vectors[:, WHOLLY_MEASURED:]
    step = _step(found.n_samples, THINNED_ROWS)
    sums = np.zeros((4, vectors.shape[1]))
    start = first_row
    for centred in _centred(rows, found):
        sums[:, : first.shape[1]] += _powers(centred @ first)
        if rest.size:
            sums[:, first.shape[1] :] += _powers(_thinned(centred, start, step) @ rest)
        start += len(centred)
    return sums


def shape_of_powers(sums: NDArray, eigenvalues: NDArray) -> tuple[NDArray, NDArray]:
    """Skewness and excess kurtosis, each [k], from the `power_sums` of all rows."""
    second, third, fourth = sums[1:] / np.maximum(sums[0], 1)
    second = np.where(eigenvalues[: second.size] > _NULL * eigenvalues[0], second, np.nan)
    return third / second**1.5, fourth / second**2 - 3


def principal_components(
    rows: SampleStream, found: FeatureStatistics, vectors: NDArray, most_rows: int, first_row: int = 0
) -> NDArray:
    """Projections on the columns of `vectors` [D, k] of at most `most_rows` rows, evenly thinned. Shape [rows, k].

    `found` is of all rows; `rows` may be a part of them, from number `first_row` on.
    """
    step = _step(found.n_samples, most_rows)
    parts, start = [], first_row
    for centred in _centred(rows, found):
        parts.append(_thinned(centred, start, step) @ vectors)
        start += len(centred)
    return np.concatenate(parts)


def _step(n_rows: int, most_rows: int) -> int:
    return max(1, -(-n_rows // most_rows))


def _thinned(block: NDArray, start: int, step: int) -> NDArray:
    """Every `step`-th of all rows, of a block whose first one is number `start`."""
    return block[-start % step :: step]


def _powers(projected: NDArray) -> NDArray:
    """Sums over rows of the powers 0, 2, 3 and 4, [4, k]."""
    squared = np.square(projected)
    higher = (np.einsum("bk,bk->k", squared, other) for other in (projected, squared))
    return np.stack([np.full(projected.shape[1], float(len(projected))), squared.sum(0), *higher])


def _centred(rows: SampleStream, found: FeatureStatistics) -> Iterator[NDArray[np.float64]]:
    for block in rows.read():
        centred = block - found.origin
        centred -= found.shift
        yield centred


def _orthonormal(block: NDArray, basis: NDArray) -> NDArray:
    """An orthonormal basis of what `block` has outside the span of `basis`. Twice, as once leaves rounding."""
    for _ in range(2):
        block = np.linalg.qr(block - basis @ (basis.T @ block))[0]
    return block


def _signed(vectors: NDArray) -> NDArray:
    largest = np.take_along_axis(vectors, np.abs(vectors).argmax(0)[None], 0)
    return vectors * np.where(largest < 0, -1.0, 1.0)
