"""Closed forms of posterior collapse: the paper's criterion and the exact curves of Gaussian data.

Notation: ``eigenvalues`` are those of the data covariance, lambda_1 >= ... >= lambda_D; ``sigma2`` is the
decoder variance; ``beta`` weighs the KL divergence; energies are in nats per sample. The optimum of a
beta-VAE depends on ``beta * sigma2`` alone, so every curve takes the pair.

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

ACTIVE_KL = 1e-3
"""A latent is active when its KL exceeds this many nats (Li, arXiv:2610.11257)."""


def critical_variance(eigenvalues: ArrayLike, beta: float = 1.0) -> float:
    """Decoder variance above which the collapsed state is stable: lambda_1 / beta (Eq. 26)."""
    return float(_checked_eigenvalues(eigenvalues)[0] / beta)


def effective_variance(error_weight: float, kl_weight: float) -> float:
    """beta * sigma2 of the loss error_weight * |x - f(z)|^2 + kl_weight * KL: kl_weight / (2 error_weight).

    The squared error is summed over features, KL over latents; both are of the data as fed to the network.
    """
    return kl_weight / (2 * error_weight)


def gaussian_kl(mu: Any, logvar: Any, expm1: Callable[[Any], Any] = np.expm1) -> Any:
    """KL divergence of N(mu, e^logvar) from the standard normal prior, elementwise (Eq. 17), of arrays, or of tensors
    with `expm1` theirs."""
    return 0.5 * (mu * mu + expm1(logvar) - logvar)


def learned_variance(
    eigenvalues: ArrayLike, n_latent: int, beta: float = 1.0, trace: float | None = None, dimension: int | None = None
) -> float:
    """beta * sigma2 at which a decoder variance learned together with the networks settles, for Gaussian data.

    sigma2 is then the mean squared error per feature, so s = beta sigma2 solves
    s = (beta / D) [sum_{i <= n} min(lambda_i, s) + sum_{i > n} lambda_i]. Zero where the likelihood has no bound:
    n_latent >= D (or as many latents as directions that vary) with beta n <= D.
    `trace` and `dimension` tell the whole spectrum when only its leading eigenvalues are given.
    """
    lam = _checked_eigenvalues(eigenvalues)
    total, d = _whole(lam, trace, dimension)
    # With k latents active the equation is linear; the active ones are those above its solution.
    for k in range(min(n_latent, lam.size) + 1):
        rest = max(0.0, total - lam[:k].sum())
        if d <= beta * k:
            break
        s = beta * rest / (d - beta * k)
        if k == min(n_latent, lam.size) or s >= lam[k]:
            return float(s) if rest > 1e-12 * total else 0.0
    return 0.0


def learned_threshold(
    eigenvalues: ArrayLike, latent: int, n_latent: int, trace: float | None = None, dimension: int | None = None
) -> float:
    """KL weight beta at which latent number `latent` (from 1) dies when the decoder variance is learned.

    The solution of `learned_variance` stands at lambda_latent there: D lambda_j / (sum_{i <= n} min(lambda_i, lambda_j)
    + sum_{i > n} lambda_i); for the first one D lambda_1 / tr Sigma, above which everything is collapsed.
    """
    lam = _checked_eigenvalues(eigenvalues)
    total, d = _whole(lam, trace, dimension)
    own = _leading(lam, max(latent, n_latent))[latent - 1]
    floor = total - lam[:n_latent].sum() + np.minimum(lam[:n_latent], own).sum()
    return float(d * own / floor) if floor > 0 else 0.0


def _whole(eigenvalues: NDArray, trace: float | None, dimension: int | None) -> tuple[float, int]:
    total = float(eigenvalues.sum()) if trace is None else float(trace)
    return total, eigenvalues.size if dimension is None else int(dimension)


def collapsed_elbo(trace: float, dimension: int, sigma2: ArrayLike) -> NDArray:
    """ELBO of the collapsed state (Eq. 24): -(D/2) ln(2 pi sigma2) - tr(Sigma) / (2 sigma2). Shape of sigma2."""
    s = _checked_sigma2(sigma2)
    return -0.5 * dimension * np.log(2 * np.pi * s) - trace / (2 * s)


def gaussian_log_likelihood(eigenvalues: ArrayLike) -> float:
    """Expected log likelihood of Gaussian data under itself: -(1/2) ln det(2 pi e Sigma) (Eq. 10).

    Raises InputError when an eigenvalue is not positive: the density does not exist then.
    """
    lam = _checked_eigenvalues(eigenvalues)
    if lam[-1] <= 0:
        raise InputError(f"log likelihood of Gaussian data: smallest eigenvalue is {lam[-1]}, must be positive")
    return float(-0.5 * np.sum(np.log(2 * np.pi * np.e * lam)))


def ppca_kl_per_dim(eigenvalues: ArrayLike, sigma2: ArrayLike, n_latent: int, beta: float = 1.0) -> NDArray:
    """KL of each latent, (1/2) ln(lambda_j / (beta sigma2)) where active, else 0. Shape [..., n_latent]."""
    return 0.5 * np.log(1.0 / ppca_latent_variance(eigenvalues, sigma2, n_latent, beta))


def ppca_kl(eigenvalues: ArrayLike, sigma2: ArrayLike, n_latent: int, beta: float = 1.0) -> NDArray:
    """Total KL(sigma2) of the pPCA optimum. Shape of sigma2."""
    return ppca_kl_per_dim(eigenvalues, sigma2, n_latent, beta).sum(-1)


def ppca_latent_variance(eigenvalues: ArrayLike, sigma2: ArrayLike, n_latent: int, beta: float = 1.0) -> NDArray:
    """E_x sigma_j^2 = min(1, beta sigma2 / lambda_j). Shape sigma2.shape + [n_latent]."""
    s = beta * _checked_sigma2(sigma2)[..., None]
    leading = _leading(eigenvalues, n_latent)
    return np.minimum(
        1.0, np.divide(s, leading, out=np.ones(np.broadcast_shapes(s.shape, leading.shape)), where=leading > 0)
    )


def ppca_active_dims(eigenvalues: ArrayLike, sigma2: ArrayLike, n_latent: int, beta: float = 1.0) -> NDArray:
    """Number of latents k = min(n_latent, #{lambda_i > beta sigma2}). Shape of sigma2, integers."""
    s = beta * _checked_sigma2(sigma2)[..., None]
    return (_leading(eigenvalues, n_latent) > s).sum(-1)


def ppca_mse(eigenvalues: ArrayLike, sigma2: ArrayLike, n_latent: int, beta: float = 1.0) -> NDArray:
    """Expected squared error summed over features, E|x - f(z)|^2: sum over latents of min(lambda_j, beta sigma2)
    plus the eigenvalues no latent carries. Shape of sigma2."""
    lam = _checked_eigenvalues(eigenvalues)
    s = beta * _checked_sigma2(sigma2)[..., None]
    return np.minimum(_leading(lam, n_latent), s).sum(-1) + lam[n_latent:].sum()


def ppca_elbo(eigenvalues: ArrayLike, sigma2: ArrayLike, n_latent: int, beta: float = 1.0) -> NDArray:
    """Objective -(D/2) ln(2 pi sigma2) - MSE / (2 sigma2) - beta KL at its pPCA optimum (Eq. 17). Shape of sigma2."""
    lam = _checked_eigenvalues(eigenvalues)
    s = _checked_sigma2(sigma2)
    mse = ppca_mse(lam, s, n_latent, beta)
    return collapsed_elbo(mse, lam.size, s) - beta * ppca_kl(lam, s, n_latent, beta)


def ppca_exact_above(eigenvalues: ArrayLike, n_latent: int) -> float:
    """Value of beta * sigma2 above which the pPCA curves are the optimum over all decoders of Gaussian data.

    With more eigenvalues above beta * sigma2 than latents a nonlinear decoder can beat pPCA; the first
    nonlinear mode becomes unstable at 2 lambda_n - lambda_n^2 / lambda_{n+1}. Zero when n_latent >= D.
    """
    lam = _checked_eigenvalues(eigenvalues)
    if n_latent >= lam.size or lam[n_latent] <= 0:
        return 0.0
    return float(max(0.0, 2 * lam[n_latent - 1] - lam[n_latent - 1] ** 2 / lam[n_latent]))


def ppca_kl_slope(eigenvalues: ArrayLike, sigma2: ArrayLike, n_latent: int, beta: float = 1.0) -> NDArray:
    """dKL/dsigma2 of the pPCA optimum, -k / (2 sigma2) with k active latents. Shape of sigma2."""
    return -ppca_active_dims(eigenvalues, sigma2, n_latent, beta) / (2 * _checked_sigma2(sigma2))


def ppca_kl_curvature(eigenvalues: ArrayLike, sigma2: ArrayLike, n_latent: int, beta: float = 1.0) -> NDArray:
    """d2KL/dsigma2^2 of the pPCA optimum away from the thresholds, k / (2 sigma2^2). Shape of sigma2."""
    return ppca_active_dims(eigenvalues, sigma2, n_latent, beta) / (2 * _checked_sigma2(sigma2) ** 2)


def linear_vae_elbo(u: ArrayLike, v: ArrayLike, sigma2: float, eigenvalue: float = 1.0) -> NDArray:
    """ELBO of one feature x ~ N(0, eigenvalue) with decoder f(z) = u z and encoder mean mu(x) = v x (Eq. 17).

    The latent variance stands at its optimum sigma2 / (sigma2 + u^2) for the given u. Maxima at
    u^2 = eigenvalue - sigma2, v = u / eigenvalue below the critical variance; the collapsed point is u = v = 0.
    Broadcast shape of u and v.
    """
    s = _checked_sigma2(sigma2)
    u, v = np.asarray(u, dtype=float), np.asarray(v, dtype=float)
    latent_variance = s / (s + u**2)
    mse = eigenvalue * (1 - u * v) ** 2 + u**2 * latent_variance
    kl = 0.5 * (eigenvalue * v**2 + latent_variance - 1 - np.log(latent_variance))
    return collapsed_elbo(mse, 1, s) - kl


def kl_slope_below(eigenvalues: ArrayLike, beta: float = 1.0) -> float:
    """dKL/dsigma2 just below the critical variance for Gaussian data: -m beta / (2 lambda_1), m the multiplicity
    of lambda_1 (eigenvalues equal to it within 1e-9 relative)."""
    lam = _checked_eigenvalues(eigenvalues)
    multiplicity = int(np.sum(lam >= lam[0] * (1 - 1e-9)))
    return float(-multiplicity * beta / (2 * lam[0]))


def _leading(eigenvalues: ArrayLike, n_latent: int) -> NDArray:
    """The n_latent largest eigenvalues, padded with zeros when there are fewer. Shape [n_latent]."""
    lam = _checked_eigenvalues(eigenvalues)
    if n_latent < 1:
        raise InputError(f"n_latent: {n_latent}, must be at least 1")
    return np.pad(lam[:n_latent], (0, max(0, n_latent - lam.size)))


def _checked_eigenvalues(eigenvalues: ArrayLike) -> NDArray:
    lam = np.asarray(eigenvalues, dtype=float)
    if lam.ndim != 1 or lam.size == 0 or not np.all(np.isfinite(lam)):
        raise InputError(f"eigenvalues: shape {lam.shape}, must be a non-empty list of finite numbers")
    if lam[0] <= 0 or np.any(np.diff(lam) > 0):
        raise InputError("eigenvalues: must descend from a positive first value")
    return lam


def _checked_sigma2(sigma2: ArrayLike) -> NDArray:
    s = np.asarray(sigma2, dtype=float)
    if not np.all(s > 0):
        raise InputError(f"sigma2: {sigma2}, must be positive")
    return s
