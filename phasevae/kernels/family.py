"""What the reconstruction terms of all families beside the Gaussian one share.

A family is a set of named arrays: the outputs of its constant decoder (`offset`), and its global parameters, which keep
their collapsed optimum. They come from the fit of the constant decoder, or from the file of a trained model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from phasevae.kernels.reconstruction import Reconstruction

ENDLESS = 30.0
"""Outputs of the constant decoder that are infinite, such as the logit of a pixel that is never lit, become this. Their
derivatives are then 1e-13: no network moves them."""


class Family(Reconstruction):
    """A reconstruction term with named tensors.

    Parameters
    ----------
    arrays : mapping of str to array
        `offset` [P], and the parameters of the family. They are in float64 until `to` converts them.
    options : mapping
        The options of the family, such as the degrees of freedom.

    Attributes
    ----------
    n_outputs, n_statistics : int
        Numbers of a row of outputs and of statistics.
    is_linear : bool
        Whether the energy is linear in the statistics.
    offset : Tensor [P]
        Outputs of the constant decoder.
    """

    is_linear = True

    def __init__(self, arrays: Mapping[str, NDArray], options: Mapping[str, Any]):
        tensors = {name: torch.from_numpy(np.array(array, dtype=np.float64)) for name, array in arrays.items()}
        self.offset = tensors.pop("offset").nan_to_num(posinf=ENDLESS, neginf=-ENDLESS)
        self._tensors = tensors
        self.n_outputs = self.offset.numel()
        self.n_statistics = self.n_outputs

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Self:
        """Return the same term on a device and in a type."""
        copy = object.__new__(type(self))
        copy.__dict__ |= self.__dict__
        copy.offset = self.offset.to(device, dtype)
        copy._tensors = {name: tensor.to(device, dtype) for name, tensor in self._tensors.items()}
        return copy

    def arrays(self) -> dict[str, NDArray]:
        """Return the named arrays that make this term again."""
        tensors = {"offset": self.offset, **self._tensors}
        return {name: tensor.cpu().numpy() for name, tensor in tensors.items()}

    def statistics(self, x: Tensor) -> Tensor:
        return x

    def energy(self, statistics: Tensor, outputs: Tensor, sigma2: Tensor) -> Tensor:
        if statistics.ndim == 3:
            statistics = statistics[:, None]
        return self._energy(statistics, outputs) / sigma2[:, None, None]

    def _energy(self, statistics: Tensor, outputs: Tensor) -> Tensor:
        """Return minus the log likelihood without terms free of the outputs, [M, A, B], for statistics that broadcast
        against the outputs [M, A, B, P]."""
        raise NotImplementedError

    def constant(self, x: Tensor) -> Tensor:
        return x.new_zeros(x.shape[:-1], dtype=torch.float64)
