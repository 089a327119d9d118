"""Posterior collapse with conditions: the decoder sees c beside z, and most often the encoder sees it too.

If encoder and decoder see a condition of finitely many values and are free to treat each of them by itself, the
objective is a mean over the conditions, and each of them is a problem of its own with the covariance Cov(x | c). So
every curve here is the mean of the pPCA curves of the conditions (`theory.ppca`), weighted by their shares p_c:

    KL = sum_c p_c sum_j (1/2) [ln(lambda_cj / (beta sigma2))]_+,    collapse iff beta sigma2 >= max_c lambda_c1.

A single part of share 1 gives the curves without conditions. Collapsed, the decoder gives the mean of each condition,
so traces and squared errors are those of the rows less that mean.

A decoder that adds its condition, f(z) + B c, has the same directions for all conditions. Its threshold is the largest
eigenvalue of the covariance of the residual of the regression of x on c (Dang et al., "Beyond vanilla variational
autoencoders", ICLR 2024, for linear networks). For a decoder that is free to multiply z and c this
is the threshold only where Cov(x | c) is the same for all c.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phasevae.errors import InputError
from phasevae.theory import ppca
from phasevae.theory.inputs import checked_sigma2

_SHARES_TOLERANCE = 1e-6


@dataclass(frozen=True)
class ConditionModes:
    """The modes of one condition: its `share` of the rows, and the eigenvalues of Cov(x | c) [D], descending.

    Eigenvalues of zero are allowed: a condition without variance is collapsed everywhere.
    """

    share: float
    eigenvalues: NDArray


def single(eigenvalues: ArrayLike) -> tuple[ConditionModes, ...]:
    """Return data without conditions as one part."""
    return (ConditionModes(1.0, np.asarray(eigenvalues, dtype=float)),)


def thresholds(parts: Sequence[ConditionModes], n_latent: int) -> NDArray:
    """Return all positive eigenvalues that a latent can carry, largest first.

    Parameters
    ----------
    parts : sequence of ConditionModes
    n_latent : int
        A condition has at most this many.

    Returns
    -------
    array
        Values of beta * sigma2 at which the KL has a kink.
    """
    values = np.concatenate([part.eigenvalues[:n_latent] for part in _checked(parts)])
    return np.sort(values[values > 0])[::-1]


def critical_variance(parts: Sequence[ConditionModes], beta: float = 1.0) -> float:
    """Return the decoder variance above which every condition is collapsed, max_c lambda_c1 / beta."""
    return max(ppca.critical_variance(_positive(part), beta) for part in _checked(parts))


def kl_per_dim(parts: Sequence[ConditionModes], sigma2: ArrayLike, n_latent: int, beta: float = 1.0) -> NDArray:
    """Return the mean KL of the j-th modes of the conditions, of the shape of sigma2 + [n_latent], in nats per sample.

    It is that of latent j if each condition has its j-th mode there. Other assignments have the same total.
    """
    return _mean(ppca.ppca_kl_per_dim, parts, sigma2, n_latent, beta)


def kl(parts: Sequence[ConditionModes], sigma2: ArrayLike, n_latent: int, beta: float = 1.0) -> NDArray:
    """Return the KL of all latents together, of the shape of sigma2, in nats per sample."""
    return _mean(ppca.ppca_kl, parts, sigma2, n_latent, beta)


def latent_variance(parts: Sequence[ConditionModes], sigma2: ArrayLike, n_latent: int, beta: float = 1.0) -> NDArray:
    """Return E sigma_j^2 of the latents, of the shape of sigma2 + [n_latent]; see `kl_per_dim` for their order."""
    return _mean(ppca.ppca_latent_variance, parts, sigma2, n_latent, beta)


def mse(parts: Sequence[ConditionModes], sigma2: ArrayLike, n_latent: int, beta: float = 1.0) -> NDArray:
    """Return E|x - f(z, c)|^2 summed over features, of the shape of sigma2, in squared units of the data."""
    return _mean(ppca.ppca_mse, parts, sigma2, n_latent, beta)


def elbo(parts: Sequence[ConditionModes], sigma2: ArrayLike, n_latent: int, beta: float = 1.0) -> NDArray:
    """Return the objective -(D/2) ln(2 pi sigma2) - MSE / (2 sigma2) - beta KL, of the shape of sigma2, in nats."""
    return _mean(ppca.ppca_elbo, parts, sigma2, n_latent, beta)


def kl_slope(parts: Sequence[ConditionModes], sigma2: ArrayLike, n_latent: int, beta: float = 1.0) -> NDArray:
    """Return dKL/dsigma2, of the shape of sigma2: -k / (2 sigma2) with the mean number k of active modes."""
    return _mean(ppca.ppca_kl_slope, parts, sigma2, n_latent, beta)


def kl_curvature(parts: Sequence[ConditionModes], sigma2: ArrayLike, n_latent: int, beta: float = 1.0) -> NDArray:
    """Return d2KL/dsigma2^2 away from the thresholds, of the shape of sigma2."""
    return _mean(ppca.ppca_kl_curvature, parts, sigma2, n_latent, beta)


def active_dims(parts: Sequence[ConditionModes], sigma2: ArrayLike, n_latent: int, beta: float = 1.0) -> NDArray:
    """Return the least number of active latents, of the shape of sigma2: that of the condition with the most."""
    counts = [ppca.ppca_active_dims(_positive(part), sigma2, n_latent, beta) for part in _checked(parts)]
    return np.max(counts, axis=0)


def collapsed_elbo(parts: Sequence[ConditionModes], sigma2: ArrayLike) -> NDArray:
    """Return the ELBO of the collapsed state, in which the decoder gives the mean of each condition, in nats."""
    trace = sum(part.share * float(np.sum(part.eigenvalues)) for part in _checked(parts))
    return ppca.collapsed_elbo(trace, parts[0].eigenvalues.size, sigma2)


def gaussian_log_likelihood(parts: Sequence[ConditionModes]) -> float | None:
    """Return the expected log likelihood of data that are Gaussian given the condition, in nats; None where a
    covariance is singular."""
    if any(part.eigenvalues[-1] <= 0 for part in _checked(parts)):
        return None
    return sum(part.share * ppca.gaussian_log_likelihood(part.eigenvalues) for part in parts)


def kl_slope_below(parts: Sequence[ConditionModes], beta: float = 1.0) -> float:
    """Return dKL/dsigma2 just below the critical variance: the sum of -p_c m_c beta / (2 lambda_1).

    m_c is the number of eigenvalues of condition c within THRESHOLD_TOLERANCE of the largest of all, lambda_1.
    """
    top = critical_variance(parts)
    multiplicity = sum(part.share * np.sum(~ppca.is_active(top, part.eigenvalues)) for part in parts)
    return float(-multiplicity * beta / (2 * top))


def exact_above(parts: Sequence[ConditionModes], n_latent: int) -> float:
    """Return the beta * sigma2 above which these curves are the optimum over all decoders of data that are Gaussian
    given the condition (`ppca.ppca_exact_above`)."""
    return max(ppca.ppca_exact_above(_positive(part), n_latent) for part in _checked(parts))


def unaware_threshold(of_x: ArrayLike, shares: ArrayLike, given_c: ArrayLike) -> float:
    """Return beta * sigma2 above which an encoder that is linear in x and does not see the condition is collapsed.

    With mu = v a.x and decoder means m_c + u_c z, the covariance of z with x in condition c is Cov(x | c) a. The
    largest value of sum_c p_c |Cov(x | c) a|^2 / (a.Sigma_x a) is the largest eigenvalue of
    Sigma_x^-1/2 (sum_c p_c Cov(x | c)^2) Sigma_x^-1/2. An encoder of any form can do better, as x may tell it c, so
    this is a lower bound. For a decoder that adds its condition give one part, E Cov(x | c); then it is exact for
    linear networks.

    Parameters
    ----------
    of_x : array [D, D]
        Covariance of the data.
    shares : array [C]
        p_c.
    given_c : array [C, D, D]
        Cov(x | c).

    Returns
    -------
    float
        In squared units of the data.
    """
    total, shares, given = (np.asarray(value, dtype=float) for value in (of_x, shares, given_c))
    squared = np.einsum("c,cij,cjk->ik", shares, given, given)
    values, vectors = np.linalg.eigh(total)
    varies = values > ppca.NO_VARIANCE * values[-1]
    root = vectors[:, varies] / np.sqrt(values[varies])
    return float(np.linalg.eigvalsh(root.T @ squared @ root)[-1])


def _mean(
    curve: Callable[..., NDArray], parts: Sequence[ConditionModes], sigma2: ArrayLike, n_latent: int, beta: float
) -> NDArray:
    """The mean of a curve of `theory.ppca` over the conditions."""
    s = checked_sigma2(sigma2)
    return sum(part.share * curve(_positive(part), s, n_latent, beta) for part in _checked(parts))


def _positive(part: ConditionModes) -> NDArray:
    """Eigenvalues with the smallest positive number instead of zeros, which no decoder variance lies below."""
    return np.maximum(part.eigenvalues, np.finfo(float).tiny)


def _checked(parts: Sequence[ConditionModes]) -> Sequence[ConditionModes]:
    total = sum(part.share for part in parts)
    if not abs(total - 1) <= _SHARES_TOLERANCE or any(not part.share > 0 for part in parts):
        raise InputError(f"shares of the conditions: {[part.share for part in parts]}, must be positive and sum to 1")
    return parts
