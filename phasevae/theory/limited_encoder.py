"""The optimum of one mode when the encoder is not free: a fixed or bounded posterior variance, or scaled noise.

In units of the decoder a mode of variance lambda is carried by a latent with mean variance m = Var mu and posterior
variance q, of whose noise the decoder sees the part noise_scale. The best linear decoder leaves the error
lambda e / (m + e) with e = noise_scale^2 q, and the loss per mode is

    (1/2) [lambda e / (m + e) + s (m + q - 1 - ln q)],

s the effective variance. It is smallest at m = sqrt(e) (sqrt(lambda / s) - sqrt(e)), and zero is best unless
lambda > s e. With a free encoder this is probabilistic PCA (`theory.ppca`). The threshold of a fixed posterior variance
is that of Wang & Liu, NeurIPS 2022.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phasevae.theory.ppca import ACTIVE_KL, is_active

LARGEST_NOISE_SCALE = 1.4
"""From sqrt(2) on the active state does not begin at zero, and a threshold does not describe it."""


@dataclass(frozen=True)
class EncoderLimits:
    """What keeps the posterior from being N(mu, sigma_j^2) with a free variance. The default is a free encoder."""

    posterior_std: float | None = None  # the posterior standard deviation, if it is fixed
    least_variance: float = 0.0  # lower bound of the posterior variance
    noise_scale: float = 1.0  # the decoder sees mu + noise_scale * sigma * noise

    @property
    def collapsed_variance(self) -> float:
        """Posterior variance of a collapsed latent."""
        return max(1.0, self.least_variance) if self.posterior_std is None else self.posterior_std**2

    @property
    def collapsed_kl(self) -> float:
        """KL of a collapsed latent, in nats: zero where its variance can be 1."""
        return float(0.5 * (self.collapsed_variance - 1 - np.log(self.collapsed_variance)))

    @property
    def threshold_factor(self) -> float:
        """The effective variance at which a latent dies, in units of its eigenvalue."""
        return 1 / (self.noise_scale**2 * self.collapsed_variance)

    @property
    def active_kl(self) -> float:
        """KL above which a latent counts as active: where the decoder sees little noise, a small KL carries as much."""
        return ACTIVE_KL / max(1.0, self.threshold_factor)


FREE = EncoderLimits()


@dataclass(frozen=True)
class Modes:
    """The optimum of each mode. All arrays have the shape of the eigenvalues."""

    active: NDArray[np.bool_]
    kl: NDArray  # nats per sample, with the constant part of a fixed variance left out
    error: NDArray  # what the decoder leaves of the variance of the mode


def limited_modes(eigenvalues: ArrayLike, effective_variance: float, limits: EncoderLimits = FREE) -> Modes:
    """Return the optimum of modes that have a latent each.

    Parameters
    ----------
    eigenvalues : array
        In units of the decoder.
    effective_variance : float
        beta * sigma2 in the same units, positive.
    limits : EncoderLimits

    Returns
    -------
    Modes
    """
    lam, s, noise = np.asarray(eigenvalues, dtype=float), effective_variance, limits.noise_scale
    active = is_active(lam * limits.threshold_factor, s)
    ratio = np.where(active, np.sqrt(np.where(active, lam, s) / s), max(1.0, noise))
    if limits.posterior_std is not None:
        variance = np.full(lam.shape, limits.posterior_std**2)
    else:
        variance = np.maximum(_free_std(ratio, noise) ** 2, limits.least_variance)
    seen = noise * np.sqrt(variance)
    means = seen * (ratio - seen)
    constant = limits.collapsed_variance
    kl = 0.5 * (means + variance - np.log(variance)) - 0.5 * (constant - np.log(constant))
    return Modes(active, np.where(active, kl, 0.0), np.where(active, seen * np.sqrt(lam * s), lam))


def _free_std(ratio: NDArray, noise: float) -> NDArray:
    """The best posterior standard deviation: the positive root of (1 - noise^2) t^2 + noise ratio t - 1 = 0."""
    root = noise * ratio
    # The other form of the root, which has no division by zero at noise = 1.
    return 2 / (root + np.sqrt(root**2 + 4 * (1 - noise**2)))
