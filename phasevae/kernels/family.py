"""What the reconstruction terms of all families beside the Gaussian one share.

A family is a set of named arrays: the outputs of its constant decoder (`offset`), and its global parameters, which keep
their collapsed optimum. They come from the fit of the constant decoder, or from the file of a trained model.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from phasevae.errors import InputError
from phasevae.kernels.reconstruction import Reconstruction

ENDLESS = 30.0
"""Outputs of the constant decoder that are infinite, such as the logit of a pixel that is never lit, become this. Their
derivatives are then 1e-13: no network moves them."""


class Family(Reconstruction):
    """A reconstruction term with named tensors.

    Parameters
    ----------
    arrays : mapping of str to array
        `offset` [P], and the parameters of the family. They are in float64 until `to` converts them. The encoder sees
        rows less `input_mean` [E] in units of `input_scale`, where these are given. With `class_offsets` [C, P] each
        class of a condition has a constant decoder of its own.
    options : mapping
        The options of the family, such as the degrees of freedom.

    Attributes
    ----------
    options : dict
    n_outputs : int
        Numbers of a row of outputs.
    offset : Tensor [P]
        Outputs of the constant decoder.
    """

    is_linear = True

    def __init__(self, arrays: Mapping[str, NDArray], options: Mapping[str, Any]):
        self.options = dict(options)
        tensors = {name: torch.from_numpy(np.array(array, dtype=np.float64)) for name, array in arrays.items()}
        self.offset = tensors.pop("offset").nan_to_num(posinf=ENDLESS, neginf=-ENDLESS)
        self._tensors = tensors
        self.n_outputs = self.offset.numel()

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Self:
        """Return the same term on a device and in a type."""
        return self._with(
            self.offset.to(device, dtype), {name: tensor.to(device, dtype) for name, tensor in self._tensors.items()}
        )

    def with_inputs(self, mean: Tensor, scale: Tensor) -> Self:
        """Return the same term with the centre [E] and the scale [] of the encoder's inputs."""
        return self._with(self.offset, {**self._tensors, "input_mean": mean, "input_scale": scale})

    def with_classes(self, offsets: NDArray) -> Self:
        """Return the same term with the constant decoder of each class of a condition, [C, P]."""
        finite = np.clip(offsets, -ENDLESS, ENDLESS)
        tensor = torch.from_numpy(finite).to(self.offset)
        return self._with(self.offset, {**self._tensors, "class_offsets": tensor})

    def with_offset(self, decoded: Tensor, condition: Tensor | None = None) -> Tensor:
        of_classes = self._tensors.get("class_offsets")
        return decoded + (self.offset if of_classes is None else condition @ of_classes)

    def _with(self, offset: Tensor, tensors: dict[str, Tensor]) -> Self:
        other = copy.copy(self)
        other.offset, other._tensors = offset, tensors
        return other

    def arrays(self) -> dict[str, NDArray]:
        """Return the named arrays that make this term again."""
        tensors = {"offset": self.offset, **self._tensors}
        return {name: tensor.cpu().numpy() for name, tensor in tensors.items()}

    def seen(self, x: Tensor) -> Tensor:
        """Return what the encoder sees of rows x [..., D] before it is centred and scaled, [..., E]."""
        return x

    def inputs(self, x: Tensor) -> Tensor:
        """Return what the encoder sees of rows x [..., D], [..., E]."""
        return (self.seen(x) - self._tensors["input_mean"]) / self._tensors["input_scale"]

    def statistics(self, x: Tensor) -> Tensor:
        return x

    def means(self, outputs: Tensor) -> Tensor:
        raise NotImplementedError  # asked for where the energy is linear

    def energy(self, statistics: Tensor, outputs: Tensor, sigma2: Tensor) -> Tensor:
        return self._energy(statistics[:, None], outputs) / sigma2[:, None, None]

    def _energy(self, statistics: Tensor, outputs: Tensor) -> Tensor:
        """Return minus the log likelihood without terms free of the outputs, [M, A, B], for statistics that broadcast
        against the outputs [M, A, B, P]."""
        raise NotImplementedError

    def draw(self, outputs: Tensor, rng: np.random.Generator) -> Tensor:
        """Draw a row of data [N, D] for each row of outputs [N, P]."""
        drawn = self._drawn(outputs.double().cpu().numpy(), rng)
        return torch.from_numpy(np.asarray(drawn, dtype=np.float32))

    def _drawn(self, outputs: NDArray, rng: np.random.Generator) -> NDArray:
        raise InputError(f"sample: a {type(self).__name__} likelihood has no rows of its own to draw")

    def _parameter(self, name: str) -> NDArray:
        return self._tensors[name].double().cpu().numpy()

    def constant(self, x: Tensor, sigma2: float) -> Tensor:
        """See `Reconstruction.constant`; sigma2 is 1."""
        return self._constant(x)

    def _constant(self, x: Tensor) -> Tensor:
        """Return the terms that are free of the outputs for rows [..., D], [...], in float64."""
        return x.new_zeros(x.shape[:-1], dtype=torch.float64)
