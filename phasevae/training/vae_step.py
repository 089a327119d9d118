"""The gradients of one training step of an ensemble of VAEs: encode, draw, decode, and both backward passes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from phasevae.architecture import architecture_of
from phasevae.kernels import noise
from phasevae.kernels.elbo import reparam_kl
from phasevae.model import VAEEnsemble, decoder_input, initialise, posterior
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
    differentiable : Tensor [M]
        The part of the penalty that autograd differentiates by the outputs of the encoder.
    grad_z : Tensor [M, A, B, n], optional
        The derivative of the other part by the draws.
    """

    kl: Tensor
    penalty: Tensor
    differentiable: Tensor
    grad_z: Tensor | None = None


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
    """

    def __init__(self, problem: Problem, members: Sequence[Member], settings: Settings):
        self._settings = settings
        self._reconstruction = reconstruction = problem.reconstruction
        rows = problem.rows
        device, dtype = rows.device, rows.dtype
        self.model = self._new_model([member.seed for member in members], problem, settings)
        self.gradients = torch.zeros_like(self.model.parameters)
        self._beta = torch.tensor([member.beta for member in members], dtype=dtype, device=device)
        self._point_keys = keys = [noise.point_key("noise", m.seed, m.sigma2, m.beta, m.beta_top) for m in members]
        self._keys = torch.tensor(keys, dtype=torch.int64, device=device)
        # Only rows of one condition have one E[x | z, c]; no two rows share their numbers.
        shares = reconstruction.is_linear and (rows.conditioning is None or rows.conditioning.has_classes)
        self._group = rows_sharing(settings.batch, settings.rao_blackwell_group) if shares else 1
        self._mean = problem.mean

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

        Autograd differentiates the operations of the ELBO; the networks have their own derivatives.

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
        mu, logvar = self._posterior(encoded.requires_grad_())
        z, kl = reparam_kl(mu, logvar, self._keys, step, self._settings.antithetic)
        if self._settings.moment_matched_noise:
            z = moment_matched_noise(z, mu, logvar)
        condition = None if batch.condition is None else batch.condition.repeat(1, z.shape[1], 1)
        drawn = decoder_input(z.detach().flatten(1, 2), condition)
        decoded, of_decoder = model.decoder.forward(model.parameters, drawn, keep=True)
        decoded = decoded.unflatten(1, z.shape[1:3])
        of_draws = None if batch.condition is None else batch.condition[:, None]
        outputs = self._reconstruction.with_offset(decoded, of_draws).requires_grad_()
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
        objectives, derivatives = [z], [grad_z]
        if of_prior.differentiable.requires_grad:
            objectives.append(of_prior.differentiable)
            derivatives.append(torch.ones_like(of_prior.differentiable))
        (grad_encoded,) = torch.autograd.grad(objectives, encoded, derivatives)
        model.encoder.backward(model.parameters, batch.inputs, of_encoder, grad_encoded, self.gradients)
        return energy.detach(), of_prior.kl.detach(), of_prior.penalty.detach()

    def _posterior(self, encoded: Tensor) -> tuple[Tensor, Tensor]:
        """Return mu and log variance, each [M, B, n], from the output of the encoder."""
        return posterior(encoded)

    def _divergence(self, z: Tensor, logvar: Tensor, kl: Tensor, step: Tensor) -> Divergence:
        """Return the divergence from the prior for draws z [M, A, B, n] with logvar and kl [M, B, n]."""
        kl = kl.sum(-1).mean(-1)
        penalty = self._beta * kl
        return Divergence(kl, penalty, penalty)

    def _by_outputs(
        self, batch: Batch, mu: Tensor, logvar: Tensor, z: Tensor, outputs: Tensor, sigma2: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the derivatives of the energy by the outputs [M, A, B, P], of rows and of targets, and its mean [M].

        The decoder's weights are fitted to the targets, which have less noise; the latents to the rows themselves,
        because the targets depend on the latents.
        """
        statistics = self._reconstruction.statistics(batch.x)
        energy = self._reconstruction.energy(statistics, outputs, sigma2).mean((1, 2))
        (of_rows,) = torch.autograd.grad(energy.sum(), outputs)
        if self._group <= 1:
            return of_rows, of_rows, energy
        means = self._reconstruction.means(outputs.detach())
        targets = rao_blackwell_targets(statistics, self._mean, mu, logvar, z, means, self._group, batch.condition)
        of_one = outputs.flatten(1, 2)[:, None]
        energy_of_targets = self._reconstruction.energy(targets.flatten(1, 2), of_one, sigma2).mean((1, 2))
        (of_targets,) = torch.autograd.grad(energy_of_targets.sum(), outputs)
        return of_rows, of_targets, energy
