"""The gradients of one training step of an ensemble of VAEs: encode, draw, decode, and both backward passes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from phasevae.architecture import architecture_of
from phasevae.kernels import noise
from phasevae.kernels.elbo import mean_over_rows, reparam_kl, reparam_kl_backward
from phasevae.model import VAEEnsemble, decoder_input, initialise, posterior, posterior_backward
from phasevae.networks.trial import TRIAL_ROWS
from phasevae.rows import Batch
from phasevae.sweeps.settings import Member, Settings, rows_sharing
from phasevae.training.problem import Problem
from phasevae.training.variance_reduction import moment_matched_noise, rao_blackwell_targets


class Divergence(NamedTuple):
    """The divergence of the posterior from the prior, [M], in nats.

    Attributes
    ----------
    kl : Tensor [M]
        Unweighted.
    penalty : Tensor [M]
        Weighted, as in the objective.
    grad_z : Tensor [M, A, B, n], optional
        The derivative of the penalty by the draws.
    differentiable : Tensor [M], optional
        The rest of the penalty, which autograd differentiates by the outputs of the encoder.
    """

    kl: Tensor
    penalty: Tensor
    grad_z: Tensor | None = None
    differentiable: Tensor | None = None


class VAEStep:
    """The gradients of an ensemble with one level of latents.

    Parameters
    ----------
    problem : Problem
        The data and the family of likelihoods.
    members : sequence of Member
        Decoder variance, beta and seed of each model.
    settings : Settings

    Attributes
    ----------
    model : VAEEnsemble
    gradients : Tensor [M, P]
        Those of the last call.
    group : int
        Rows that share the decoder's targets; 1 if none do.
    """

    def __init__(self, problem: Problem, members: Sequence[Member], settings: Settings):
        self._settings = settings
        self._reconstruction = reconstruction = problem.reconstruction
        rows = problem.rows
        device, dtype = rows.device, rows.dtype
        self.model = self._new_model([member.seed for member in members], problem, settings)
        self.gradients = torch.zeros_like(self.model.parameters)
        self._beta = torch.tensor([member.beta for member in members], dtype=dtype, device=device)
        self._of_kl = self._beta / settings.batch
        self._point_keys = keys = [noise.point_key("noise", m.seed, m.sigma2, m.beta, m.beta_top) for m in members]
        self._keys = torch.tensor(keys, dtype=torch.int64, device=device)
        # Only rows of one condition have one E[x | z, c]; no two rows share their numbers.
        shares = reconstruction.is_linear and (rows.conditioning is None or rows.conditioning.has_classes)
        self.group = rows_sharing(settings.batch, settings.rao_blackwell_group) if shares else 1
        self._mean = problem.mean

    def constants(self) -> dict[str, Tensor]:
        """Return the numbers of the models that no step changes: beta, derivative by the KL of a row, noise stream."""
        return {"beta": self._beta, "of_kl": self._of_kl, "keys": self._keys}

    @property
    def is_random(self) -> bool:
        """Whether a network draws random numbers of its own; `seed_noise` must then be called before each step."""
        return self.model.encoder.is_random or self.model.decoder.is_random

    def seed_noise(self, step: int) -> None:
        """Seed the random numbers of the networks in a step: functions of point, network and step alone."""
        for part, network in (("encoder", self.model.encoder), ("decoder", self.model.decoder)):
            if network.is_random:
                network.seeds = [noise.key("noise", f"{key},{part},{step}") for key in self._point_keys]

    @staticmethod
    def _new_model(seeds: Sequence[int], problem: Problem, settings: Settings) -> VAEEnsemble:
        rows, n_outputs = problem.rows, problem.reconstruction.n_outputs
        sees = rows.conditioning is None or rows.conditioning.encoder_sees
        dimension = rows.n_inputs - (rows.n_condition if sees else 0)
        architecture = architecture_of(
            settings.network, settings.hidden, dimension, settings.n_latent, n_outputs, rows.n_condition, sees
        )
        if settings.network is not None:
            some = torch.arange(min(TRIAL_ROWS, len(rows)), device=rows.order_device)
            architecture = architecture.tried_on(rows.gather(some[None]).inputs[0])
        return initialise(architecture, seeds, rows.device, rows.dtype)

    def differentiate(self, batch: Batch, sigma2: Tensor, step: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Fill `gradients` for the rows of a step.

        The derivatives of the networks and of the sampling are written out. Autograd serves the other families of
        likelihoods and networks of the user's own.

        Parameters
        ----------
        batch : Batch
            Of M streams, or of 1 that all models share.
        sigma2 : Tensor [M]
            The present decoder variances.
        step : Tensor []
            int64, the number of the step.

        Returns
        -------
        Tensor [M], Tensor [M], Tensor [M]
            The mean energy of the reconstruction, the mean KL and the weighted KL of the objective, in nats.
        """
        model = self.model
        encoded, of_encoder = model.encoder.forward(model.parameters, batch.inputs, keep=True)
        mu, logvar, z, kl = self._draw(encoded, step)
        condition = None if batch.condition is None else batch.condition.repeat(1, z.shape[1], 1)
        drawn = decoder_input(z.detach().flatten(1, 2), condition)
        decoded, of_decoder = model.decoder.forward(model.parameters, drawn, keep=True)
        decoded = decoded.unflatten(1, z.shape[1:3])
        of_draws = None if batch.condition is None else batch.condition[:, None]
        outputs = self._reconstruction.with_offset(decoded, of_draws)
        of_rows, of_targets, energy = self._by_outputs(batch, mu, logvar, z, outputs, sigma2)
        grad_input = model.decoder.backward(
            model.parameters,
            drawn,
            of_decoder,
            of_targets.flatten(1, 2),
            self.gradients,
            None if of_targets is of_rows else of_rows.flatten(1, 2),
            with_input=True,
        )
        grad_z = grad_input[..., : z.shape[-1]].contiguous().view_as(z)
        of_prior = self._divergence(z, logvar, kl, step)
        if of_prior.grad_z is not None:
            grad_z += of_prior.grad_z
        grad_encoded = self._by_encoded(encoded, mu, logvar, z, grad_z, of_prior)
        model.encoder.backward(model.parameters, batch.inputs, of_encoder, grad_encoded, self.gradients)
        return energy, of_prior.kl.detach(), of_prior.penalty.detach()

    def _draw(self, encoded: Tensor, step: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return mu and log variance, each [M, B, n], draws [M, A, B, n] and what `_divergence` needs of the KL."""
        mu, logvar = self._posterior(encoded)
        z, kl = reparam_kl(mu, logvar, self._keys, step, self._settings.antithetic)
        if self._settings.moment_matched_noise:
            z = moment_matched_noise(z, mu, logvar)
        return mu, logvar, z, kl

    def _posterior(self, encoded: Tensor) -> tuple[Tensor, Tensor]:
        """Return mu and log variance, each [M, B, n], from the output of the encoder."""
        return posterior(encoded)

    def _divergence(self, z: Tensor, logvar: Tensor, kl: Tensor, step: Tensor) -> Divergence:
        """Return the divergence from the prior for draws z [M, A, B, n] with logvar and kl [M, B, n]."""
        kl = mean_over_rows(kl, kl.shape[1])
        return Divergence(kl, self._beta * kl)

    def _by_encoded(
        self, encoded: Tensor, mu: Tensor, logvar: Tensor, z: Tensor, grad_z: Tensor, of_prior: Divergence
    ) -> Tensor:
        """Return the derivative by the output of the encoder [M, B, 2 n] from that by the draws."""
        of_kl = self._of_kl[:, None, None].expand_as(mu)
        return posterior_backward(encoded, *reparam_kl_backward(grad_z, of_kl, mu, logvar, z))

    def _by_outputs(
        self, batch: Batch, mu: Tensor, logvar: Tensor, z: Tensor, outputs: Tensor, sigma2: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the derivatives of the energy by the outputs [M, A, B, P], of rows and of targets, and its mean [M].

        The decoder's weights are fitted to the targets, which have less noise; the latents to the rows themselves,
        because the targets depend on the latents.
        """
        statistics = self._reconstruction.statistics(batch.x)
        energy, of_rows = self._reconstruction.energy_and_slopes(statistics, outputs, sigma2)
        if self.group <= 1:
            return of_rows, of_rows, energy
        means = self._reconstruction.means(outputs)
        targets = rao_blackwell_targets(statistics, self._mean, mu, logvar, z, means, self.group, batch.condition)
        of_one = outputs.flatten(1, 2)[:, None]
        of_targets = self._reconstruction.slopes(targets.flatten(1, 2), of_one, sigma2)
        return of_rows, of_targets.view_as(outputs), energy
