"""The reconstruction term of the ELBO: what a family of likelihoods asks of the outputs of a decoder.

A training minimises E[-ln p(x | z)] / sigma2 + beta KL. For the Gaussian family -ln p is half the squared error, so
sigma2 is the decoder variance. The other families have sigma2 = 1, and beta is their control parameter.

Shapes: M models, A draws per row, B rows, D features, P outputs of a decoder, S sufficient statistics.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from phasevae.kernels.elbo import gaussian_nll, gaussian_slopes, mean_over_rows


class Reconstruction(ABC):
    """A family with its global parameters fixed.

    Attributes
    ----------
    n_outputs : int
        P.
    is_linear : bool
        Whether the energy is linear in the statistics, as in an exponential family.
    offset : Tensor [P] or None
        The outputs of the constant decoder, which are added to those of the network. None stands for zeros.
    """

    n_outputs: int
    is_linear: bool
    offset: Tensor | None = None

    def inputs(self, x: Tensor) -> Tensor:
        """Return what the encoder sees of rows x [..., D], [..., E]."""
        return x

    @abstractmethod
    def statistics(self, x: Tensor) -> Tensor:
        """Return the sufficient statistics [..., B, S] of rows x [..., B, D]; x itself if the energy is not linear."""

    @abstractmethod
    def energy(self, statistics: Tensor, outputs: Tensor, sigma2: Tensor) -> Tensor:
        """Return the reconstruction term of an objective.

        Parameters
        ----------
        statistics : Tensor [M or 1, B, S]
            Of the rows; with 1 they are shared by all models.
        outputs : Tensor [M, A, B, P]
            With the offset. Gradients flow to them alone.
        sigma2 : Tensor [M]

        Returns
        -------
        Tensor [M, A, B]
            -ln p(x | outputs) / sigma2 without terms that are free of the outputs, in nats.
        """

    def energy_and_slopes(self, statistics: Tensor, outputs: Tensor, sigma2: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean of `energy` over draws and rows, [M], and its derivative by the outputs [M, A, B, P]."""
        outputs = outputs.detach().requires_grad_()
        with torch.enable_grad():
            energy = self.energy(statistics, outputs, sigma2)
        of_energy = torch.full_like(energy, 1.0 / (energy.shape[1] * energy.shape[2]))
        return mean_over_draws(energy.detach()), torch.autograd.grad(energy, outputs, of_energy)[0]

    def slopes(self, statistics: Tensor, outputs: Tensor, sigma2: Tensor) -> Tensor:
        """Return the derivative of `energy_and_slopes` alone."""
        return self.energy_and_slopes(statistics, outputs, sigma2)[1]

    @abstractmethod
    def means(self, outputs: Tensor) -> Tensor:
        """Return the expectations of the statistics [..., S] under outputs [..., P]."""

    @abstractmethod
    def constant(self, x: Tensor, sigma2: float) -> Tensor:
        """Return what `energy` leaves out for rows x [B, D], [B], in nats: -ln p = energy + constant."""

    def with_offset(self, decoded: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return the outputs of decoders from those of their networks.

        Parameters
        ----------
        decoded : Tensor [..., B, P]
        condition : Tensor [..., B, C], optional
            The condition of the rows, where each class has a constant decoder of its own.
        """
        return decoded if self.offset is None else decoded + self.offset


def mean_over_draws(energies: Tensor) -> Tensor:
    """Return the means [M] of energies [M, A, B]."""
    return mean_over_rows(energies, energies.shape[1] * energies.shape[2])


class GaussianReconstruction(Reconstruction):
    """A Gaussian decoder of means, for centred rows. The statistics are the rows."""

    is_linear = True

    def __init__(self, dimension: int):
        self.n_outputs = dimension

    def statistics(self, x: Tensor) -> Tensor:
        return x

    def energy(self, statistics: Tensor, outputs: Tensor, sigma2: Tensor) -> Tensor:
        return gaussian_nll(statistics, outputs, sigma2)

    def energy_and_slopes(self, statistics: Tensor, outputs: Tensor, sigma2: Tensor) -> tuple[Tensor, Tensor]:
        mean = mean_over_draws(self.energy(statistics, outputs, sigma2))
        return mean, self.slopes(statistics, outputs, sigma2)

    def slopes(self, statistics: Tensor, outputs: Tensor, sigma2: Tensor) -> Tensor:
        return gaussian_slopes(statistics, outputs, sigma2)

    def means(self, outputs: Tensor) -> Tensor:
        return outputs

    def constant(self, x: Tensor, sigma2: float) -> Tensor:
        return x.new_full(x.shape[:1], 0.5 * x.shape[-1] * math.log(2 * math.pi * sigma2))
