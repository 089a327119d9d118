"""The decoder variance that settles when it is learned together with the networks, for Gaussian data."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phasevae.theory.inputs import checked_eigenvalues, leading_eigenvalues
from phasevae.theory.ppca import NO_VARIANCE, THRESHOLD_TOLERANCE, is_active


def learned_variance(
    eigenvalues: ArrayLike, n_latent: int, beta: float = 1.0, trace: float | None = None, dimension: int | None = None
) -> float:
    """Return beta * sigma2 at which a learned decoder variance settles.

    sigma2 is then the mean squared error per feature, so that s = beta * sigma2 solves
    s = (beta / D) [sum_{i <= n} min(lambda_i, s) + sum_{i > n} lambda_i].

    Parameters
    ----------
    eigenvalues : array, descending
        All D of the data covariance, or the leading ones, at least n_latent + 1.
    n_latent : int
    beta : float
        Weight of KL.
    trace : float, optional
        Sum of all D eigenvalues, where only the leading ones are given.
    dimension : int, optional
        D, where only the leading eigenvalues are given.

    Returns
    -------
    float
        In squared units of the data. Zero where the likelihood has no bound or determines no variance: with a latent
        for each of the r directions in which the data vary, and beta r <= D.
    """
    lam = checked_eigenvalues(eigenvalues)
    total, d = _trace_and_dimension(lam, trace, dimension)
    lam = lam[:n_latent]
    varying = int((lam > NO_VARIANCE * lam[0]).sum())
    if total - lam.sum() <= NO_VARIANCE * total and beta * varying <= d * (1 + THRESHOLD_TOLERANCE):
        return 0.0
    # With k latents active the equation is linear; the active ones are those above its solution.
    for k in range(lam.size + 1):
        s = beta * max(0.0, total - lam[:k].sum()) / (d - beta * k)
        if k == lam.size or not is_active(lam[k], s):
            break
    return float(s)


def learned_threshold(
    eigenvalues: ArrayLike, latent: int, n_latent: int, trace: float | None = None, dimension: int | None = None
) -> float:
    """Return the KL weight beta at which a latent dies when the decoder variance is learned.

    `learned_variance` equals lambda_j of latent j there, so that
    beta = D lambda_j / (sum_{i <= n} min(lambda_i, lambda_j) + sum_{i > n} lambda_i). For the first latent it is
    D lambda_1 / tr Sigma, from which on everything is collapsed.

    Parameters
    ----------
    eigenvalues : array, descending
        All D of the data covariance, or the leading ones, at least n_latent + 1.
    latent : int
        Number of the latent, from 1, by descending eigenvalue.
    n_latent : int
    trace, dimension : optional
        As for `learned_variance`.

    Returns
    -------
    float
        Zero for a latent whose eigenvalue is zero.
    """
    lam = checked_eigenvalues(eigenvalues)
    total, d = _trace_and_dimension(lam, trace, dimension)
    own = leading_eigenvalues(lam, max(latent, n_latent))[latent - 1]
    floor = total - lam[:n_latent].sum() + np.minimum(lam[:n_latent], own).sum()
    return float(d * own / floor) if floor > 0 else 0.0


def _trace_and_dimension(eigenvalues: NDArray, trace: float | None, dimension: int | None) -> tuple[float, int]:
    total = float(eigenvalues.sum()) if trace is None else float(trace)
    return total, eigenvalues.size if dimension is None else int(dimension)
