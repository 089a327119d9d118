"""The latents of a trained VAE, and the directions of its latent space that carry information. No torch."""

from __future__ import annotations

from dataclasses import dataclass

from numpy.typing import NDArray


@dataclass(frozen=True)
class Latent:
    """One latent of a trained VAE.

    Attributes
    ----------
    number : int
        From 0: its column of the network's z, and `latent` of dimensions.csv.
    kl : float
        Nats per sample.
    latent_variance, mean_variance : float
        E sigma_j^2, and the variance over the data of mu_j.
    second_moment : float
        E mu_j^2 + E sigma_j^2.
    active : bool
    strength : float
        How far the outputs move, in Euclidean norm, with one standard deviation of the latent; 0 if it is dead.
    direction : array [P] or None
        The unit vector along which they move.
    """

    number: int
    kl: float
    latent_variance: float
    mean_variance: float
    second_moment: float
    active: bool
    strength: float
    direction: NDArray | None


@dataclass(frozen=True)
class RelevantDirection:
    """A direction of the latent space with its relevance, which no scaling or rotation of the latents changes.

    Attributes
    ----------
    relevance : float
        Variance of the posterior mean along it over that of the noise (`phasevae.theory.relevance`).
    information : float
        What it says about the data, in nats per sample; its KL, at the optimum for Gaussian data.
    critical_kl_weight : float
        The weight of KL at which it collapses, to leading order.
    strength : float
        How far the outputs move, in Euclidean norm, with one standard deviation along it.
    direction : array [P]
        The unit vector along which they move.
    """

    relevance: float
    information: float
    critical_kl_weight: float
    strength: float
    direction: NDArray
