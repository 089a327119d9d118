"""TODO."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.optim.adam import adam

from phasevae.kernels.elbo import backend


class Adam:
    """Adam (Kingma & Ba, 2015) over the flat buffer [M, P] of an ensemble: one launch of ours on CUDA with the native
    kernels, torch's fused one elsewhere. `moments`: the running means of gradients and of their squares, [M, P]."""

    def __init__(self, parameters: Tensor):
        self.moments = (torch.zeros_like(parameters), torch.zeros_like(parameters))
        self._steps = torch.zeros((), dtype=torch.float32, device=parameters.device)
        self._native = parameters.device.type == "cuda" and backend("cuda") == "native_cuda"
        self._rates = parameters.new_zeros(parameters.shape[0])
        self._active = torch.ones_like(self._rates, dtype=torch.bool)

    @torch.no_grad()
    def step(self, parameters: Tensor, gradients: Tensor, learning_rate: Tensor, steps_done: Tensor) -> None:
        """Update `parameters` in place; learning_rate and steps_done: scalar tensors on their device."""
        if self._native:
            from phasevae.kernels import native

            self._rates.copy_(learning_rate)
            native.adam_step(parameters, gradients, self.moments, self._rates, self._active, steps_done)
            return
        self._steps.copy_(steps_done)
        # On CUDA the learning rate is read as float32, on the CPU it is read in full.
        rate = learning_rate.float() if learning_rate.is_cuda else learning_rate
        first, second = self.moments
        buffers = ([parameters], [gradients], [first], [second], [], [self._steps])
        constants = {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.0}
        adam(*buffers, fused=True, capturable=True, lr=rate, amsgrad=False, maximize=False, **constants)
