"""Gaussian decoders with one learned variance a feature: factor analysis, with a weight beta of KL.

In units of the decoder's standard deviations psi_i^(1/2) the decoder has variance 1, so that the optimum for given psi
is that of pPCA at beta; and psi_i is the mean squared error of feature i. Alternating the two is the principal factor
iteration (Lawley & Maxwell 1971). At the collapsed point psi_i is the variance of feature i: collapse is locally stable
exactly if beta is at least the largest eigenvalue of the correlation matrix, because psi answers to second order only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SMALLEST = 1e-6
"""Learned variances stop at this part of their feature's variance, where the likelihood would have no bound."""

_STEPS = 500
_TOLERANCE = 1e-7
_SMALL, _GRID, _COARSE = 256, 80, 12
"""Up to so many features the grid of weights is the finer one."""


@dataclass(frozen=True)
class Factors:
    """variances [D] of the decoder, and the eigenvalues [n] of the data in its units."""

    variances: NDArray
    eigenvalues: NDArray

    @property
    def bounded(self) -> bool:
        """Whether no variance ran away to zero."""
        return bool(self.variances.min() > 0)


def fit(covariance: NDArray, n_latent: int, beta: float) -> Factors:
    """The optimum of factor analysis with weight `beta` for data of that covariance [D, D].

    Features that do not vary must have been left out. A variance that runs away is returned as zero.
    """
    total = np.diagonal(covariance)
    psi = total.copy()
    n = min(n_latent, total.size)
    lam = vectors = None
    for _ in range(_STEPS):
        scale = np.sqrt(psi)
        lam, vectors = _leading(covariance / np.outer(scale, scale), n, vectors)
        explained = (np.square(vectors) * np.maximum(lam - beta, 0)).sum(1)
        new = np.maximum(total - psi * explained, SMALLEST * total)
        change = np.abs(new / psi - 1).max()
        psi = new
        if change < _TOLERANCE:
            break
    return Factors(np.where(psi > 1.5 * SMALLEST * total, psi, 0.0), lam)


def thresholds(correlation: NDArray, n_latent: int, lowest: float) -> NDArray:
    """KL weights at which the first, second, ... factor dies, as many as live at the weight `lowest`, descending.

    The first is the largest eigenvalue of the correlation matrix. The others are where the eigenvalue of that factor,
    in units of the variances learned at a weight, falls below this weight: interpolated on a grid of weights.
    """
    from scipy.linalg import eigvalsh

    size = len(correlation)
    top = float(eigvalsh(correlation, subset_by_index=(size - 1, size - 1))[0])
    n = min(n_latent, size)
    if n == 1 or lowest >= top:
        return np.array([top])
    weights = np.geomspace(top, lowest, _GRID if size <= _SMALL else _COARSE)
    # ln(eigenvalue / weight) of each factor at each weight: it dies where this crosses zero.
    above = np.array([np.log(fit(correlation, n, weight).eigenvalues / weight) for weight in weights])
    found = [top]
    for factor in above.T[1:]:
        alive = np.flatnonzero(factor > 0)
        if not alive.size or alive[0] == 0:
            break
        i = alive[0]
        part = factor[i - 1] / (factor[i - 1] - factor[i])
        found.append(float(np.exp(np.log(weights[i - 1]) + part * np.log(weights[i] / weights[i - 1]))))
    return np.minimum.accumulate(found)


def _leading(matrix: NDArray, n: int, start: NDArray | None) -> tuple[NDArray, NDArray]:
    """Largest n eigenvalues, descending, and their vectors [D, n]."""
    from scipy.linalg import eigh
    from scipy.sparse.linalg import eigsh

    if matrix.shape[0] > 256 and n < matrix.shape[0] // 8:
        origin = np.ones(matrix.shape[0]) if start is None else start.sum(1)
        values, vectors = eigsh(matrix, n, v0=origin)
        order = np.argsort(values)[::-1]
        return values[order], vectors[:, order]
    values, vectors = eigh(matrix, subset_by_index=(matrix.shape[0] - n, matrix.shape[0] - 1))
    return values[::-1], vectors[:, ::-1]
