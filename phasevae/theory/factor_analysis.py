"""Factor analysis with a weight beta of KL: the optimum of a Gaussian decoder that learns one variance per feature.

The decoder variances are psi_i. Divide each feature by psi_i^(1/2): the decoder then has variance 1, and the optimum
for given psi is that of pPCA at beta. In turn, psi_i is the mean squared error of feature i. Alternating the two is the
principal factor iteration (Lawley & Maxwell 1971). At the collapsed point psi_i is the variance of feature i, and psi
changes only to second order about it. Collapse is therefore locally stable exactly if beta is at least the largest
eigenvalue of the correlation matrix.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from phasevae.theory.ppca import is_active

SMALLEST = 1e-6
"""Learned variances stop at this part of their feature's variance where the likelihood has no bound."""

_STEPS = 500
_TOLERANCE = 1e-7
_SMALL, _GRID, _COARSE = 256, 80, 12
"""With at most _SMALL features the grid of weights has _GRID points, otherwise _COARSE."""


@dataclass(frozen=True)
class Factors:
    """A fitted decoder."""

    variances: NDArray  # [D], learned; zero where the likelihood has no bound
    eigenvalues: NDArray  # [n] of the data in units of the decoder's standard deviations, descending

    @property
    def bounded(self) -> bool:
        """Whether no variance shrank to zero."""
        return bool(self.variances.min() > 0)


def fit(covariance: NDArray, n_latent: int, beta: float) -> Factors:
    """Fit the decoder's variances and factors.

    Parameters
    ----------
    covariance : array [D, D]
        Of the data, without features that do not vary.
    n_latent : int
    beta : float
        Weight of KL.

    Returns
    -------
    Factors
    """
    total = np.diagonal(covariance)
    psi = total.copy()
    n = min(n_latent, total.size)
    lam = vectors = None
    for _ in range(_STEPS):
        scale = np.sqrt(psi)
        lam, vectors = _leading(covariance / np.outer(scale, scale), n, vectors)
        explained = (np.square(vectors) * np.where(is_active(lam, beta), lam - beta, 0)).sum(1)
        new = np.maximum(total - psi * explained, SMALLEST * total)
        change = np.abs(new / psi - 1).max()
        psi = new
        if change < _TOLERANCE:
            break
    return Factors(np.where(psi > 1.5 * SMALLEST * total, psi, 0.0), lam)


def thresholds(correlation: NDArray, n_latent: int, lowest: float) -> NDArray:
    """Return the KL weights at which the first, second, ... factor dies.

    The first is the largest eigenvalue of the correlation matrix. Each other is the weight at which the eigenvalue of
    that factor, in units of the variances learned at this weight, falls below the weight. It is interpolated on a grid.

    Parameters
    ----------
    correlation : array [D, D]
        Of the data, without features that do not vary.
    n_latent : int
    lowest : float
        Smallest weight of the grid.

    Returns
    -------
    array, descending
        The first weight, and one for each further factor that is active at `lowest`.
    """
    from scipy.linalg import eigvalsh

    size = len(correlation)
    top = float(eigvalsh(correlation, subset_by_index=(size - 1, size - 1))[0])
    n = min(n_latent, size)
    if n == 1 or not is_active(top, lowest):
        return np.array([top])
    weights = np.geomspace(top, lowest, _GRID if size <= _SMALL else _COARSE)
    eigenvalues = np.array([fit(correlation, n, weight).eigenvalues for weight in weights])
    # A factor dies where ln(eigenvalue / weight) crosses zero.
    excess, active = np.log(eigenvalues / weights[:, None]), is_active(eigenvalues, weights[:, None])
    deaths = [top]
    for factor, alive in zip(excess.T[1:], active.T[1:], strict=True):
        if not alive.any() or alive[0]:
            break
        i = int(alive.argmax())
        part = factor[i - 1] / (factor[i - 1] - factor[i])
        deaths.append(float(np.exp(np.log(weights[i - 1]) + part * np.log(weights[i] / weights[i - 1]))))
    return np.minimum.accumulate(deaths)


def _leading(matrix: NDArray, n: int, start: NDArray | None) -> tuple[NDArray, NDArray]:
    """Return the n largest eigenvalues, descending, and their vectors [D, n]."""
    from scipy.linalg import eigh
    from scipy.sparse.linalg import eigsh

    if matrix.shape[0] > 256 and n < matrix.shape[0] // 8:
        origin = np.ones(matrix.shape[0]) if start is None else start.sum(1)
        values, vectors = eigsh(matrix, n, v0=origin)
        order = np.argsort(values)[::-1]
        return values[order], vectors[:, order]
    values, vectors = eigh(matrix, subset_by_index=(matrix.shape[0] - n, matrix.shape[0] - 1))
    return values[::-1], vectors[:, ::-1]
