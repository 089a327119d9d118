"""A training step in few launches on CUDA: kernels that do what is elementwise between the networks' passes.

Each does the same as several operations of `VAEStep` and `Trainer`, in the same order; csrc/cuda_step_launch.h has the
arguments.
"""

from __future__ import annotations

import torch
from torch import Tensor

from phasevae.kernels.dispatch import implementation
from phasevae.kernels.reconstruction import GaussianReconstruction
from phasevae.model import LOGVAR_RANGE
from phasevae.rows import Batch
from phasevae.sweeps.settings import Settings
from phasevae.training.cuda_graph import StepInputs
from phasevae.training.problem import Problem
from phasevae.training.step_rows import StepRows
from phasevae.training.vae_step import Divergence, VAEStep
from phasevae.training.variance_reduction import is_matched


class FusedStep(VAEStep):
    """The gradients of an ensemble with one level of latents. Parameters and attributes are those of `VAEStep`."""

    @staticmethod
    def can_train(problem: Problem, settings: Settings) -> bool:
        """Return whether there are kernels for the step of a training."""
        kernels = implementation(problem.rows.device.type)
        if settings.hierarchy is not None or not kernels.has_step_kernels(problem.rows.device.type):
            return False
        return not settings.moment_matched_noise or settings.n_latent <= kernels.MOST_MATCHED

    def _draw(self, encoded: Tensor, step: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        settings, n_latent = self._settings, encoded.shape[-1] // 2
        matched = settings.moment_matched_noise and is_matched(encoded.shape[1], n_latent)
        kernels = implementation(encoded.device.type)
        z, logvar, kl = kernels.sample_posterior(
            encoded.contiguous(), self._keys, step, settings.antithetic, matched, *LOGVAR_RANGE
        )
        return encoded[..., :n_latent], logvar, z, kl

    def _divergence(self, z: Tensor, logvar: Tensor, kl: Tensor, step: Tensor) -> Divergence:
        """Return the divergence from the prior, whose mean over rows is kl [M]."""
        return Divergence(kl, self._beta * kl)

    def _by_encoded(
        self, encoded: Tensor, mu: Tensor, logvar: Tensor, z: Tensor, grad_z: Tensor, of_prior: Divergence
    ) -> Tensor:
        kernels = implementation(encoded.device.type)
        return kernels.sample_posterior_backward(grad_z, self._of_kl, encoded.contiguous(), z, *LOGVAR_RANGE)

    def _by_outputs(
        self, batch: Batch, mu: Tensor, logvar: Tensor, z: Tensor, outputs: Tensor, sigma2: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        is_gaussian = type(self._reconstruction) is GaussianReconstruction
        if self.group <= 1 or not is_gaussian or batch.condition is not None:
            return super()._by_outputs(batch, mu, logvar, z, outputs, sigma2)
        kernels = implementation(outputs.device.type)
        return kernels.gaussian_objective(batch.x, self._mean, mu, logvar, z, outputs, sigma2, self.group)


class FusedBounds:
    """The beginning and the end of a step: its rows and schedules, and the sums for the history and the counters.

    Parameters
    ----------
    inputs : StepInputs
    sigma2 : Tensor [M]
    streams : Tensor [M]
        int64, the stream of rows that each model sees.
    window : Tensor [3, M]
        float64, what steps are added to.
    """

    def __init__(self, inputs: StepInputs, sigma2: Tensor, streams: Tensor, window: Tensor):
        self._inputs, self._sigma2, self._streams, self._window = inputs, sigma2, streams, window
        self._kernels = implementation(sigma2.device.type)

    @staticmethod
    def rows_of(shown: StepRows) -> Tensor | None:
        """Return the rows [N, D] that the kernel can gather: contiguous ones that the encoder sees as they are."""
        tensors = shown.tensors
        if tensors is None or tensors[0] is not tensors[1] or not tensors[1].is_contiguous():
            return None
        return tensors[1]

    def begin(self, x: Tensor) -> tuple[Batch, Tensor, Tensor, Tensor]:
        """Return the batch, sigma2 [M] in this step, its factor [] and the learning rate [], from the rows x [N, D]."""
        (_, position), block = self._inputs.counters, self._inputs.block
        batch, sigma2, scalars = self._kernels.step_inputs(x, *block, position, self._streams, self._sigma2)
        factor, learning_rate = scalars.unbind()
        return Batch(batch, batch), sigma2, factor, learning_rate

    @torch.no_grad()
    def end(self, energy: Tensor, kl: Tensor, penalty: Tensor, factor: Tensor) -> None:
        """Add a step to the window, as `Trainer._add` does, and advance the counters."""
        sums = energy, kl, penalty, self._sigma2
        self._kernels.end_step(self._window, *sums, factor, *self._inputs.counters)
