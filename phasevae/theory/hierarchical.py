"""Closed forms of a VAE with two levels of latents, x - z1 - z2, for Gaussian data and linear networks.

The decoders are p(x | z1) of variance sigma2 and p(z1 | z2) of variance eta2, the encoders q(z1 | x) and q(z2 | z1),
and the prior of z2 is standard normal. A training minimises

    E|x - f1(z1)|^2 / (2 sigma2) + beta D1 + beta_top D2,
    D1 = E[ln q(z1 | x) - ln p(z1 | z2)] at the sampled z1,   D2 = E KL(q(z2 | z1) || p(z2)).

So the top level is a VAE of its own: its data are the sampled z1, and its effective variance is
r = (beta_top / beta) eta2. A mode of the data with eigenvalue lambda has a latent of level 1, with posterior variance q
and variance V = Var mu1 + q over the data. If the top level has a latent for it too, its part of the objective is

    lambda q / (2 sigma2 V) + (beta / 2) [min(V, r) / eta2 - 1 - ln(q / eta2)] + (beta_top / 2) [ln(V / r)]_+ .

Where q is fixed there is one minimum; level 1 is active if V > q there, the top level if V > r. Where q is learned the
objective depends on q / V and on V separately. For beta_top >= beta its minimum is at V = eta2 for every mode, with the
top level collapsed. For beta_top < beta it has no minimum: z1 grows without bound, at constant q / V.

The derivation, and what holds for other data and networks, are in docs/theory/hierarchies.md. The regime of a fixed
posterior variance is that of Dang, Tran, Nguyen & Ho, ICLR 2024, arXiv:2306.05023.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phasevae.errors import InputError
from phasevae.theory.inputs import leading_eigenvalues
from phasevae.theory.ppca import is_active


@dataclass(frozen=True)
class Hierarchy:
    """A hierarchy with its weights.

    Attributes
    ----------
    n_latent, n_top : int
        Latents of level 1 and of the top level.
    sigma2 : float
        Variance of p(x | z1), in squared units of the data.
    beta, beta_top : float
        Weights of the divergences of level 1 and of the top level.
    posterior_variance : float, optional
        Variance of q(z1 | x) if it is fixed; by default it is learned.
    prior_variance : float
        eta2, the variance of p(z1 | z2).
    largest_variance : float
        Upper bound of a learned variance of q(z1 | x), for example the clamp of a training.
    """

    n_latent: int
    n_top: int
    sigma2: float
    beta: float = 1.0
    beta_top: float = 1.0
    posterior_variance: float | None = None
    prior_variance: float = 1.0
    largest_variance: float = math.inf

    def __post_init__(self) -> None:
        for name in ("n_latent", "n_top", "sigma2", "beta", "beta_top", "posterior_variance", "prior_variance"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InputError(f"{name}: {value}, must be positive")
        if not self.largest_variance >= self.prior_variance:
            raise InputError(
                f"largest_variance: {self.largest_variance}, must be at least prior_variance, {self.prior_variance}"
            )

    @property
    def top_effective_variance(self) -> float:
        """r, the effective variance of the top level as a VAE of z1."""
        return self.beta_top / self.beta * self.prior_variance

    @property
    def runs_away(self) -> bool:
        """Whether z1 grows to `largest_variance`, and without that bound for ever."""
        return self.posterior_variance is None and self.beta_top < self.beta


@dataclass(frozen=True)
class HierarchyOptimum:
    """The optimum of each mode, by descending eigenvalue.

    Attributes
    ----------
    active : array of bool [n_latent]
        Whether the latent of level 1 carries information about the data.
    variance : array [n_latent]
        V, the variance of z1 over data and noise.
    posterior_variance : array [n_latent]
        q, the part of V that is noise of the encoder.
    kl : array [n_latent]
        D1 by latent, in nats. It can be negative where the top level is active.
    top_active : array of bool [n_top]
        Whether the latent of the top level carries information about z1.
    top_kl : array [n_top]
        D2 by latent, in nats.
    """

    active: NDArray[np.bool_]
    variance: NDArray
    posterior_variance: NDArray
    kl: NDArray
    top_active: NDArray[np.bool_]
    top_kl: NDArray

    @property
    def information(self) -> NDArray:
        """What each latent of level 1 tells about the data, (1/2) ln(V / q) in nats [n_latent]."""
        return 0.5 * np.log(self.variance / self.posterior_variance)


def hierarchy_optimum(eigenvalues: ArrayLike, hierarchy: Hierarchy) -> HierarchyOptimum:
    """Return the optimum of a linear hierarchy.

    Parameters
    ----------
    eigenvalues : array [D], descending
        Of the data covariance.
    hierarchy : Hierarchy

    Returns
    -------
    HierarchyOptimum

    Raises
    ------
    InputError
        If the objective has no minimum.
    """
    h, eta2 = hierarchy, hierarchy.prior_variance
    if h.runs_away and math.isinf(h.largest_variance):
        raise InputError(f"beta_top: {h.beta_top}, must be at least beta = {h.beta} with learned variances")
    lam = leading_eigenvalues(eigenvalues, h.n_latent)
    # The top level serves the modes in which z1 varies most, which are the leading ones.
    with_top = np.arange(h.n_latent) < h.n_top
    r = np.where(with_top, h.top_effective_variance, math.inf)
    if h.posterior_variance is not None:
        q = np.full(h.n_latent, h.posterior_variance)
        variance = _variance_of_z1(lam, q, r, h)
    else:
        q = eta2 / np.maximum(1, lam / (h.beta * h.sigma2))
        variance = np.full(h.n_latent, eta2)
        if h.runs_away:
            q = np.where(with_top, h.largest_variance, q)
            variance = np.where(with_top, _variance_of_z1(lam, q, r, h), variance)
    top_active = is_active(variance, r)
    explained = np.where(top_active, variance / r, 1.0)
    kl = 0.5 * (np.where(top_active, r, variance) / eta2 - 1 - np.log(q / eta2))
    top = np.zeros(max(h.n_latent, h.n_top))
    top[: h.n_latent] = 0.5 * np.log(explained)
    return HierarchyOptimum(is_active(variance, q), variance, q, kl, top[: h.n_top] > 0, top[: h.n_top])


def _variance_of_z1(lam: NDArray, q: NDArray, r: NDArray, h: Hierarchy) -> NDArray:
    """Return V [n_latent] at the minimum of each mode's objective for posterior variances q."""
    signal = lam * q / h.sigma2
    without_top = np.sqrt(signal * h.prior_variance / h.beta)
    return np.maximum(q, np.where(without_top <= r, without_top, signal / h.beta_top))


def critical_beta_top(hierarchy: Hierarchy, eigenvalue: float, beta: ArrayLike) -> NDArray:
    """Return the weight beta_top from which on the top level is collapsed.

    Parameters
    ----------
    hierarchy : Hierarchy
        Its weights are not used.
    eigenvalue : float
        Of the mode; the largest one is the last to lose the top level.
    beta : array
        The weight of level 1.

    Returns
    -------
    array of the shape of beta
        beta itself if the posterior variance is learned. If it is fixed max(a, sqrt(a lambda / sigma2))
        with a = beta q / eta2. Where a is the larger one the top level encodes nothing but the noise of q(z1 | x).
    """
    beta = np.asarray(beta, dtype=float)
    if hierarchy.posterior_variance is None:
        return beta.copy()
    a = beta * hierarchy.posterior_variance / hierarchy.prior_variance
    return np.maximum(a, np.sqrt(a * eigenvalue / hierarchy.sigma2))


def critical_beta(hierarchy: Hierarchy, eigenvalue: float, beta_top: ArrayLike) -> NDArray:
    """Return the weight beta from which on level 1 is collapsed.

    Parameters
    ----------
    hierarchy : Hierarchy
        Its weights are not used.
    eigenvalue : float
        Of the mode; the largest one is the last to collapse.
    beta_top : array
        The weight of the top level.

    Returns
    -------
    array of the shape of beta_top
        lambda / sigma2 if the posterior variance is learned, with beta_top >= beta. If it is fixed
        lambda eta2 / (q sigma2) for beta_top >= lambda / sigma2, and infinity below: level 1 never collapses there.
    """
    scaled = eigenvalue / hierarchy.sigma2
    beta_top = np.asarray(beta_top, dtype=float)
    if hierarchy.posterior_variance is None:
        return np.full(beta_top.shape, scaled)
    own = scaled * hierarchy.prior_variance / hierarchy.posterior_variance
    return np.where(is_active(scaled, beta_top), math.inf, own)
