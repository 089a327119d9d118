"""The gradients of one training step of an ensemble of VAEs: encode, draw, decode, and both backward passes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from phasevae.kernels import noise
from phasevae.kernels.elbo import reparam_kl
from phasevae.model import Architecture, decoder_input, initialise, posterior
from phasevae.rows import Batch
from phasevae.sweeps.settings import Member, Settings, rows_sharing
from phasevae.training.problem import Problem
from phasevae.training.variance_reduction import moment_matched_noise, rao_blackwell_targets


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
        sees = rows.conditioning is None or rows.conditioning.encoder_sees
        architecture = Architecture(
            rows.n_inputs - (rows.n_condition if sees else 0),
            settings.n_latent,
            settings.hidden,
            reconstruction.n_outputs,
            rows.n_condition,
            sees,
        )
        device, dtype = rows.device, rows.dtype
        self.model = initialise(architecture, [member.seed for member in members], device, dtype)
        self.gradients = torch.zeros_like(self.model.parameters)
        self._beta = torch.tensor([member.beta for member in members], dtype=dtype, device=device)
        keys = [noise.point_key("noise", m.seed, m.sigma2, m.beta) for m in members]
        self._keys = torch.tensor(keys, dtype=torch.int64, device=device)
        # Only rows of one condition have one E[x | z, c]; no two rows share their numbers.
        shares = reconstruction.is_linear and (rows.conditioning is None or rows.conditioning.has_classes)
        self._group = rows_sharing(settings.batch, settings.rao_blackwell_group) if shares else 1
        self._mean = problem.mean

    def differentiate(self, batch: Batch, sigma2: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
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
        Tensor [M], Tensor [M]
            The mean energy of the reconstruction and the mean KL, in nats.
        """
        model = self.model
        encoded, of_encoder = model.encoder.forward(model.parameters, batch.inputs, keep=True)
        mu, logvar = posterior(encoded.requires_grad_())
        z, kl = reparam_kl(mu, logvar, self._keys, step, self._settings.antithetic)
        if self._settings.moment_matched_noise:
            z = moment_matched_noise(z, mu, logvar)
        condition = None if batch.condition is None else batch.condition.repeat(1, z.shape[1], 1)
        drawn = decoder_input(z.detach().flatten(1, 2), condition)
        decoded, of_decoder = model.decoder.forward(model.parameters, drawn, keep=True)
        decoded = decoded.unflatten(1, z.shape[1:3])
        outputs = self._reconstruction.with_offset(decoded).requires_grad_()
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
        grad_z = grad_input[..., : z.shape[-1]].contiguous()
        kl = kl.sum(-1).mean(-1)
        objective = (self._beta * kl).sum()
        (grad_encoded,) = torch.autograd.grad((z, objective), encoded, (grad_z.view_as(z), torch.ones_like(objective)))
        model.encoder.backward(model.parameters, batch.inputs, of_encoder, grad_encoded, self.gradients)
        return energy.detach(), kl.detach()

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
