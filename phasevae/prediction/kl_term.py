"""KL terms that are not the usual KL: free bits, a capacity, other weights for other latents."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from phasevae.theory.limited_encoder import EncoderLimits, limited_modes

_BISECTIONS = 200


@dataclass(frozen=True)
class KlTerm:
    """How the KL term of a loss differs from the sum of KL over latents. The default is that sum."""

    free_bits: float = 0.0  # nats in each latent that cost nothing (Kingma et al. 2016)
    least_kl: float = 0.0  # nats in all latents together that cost nothing, or that a capacity asks for
    draws: int = 0  # 1 or 2 for a capacity: KL costs by its distance from `least_kl`, or by the square of it
    collapsed_cost: float = 0.0  # of a capacity, for collapsed latents
    mean_only: bool = False  # whether the variance of the posterior does not enter
    relative_weights: tuple[float, ...] = ()  # of the latents, ascending, with mean 1; empty if they are equal

    def cost(self, kl: NDArray, n: int) -> float:
        """Return what the KL of the latents costs, in nats, by which the weight of the term multiplies."""
        if self.draws:
            return self.collapsed_cost * abs(float(kl.sum()) / self.least_kl - 1) ** self.draws
        paid = np.maximum(np.sort(kl)[::-1], self.free_bits)
        return max(float((paid * self.weights(n)).sum()), self.least_kl)

    def weights(self, n: int) -> NDArray:
        """Return the relative weights of the first n latents, of which those with the least weight live longest."""
        return np.array(self.relative_weights[:n]) if self.relative_weights else np.ones(n)


USUAL_KL = KlTerm()


def kl_and_error_of_modes(
    eigenvalues: NDArray, effective_variance: float, limits: EncoderLimits, term: KlTerm
) -> tuple[NDArray, NDArray]:
    """Return the KL of the latents and the error left in their modes.

    A number of nats that cost nothing is filled by lowering the effective variance until KL has this size (reverse
    water-filling).

    Parameters
    ----------
    eigenvalues : array [n_latent], descending
    effective_variance : float
        Of a latent of relative weight 1.
    limits : EncoderLimits
    term : KlTerm

    Returns
    -------
    kl : array [n_latent], in nats per sample
    error : array [n_latent], in the units of the eigenvalues
    """
    weights = term.weights(eigenvalues.size)
    scaled = eigenvalues / weights
    if term.least_kl > 0 and limited_modes(scaled, effective_variance, limits).kl.sum() < term.least_kl:
        effective_variance = _filled(scaled, effective_variance, limits, term.least_kl)
    modes = limited_modes(scaled, effective_variance, limits)
    kl, error = modes.kl, modes.error * weights
    if term.free_bits > 0:
        kl = np.where(eigenvalues > 0, np.maximum(kl, term.free_bits), 0.0)
        error = np.minimum(error, eigenvalues * math.exp(-2 * term.free_bits))
    return kl, error


def thresholds_of_modes(eigenvalues: NDArray, limits: EncoderLimits, term: KlTerm) -> NDArray:
    """Return the effective variance at which each latent dies, infinite for latents that nats without cost keep alive.

    Parameters
    ----------
    eigenvalues : array [n], descending
    limits : EncoderLimits
    term : KlTerm

    Returns
    -------
    array [n]
    """
    scaled = eigenvalues / term.weights(eigenvalues.size)
    found = scaled * limits.threshold_factor
    if term.free_bits > 0:
        return np.full(found.shape, np.inf)
    if term.least_kl > 0:
        level = _filled(scaled, float(found[0]), limits, term.least_kl)
        found = np.where(limited_modes(scaled, level, limits).active, np.inf, found)
    return found


def _filled(eigenvalues: NDArray, most: float, limits: EncoderLimits, nats: float) -> float:
    """The effective variance at which the latents hold a number of nats, by bisection of its logarithm."""
    low, high = math.log(most) - 2 * nats - 50, math.log(most)
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        enough = limited_modes(eigenvalues, math.exp(middle), limits).kl.sum() >= nats
        low, high = (middle, high) if enough else (low, middle)
    return math.exp(low)
