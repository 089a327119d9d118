"""The gradients of one training step of an ensemble of hierarchies x - z1 - z2.

Level 1 takes the step of an ordinary VAE, with another prior. The top level is a VAE whose rows are the draws of z1: it
minimises the same divergence, by its own networks, and hands back the derivative by its rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from phasevae.hierarchy import HierarchyArchitecture, HierarchyEnsemble
from phasevae.kernels import noise
from phasevae.kernels.elbo import gaussian_nll, reparam_kl
from phasevae.model import initialise, posterior
from phasevae.sweeps.settings import Member, Settings, rows_sharing
from phasevae.training.problem import Problem
from phasevae.training.vae_step import Divergence, VAEStep
from phasevae.training.variance_reduction import moment_matched_noise, rao_blackwell_targets


class HierarchyStep(VAEStep):
    """The gradients of an ensemble with two levels of latents. Parameters and attributes are those of `VAEStep`."""

    model: HierarchyEnsemble

    def __init__(self, problem: Problem, members: Sequence[Member], settings: Settings):
        super().__init__(problem, members, settings)
        like = self._beta
        self._beta_top = torch.tensor([member.beta_top for member in members], dtype=like.dtype, device=like.device)
        keys = [noise.point_key("noise", m.seed, m.sigma2, m.beta, m.beta_top, level=2) for m in members]
        self._top_keys = torch.tensor(keys, dtype=torch.int64, device=like.device)
        self._unit = torch.ones_like(like)
        draws = 2 if settings.antithetic else 1
        self._top_group = rows_sharing(draws * settings.batch, settings.rao_blackwell_group)

    @staticmethod
    def _new_model(seeds: Sequence[int], problem: Problem, settings: Settings) -> HierarchyEnsemble:
        rows, levels = problem.rows, settings.hierarchy
        architecture = HierarchyArchitecture(
            rows.n_features,
            settings.n_latent,
            settings.hidden,
            n_top=levels.n_top,
            posterior_variance=levels.fixed_variance,
        )
        return HierarchyEnsemble(architecture, initialise(architecture, seeds, rows.device, rows.dtype).parameters)

    def _posterior(self, encoded: Tensor) -> tuple[Tensor, Tensor]:
        return self.model.architecture.level_1_posterior(encoded.requires_grad_())

    def _by_encoded(
        self, encoded: Tensor, mu: Tensor, logvar: Tensor, z: Tensor, grad_z: Tensor, of_prior: Divergence
    ) -> Tensor:
        """Return the derivative by the output of level 1's encoder; autograd differentiates its posterior."""
        objectives, derivatives = [z], [grad_z]
        if of_prior.differentiable.requires_grad:
            objectives.append(of_prior.differentiable)
            derivatives.append(torch.ones_like(of_prior.differentiable))
        return torch.autograd.grad(objectives, encoded, derivatives)[0]

    def _divergence(self, z: Tensor, logvar: Tensor, kl: Tensor, step: Tensor) -> Divergence:
        """Return the divergences of both levels, and differentiate those of the top level.

        That of level 1 at the draws is E|z1 - f2(z2)|^2 / 2 - (1/2) sum (ln var + 1), of which autograd gets the
        logarithm.
        """
        error, kl_top, grad_z = self._top_level(z.detach().flatten(1, 2), step)
        entropy = 0.5 * (logvar + 1).sum(-1).mean(-1)
        kl = error - entropy
        penalty = self._beta * kl + self._beta_top * kl_top
        total = kl.detach() + kl_top - self.model.architecture.collapsed_kl
        return Divergence(total, penalty, grad_z.view_as(z), -self._beta * entropy)

    def _top_level(self, z1: Tensor, step: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Fill the gradients of the top level's networks for rows z1 [M, R, n].

        Returns E|z1 - f2(z2)|^2 / 2 and the KL of the top level, both [M], and the derivative of the objective by z1.
        """
        model = self.model
        encoded, of_encoder = model.top_encoder.forward(model.parameters, z1, keep=True)
        mu, logvar = posterior(encoded.requires_grad_())
        z2, kl = reparam_kl(mu, logvar, self._top_keys, step)
        if self._settings.moment_matched_noise:
            z2 = moment_matched_noise(z2, mu, logvar)
        drawn = z2.detach().flatten(1, 2)
        decoded, of_decoder = model.top_decoder.forward(model.parameters, drawn, keep=True)
        means = decoded[:, None].requires_grad_()
        error = gaussian_nll(z1, means, self._unit).mean((1, 2))
        (of_rows,) = torch.autograd.grad((self._beta * error).sum(), means)
        of_targets = of_rows
        if self._top_group > 1:
            targets = rao_blackwell_targets(z1, None, mu, logvar, z2, means, self._top_group)[:, 0]
            error_of_targets = gaussian_nll(targets, means, self._unit).mean((1, 2))
            (of_targets,) = torch.autograd.grad((self._beta * error_of_targets).sum(), means)
        grad_z2 = model.top_decoder.backward(
            model.parameters,
            drawn,
            of_decoder,
            of_targets[:, 0],
            self.gradients,
            None if of_targets is of_rows else of_rows[:, 0],
            with_input=True,
        )
        kl = kl.sum(-1).mean(-1)
        penalty = (self._beta_top * kl).sum()
        (grad_encoded,) = torch.autograd.grad((z2, penalty), encoded, (grad_z2.view_as(z2), torch.ones_like(penalty)))
        grad_z1 = model.top_encoder.backward(
            model.parameters, z1, of_encoder, grad_encoded, self.gradients, with_input=True
        )
        # z1 is what the top level sees and what it reconstructs: the second derivative is that by the means, reversed.
        return error.detach(), kl.detach(), grad_z1 - of_rows[:, 0]
