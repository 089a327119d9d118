"""Many steps of a training on the CPU as one native call (csrc/cpu/step.cpp).

The models of an ensemble never meet within a step: a thread takes a model through several whole steps in memory of its
own, then takes the model that has done the fewest. So a core that other work slows down takes less, and no thread waits
for it but at the end of the call. The numbers are those of the single operations, bit for bit.
"""

from __future__ import annotations

import time

import torch
from torch import Tensor

from phasevae.kernels.adam import BETA1, BETA2, EPSILON
from phasevae.kernels.class_families import Bernoulli
from phasevae.kernels.dispatch import implementation
from phasevae.kernels.mlp import Network
from phasevae.kernels.reconstruction import GaussianReconstruction
from phasevae.model import LOGVAR_RANGE
from phasevae.sweeps.settings import Settings
from phasevae.training.cuda_graph import Inputs
from phasevae.training.problem import Problem
from phasevae.training.step_rows import StepRows
from phasevae.training.vae_step import VAEStep
from phasevae.training.variance_reduction import is_matched

SECONDS = 0.25
"""About how long a call takes at most: between two calls a training can be stopped."""

_FAMILIES = {GaussianReconstruction: "gaussian", Bernoulli: "bernoulli"}


class NativeSteps:
    """The native steps of a training.

    Parameters
    ----------
    problem : Problem
    settings : Settings
    vae : VAEStep
        Whose model is trained.
    shown : StepRows
    sigma2 : Tensor [M]
    streams : Tensor [M]
        int64, the stream of rows that each model sees.
    moments : (Tensor, Tensor)
        Those of Adam, each [M, P].
    window : Tensor [3, M]
        float64, what the steps are added to.

    Attributes
    ----------
    at_once : int
        Steps that take about SECONDS.
    """

    def __init__(
        self,
        problem: Problem,
        settings: Settings,
        vae: VAEStep,
        shown: StepRows,
        sigma2: Tensor,
        streams: Tensor,
        moments: tuple[Tensor, Tensor],
        window: Tensor,
    ):
        self.at_once = 1
        self._shown = shown
        self._models = len(sigma2)
        model, reconstruction = vae.model, problem.reconstruction
        self._constants = {
            "streams": streams,
            "sigma2": sigma2,
            **vae.constants(),
            "mean": problem.mean if vae.group > 1 else None,
            "offset": reconstruction.offset,
            "encoder": model.encoder.widths,
            "decoder": model.decoder.widths,
            "family": _FAMILIES[type(reconstruction)],
            "antithetic": settings.antithetic,
            "is_matched": _matches_noise(settings),
            "group": vae.group,
            "logvar_range": LOGVAR_RANGE,
            "adam": (BETA1, BETA2, EPSILON),
            "parameters": model.parameters,
            "gradients": vae.gradients,
            "first_moment": moments[0],
            "second_moment": moments[1],
            "window": window,
            "in_panels": torch.tensor(False),
        }

    @staticmethod
    def can_train(problem: Problem, settings: Settings, vae: VAEStep, shown: StepRows) -> bool:
        """Whether the training is one of those that the native steps know; the arguments are those of the class."""
        rows = problem.rows
        if rows.device.type != "cpu" or rows.dtype != torch.float32 or type(vae) is not VAEStep:
            return False
        kernels = implementation("cpu")
        return (
            kernels.has_network_kernels("cpu")
            and "cpu" in kernels.TARGET_DEVICES
            and (not _matches_noise(settings) or settings.n_latent <= kernels.MOST_MATCHED)
            and type(problem.reconstruction) in _FAMILIES
            and type(vae.model.encoder) is Network
            and shown.tensors is not None
            and all(tensor.is_contiguous() for tensor in shown.tensors)
        )

    def has_work_for_all(self) -> bool:
        """Whether there is a model for each thread; in single operations the threads share the rows of a model."""
        return self._models >= torch.get_num_threads()

    def train(self, first: int, inputs: Inputs) -> None:
        """Do the steps of `inputs`, the first of which has the number `first`; then `finish` must be called."""
        began = time.perf_counter()
        self._arrange(True)
        seen, x = self._shown.tensors
        rows, factors, rates = inputs
        implementation("cpu").train_steps(seen, x, rows, factors=factors, rates=rates, first=first, **self._constants)
        steps = rows.shape[0] * SECONDS / max(time.perf_counter() - began, 1e-9)
        self.at_once = max(1, min(int(steps), 2 * rows.shape[0]))

    def finish(self) -> None:
        """Put parameters, gradients and moments back into the order in which all but the native steps read them."""
        self._arrange(False)

    def _arrange(self, into_panels: bool) -> None:
        values = [self._constants[name] for name in ("parameters", "gradients", "first_moment", "second_moment")]
        widths = self._constants["encoder"], self._constants["decoder"]
        implementation("cpu").arrange_weights(values, *widths, self._constants["in_panels"], into_panels)


def _matches_noise(settings: Settings) -> bool:
    """Whether the noise of a batch is matched to the moments of a normal."""
    return settings.moment_matched_noise and is_matched(settings.batch, settings.n_latent)
