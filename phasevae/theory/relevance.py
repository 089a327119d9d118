"""The relevance of latent directions, which does not depend on the coordinates of the latent space.

KL of a latent changes when latents are scaled, and its share of the total when they are rotated. The ratio of signal to
noise along a direction of the latent space does not: with the posterior means mu(x) and the mean posterior covariance
S, the eigenvalues of S^-1 Cov(mu) are the same for z and for A z, with any invertible A. This definition is ours; the
idea of an order parameter that is invariant under scaling is that of Hirn, "Posterior collapse as automatic spectral
pruning", arXiv:2605.22691.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

_LEAST = 1e-30
"""Smaller posterior variances count as this one, so that squares stay finite."""


def relevance_spectrum(mean_covariance: ArrayLike, posterior_covariance: ArrayLike) -> tuple[NDArray, NDArray]:
    """Return the relevances of the latent directions, Var(t . mu) / E Var(t . z | x), and these directions t.

    At the optimum for Gaussian data, with effective variance s, they are lambda_j / s - 1 for the active latents and 0
    for the dead ones. So (1 + relevance) s is the effective variance at which a direction collapses.

    Parameters
    ----------
    mean_covariance : array [n, n]
        Covariance over the data of the posterior means.
    posterior_covariance : array [n] or [n, n]
        Mean over the data of the posterior covariance; its diagonal where the posterior is diagonal.

    Returns
    -------
    relevances : array [n]
        Descending, not negative.
    directions : array [n, n]
        In columns. The coordinates t . z have noise of variance 1, and their means are uncorrelated.
    """
    signal, noise = np.asarray(mean_covariance, dtype=float), np.asarray(posterior_covariance, dtype=float)
    if noise.ndim == 1:
        whitening = np.diag(1 / np.sqrt(np.maximum(noise, _LEAST)))
    else:
        whitening = np.linalg.inv(np.linalg.cholesky(noise)).T
    values, vectors = np.linalg.eigh(whitening.T @ signal @ whitening)
    return np.maximum(values[::-1], 0.0), whitening @ vectors[:, ::-1]


def information(relevances: ArrayLike) -> NDArray:
    """Return 1/2 ln(1 + relevance) in nats: what a Gaussian direction says about the data.

    At the optimum for Gaussian data it is the KL of the latent. Summed over the directions it is at most the KL of the
    model, because KL >= 1/2 sum_j ln(1 + Var(mu_j) / E sigma_j^2) for any posterior, and the determinant of a
    covariance is at most the product of its diagonal.
    """
    return 0.5 * np.log1p(relevances)
