"""Closed forms of posterior collapse: the paper's criterion and the exact curves of Gaussian data.

Notation: ``eigenvalues`` are those of the data covariance, lambda_1 >= ... >= lambda_D, in squared units of the data;
``sigma2`` is the decoder variance, in the same units; ``beta`` weighs the KL divergence; energies are in nats per
sample. The optimum of a beta-VAE depends on the effective variance ``beta * sigma2`` alone, so every curve takes both.
The curves ``ppca_*`` take eigenvalues [D], sigma2 of any shape, and the numbers n_latent and beta.

The curves for Gaussian data are those of probabilistic PCA (Tipping & Bishop 1999; Lucas et al. 2019), the
optimum over all decoders whenever the number of eigenvalues above ``beta * sigma2`` is at most ``n_latent``.
References to equations are to Li, Zhang, Zhang & Chen, Physica A 683, 131228 (2026), arXiv:2510.01621.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phasevae.errors import InputError
from phasevae.theory.inputs import checked_eigenvalues, checked_sigma2, leading_eigenvalues

ACTIVE_KL = 1e-3
"""A latent of a trained network is active when its KL exceeds this many nats (Li, arXiv:2610.11257)."""

THRESHOLD_TOLERANCE = 1e-9
"""An eigenvalue must exceed the effective variance by this part of it for its latent to be active. A latent at its
threshold counts as collapsed, and rounding does not decide."""

NO_VARIANCE = 1e-12
"""The data do not vary in directions whose eigenvalue is less than this part of the largest one."""


def is_active(eigenvalues: ArrayLike, effective_variance: ArrayLike) -> NDArray[np.bool_]:
    """Return whether the latents of these eigenvalues carry information at the optimum.

    Every decision about a threshold is made here.

    Parameters
    ----------
    eigenvalues : array
    effective_variance : array
        beta * sigma2, in the units of the eigenvalues.

    Returns
    -------
    array of the broadcast shape
        False within THRESHOLD_TOLERANCE of the threshold.
    """
    return np.asarray(eigenvalues) > np.asarray(effective_variance) * (1 + THRESHOLD_TOLERANCE)


def critical_variance(eigenvalues: ArrayLike, beta: float = 1.0) -> float:
    """Return the decoder variance above which the collapsed state is stable, lambda_1 / beta.

    Parameters
    ----------
    eigenvalues : array [D], descending
    beta : float

    Returns
    -------
    float
        In squared units of the data (Eq. 26).
    """
    return float(checked_eigenvalues(eigenvalues)[0] / beta)


def effective_variance(error_weight: float, kl_weight: float) -> float:
    """Return beta * sigma2 of the loss error_weight * |x - f(z)|^2 + kl_weight * KL: kl_weight / (2 error_weight).

    Parameters
    ----------
    error_weight : float
        Weight of the squared error summed over features, of the data as fed to the network.
    kl_weight : float
        Weight of the KL divergence summed over latents.

    Returns
    -------
    float
        In squared units of the data.
    """
    return kl_weight / (2 * error_weight)


def gaussian_kl(mu: Any, logvar: Any, expm1: Callable[[Any], Any] = np.expm1) -> Any:
    """Return the KL divergence of N(mu, e^logvar) from the standard normal prior, elementwise.

    Parameters
    ----------
    mu, logvar : arrays or tensors of one shape
    expm1 : function
        The elementwise e^x - 1 of the arrays' library, for example `torch.expm1`.

    Returns
    -------
    array or tensor of that shape
        In nats (Eq. 17).
    """
    return 0.5 * (mu * mu + expm1(logvar) - logvar)


def collapsed_elbo(trace: float, dimension: int, sigma2: ArrayLike) -> NDArray:
    """Return the ELBO of the collapsed state, -(D/2) ln(2 pi sigma2) - tr(Sigma) / (2 sigma2).

    Parameters
    ----------
    trace : float
        Sum of the variances of all features.
    dimension : int
        Number of features D.
    sigma2 : array of any shape

    Returns
    -------
    array of the shape of sigma2, in nats per sample (Eq. 24)
    """
    s = checked_sigma2(sigma2)
    return -0.5 * dimension * np.log(2 * np.pi * s) - trace / (2 * s)


def gaussian_log_likelihood(eigenvalues: ArrayLike) -> float:
    """Return the expected log likelihood of Gaussian data under their own density, -(1/2) ln det(2 pi e Sigma).

    Raises InputError when an eigenvalue is not positive: the density does not exist then (Eq. 10).
    """
    lam = checked_eigenvalues(eigenvalues)
    if lam[-1] <= 0:
        raise InputError(f"log likelihood of Gaussian data: smallest eigenvalue is {lam[-1]}, must be positive")
    return float(-0.5 * np.sum(np.log(2 * np.pi * np.e * lam)))


def ppca_kl_per_dim(eigenvalues: ArrayLike, sigma2: ArrayLike, n_latent: int, beta: float = 1.0) -> NDArray:
    """Return the KL of each latent at the pPCA optimum: (1/2) ln(lambda_j / (beta sigma2)), or 0 where it is collapsed.

    Parameters
    ----------
    eigenvalues, sigma2, n_latent, beta : see the notation of this module

    Returns
    -------
    array of the shape of sigma2 + [n_latent], in nats per sample
    """
    return 0.5 * np.log(1.0 / ppca_latent_variance(eigenvalues, sigma2, n_latent, beta))


def ppca_kl(eigenvalues: ArrayLike, sigma2: ArrayLike, n_latent: int, beta: float = 1.0) -> NDArray:
    """Return the KL of all latents together at the pPCA optimum.

    Parameters
    ----------
    eigenvalues, sigma2, n_latent, beta : see the notation of this module

    Returns
    -------
    array of the shape of sigma2, in nats per sample
    """
    return ppca_kl_per_dim(eigenvalues, sigma2, n_latent, beta).sum(-1)


def ppca_latent_variance(eigenvalues: ArrayLike, sigma2: ArrayLike, n_latent: int, beta: float = 1.0) -> NDArray:
    """Return the mean posterior variance of each latent: beta sigma2 / lambda_j, or 1 where it is collapsed.

    Parameters
    ----------
    eigenvalues, sigma2, n_latent, beta : see the notation of this module

    Returns
    -------
    array of the shape of sigma2 + [n_latent]
    """
    s = beta * checked_sigma2(sigma2)[..., None]
    leading = leading_eigenvalues(eigenvalues, n_latent)
    collapsed = np.ones(np.broadcast_shapes(s.shape, leading.shape))
    return np.divide(s, leading, out=collapsed, where=is_active(leading, s))


def ppca_active_dims(eigenvalues: ArrayLike, sigma2: ArrayLike, n_latent: int, beta: float = 1.0) -> NDArray:
    """Return the number of active latents, k = min(n_latent, #{lambda_i > beta sigma2}).

    Parameters
    ----------
    eigenvalues, sigma2, n_latent, beta : see the notation of this module

    Returns
    -------
    array of integers of the shape of sigma2
    """
    s = beta * checked_sigma2(sigma2)[..., None]
    return is_active(leading_eigenvalues(eigenvalues, n_latent), s).sum(-1)


def ppca_mse(eigenvalues: ArrayLike, sigma2: ArrayLike, n_latent: int, beta: float = 1.0) -> NDArray:
    """Return the expected squared error summed over features, E|x - f(z)|^2, at the pPCA optimum.

    It is the sum of min(lambda_j, beta sigma2) over the latents and of the eigenvalues that no latent carries.

    Parameters
    ----------
    eigenvalues, sigma2, n_latent, beta : see the notation of this module

    Returns
    -------
    array of the shape of sigma2, in squared units of the data
    """
    lam = checked_eigenvalues(eigenvalues)
    s = beta * checked_sigma2(sigma2)[..., None]
    leading = leading_eigenvalues(lam, n_latent)
    return np.where(is_active(leading, s), s, leading).sum(-1) + lam[n_latent:].sum()


def ppca_elbo(eigenvalues: ArrayLike, sigma2: ArrayLike, n_latent: int, beta: float = 1.0) -> NDArray:
    """Return the objective -(D/2) ln(2 pi sigma2) - MSE / (2 sigma2) - beta KL at its pPCA optimum.

    Parameters
    ----------
    eigenvalues, sigma2, n_latent, beta : see the notation of this module

    Returns
    -------
    array of the shape of sigma2, in nats per sample (Eq. 17)
    """
    lam = checked_eigenvalues(eigenvalues)
    s = checked_sigma2(sigma2)
    mse = ppca_mse(lam, s, n_latent, beta)
    return collapsed_elbo(mse, lam.size, s) - beta * ppca_kl(lam, s, n_latent, beta)


def ppca_exact_above(eigenvalues: ArrayLike, n_latent: int) -> float:
    """Return the value of beta * sigma2 above which the pPCA curves are the optimum over all decoders of Gaussian data.

    With more eigenvalues above beta * sigma2 than latents, a nonlinear decoder can beat pPCA. The first nonlinear mode
    becomes unstable at 2 lambda_n - lambda_n^2 / lambda_{n+1}.

    Parameters
    ----------
    eigenvalues : array [D], descending
    n_latent : int

    Returns
    -------
    float
        In squared units of the data; zero when n_latent >= D.
    """
    lam = checked_eigenvalues(eigenvalues)
    if n_latent >= lam.size or lam[n_latent] <= 0:
        return 0.0
    return float(max(0.0, 2 * lam[n_latent - 1] - lam[n_latent - 1] ** 2 / lam[n_latent]))


def ppca_kl_slope(eigenvalues: ArrayLike, sigma2: ArrayLike, n_latent: int, beta: float = 1.0) -> NDArray:
    """Return dKL/dsigma2 of the pPCA optimum, -k / (2 sigma2) with k active latents.

    Parameters
    ----------
    eigenvalues, sigma2, n_latent, beta : see the notation of this module

    Returns
    -------
    array of the shape of sigma2
    """
    return -ppca_active_dims(eigenvalues, sigma2, n_latent, beta) / (2 * checked_sigma2(sigma2))


def ppca_kl_curvature(eigenvalues: ArrayLike, sigma2: ArrayLike, n_latent: int, beta: float = 1.0) -> NDArray:
    """Return d2KL/dsigma2^2 of the pPCA optimum away from the thresholds, k / (2 sigma2^2).

    Parameters
    ----------
    eigenvalues, sigma2, n_latent, beta : see the notation of this module

    Returns
    -------
    array of the shape of sigma2
    """
    return ppca_active_dims(eigenvalues, sigma2, n_latent, beta) / (2 * checked_sigma2(sigma2) ** 2)


def kl_slope_below(eigenvalues: ArrayLike, beta: float = 1.0) -> float:
    """Return dKL/dsigma2 just below the critical variance for Gaussian data: -m beta / (2 lambda_1).

    m is the multiplicity of lambda_1: the number of eigenvalues within THRESHOLD_TOLERANCE of it.

    Parameters
    ----------
    eigenvalues : array [D], descending
    beta : float

    Returns
    -------
    float
    """
    lam = checked_eigenvalues(eigenvalues)
    multiplicity = int(np.sum(~is_active(lam[0], lam)))
    return float(-multiplicity * beta / (2 * lam[0]))
