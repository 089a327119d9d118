"""Adam (Kingma & Ba, 2015) over the flat buffer of an ensemble."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.optim.adam import adam

from phasevae.kernels.dispatch import backend, implementation

_ALIGNMENT = 16
"""The rows of a buffer of parameters are padded to a multiple of this many numbers, a cache line of float32. The last
numbers of a buffer that do not fill a vector register are updated by other instructions in torch's fused Adam, with
other roundings. With padded rows they are no model's, so the bits of a model do not depend on its ensemble."""

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8

_LEAST_MOMENTS = (1e-30, 1e-36)
"""Moments not above these end at zero, as in the kernels (`cut_off` in csrc/elbo_math.h): without a gradient they would
shrink to denormal numbers, with which a processor takes many times as long. No parameter shows the difference."""


def padded_length(n_parameters: int) -> int:
    """Return the numbers of one model in a buffer: its parameters, and zeros up to a multiple of a cache line."""
    return -(-n_parameters // _ALIGNMENT) * _ALIGNMENT


class Adam:
    """Adam for all models at once: a native operation where there is one, else torch's fused Adam.

    Parameters
    ----------
    parameters : Tensor [M, P]
        The buffer that `step` will update; the moments get its shape, type and device.

    Attributes
    ----------
    moments : (Tensor, Tensor)
        Running means of the gradients and of their squares, each [M, P].
    """

    def __init__(self, parameters: Tensor):
        self.moments = (torch.zeros_like(parameters), torch.zeros_like(parameters))
        self._steps = torch.zeros((), dtype=torch.float32, device=parameters.device)
        self._native = backend(parameters.device.type) != "torch"

    @torch.no_grad()
    def step(self, parameters: Tensor, gradients: Tensor, learning_rate: Tensor, steps_done: Tensor) -> None:
        """Update `parameters` in place.

        Scalars are tensors on the device of the parameters, so that a captured CUDA graph reads their present values.

        Parameters
        ----------
        parameters, gradients : Tensor [M, P]
        learning_rate : Tensor []
            float64.
        steps_done : Tensor []
            int64, the number of steps before this one.
        """
        if self._native:
            native = implementation(parameters.device.type)
            native.adam_step(parameters, gradients, self.moments, learning_rate, steps_done, BETA1, BETA2, EPSILON)
            return
        self._steps.copy_(steps_done)
        # torch's fused kernel reads the learning rate as float32 on CUDA, in full on the CPU.
        rate = learning_rate.float() if learning_rate.is_cuda else learning_rate
        first, second = self.moments
        buffers = ([parameters], [gradients], [first], [second], [], [self._steps])
        constants = {"beta1": BETA1, "beta2": BETA2, "eps": EPSILON, "weight_decay": 0.0}
        adam(*buffers, fused=True, capturable=True, lr=rate, amsgrad=False, maximize=False, **constants)
        for moment, least in zip(self.moments, _LEAST_MOMENTS, strict=True):
            torch.hardshrink(moment, least, out=moment)
