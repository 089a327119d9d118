"""The networks of a VAE: the widths of an MLP, or the modules of the user's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from phasevae.errors import InputError
from phasevae.kernels import noise
from phasevae.kernels.adam import padded_length
from phasevae.kernels.mlp import Layer, Network
from phasevae.networks.own import OwnArchitecture
from phasevae.sweeps.network_file import NetworkSpec


@dataclass(frozen=True)
class Architecture:
    """The widths of one VAE: encoder D + C - hidden - 2 n_latent, decoder n_latent + C - reversed hidden - P.

    Attributes
    ----------
    dimension : int
        D, the encoder's inputs without the condition.
    n_latent : int
    hidden : tuple of int
        Widths of the encoder's hidden layers.
    n_outputs : int, optional
        P, the decoder's outputs; as many as the encoder's inputs by default.
    n_condition : int
        C, the numbers of the condition.
    encoder_sees_condition : bool
        Without it the encoder has D inputs.
    """

    dimension: int
    n_latent: int
    hidden: tuple[int, ...]
    n_outputs: int | None = None
    n_condition: int = 0
    encoder_sees_condition: bool = True

    @property
    def parts(self) -> dict[str, Network]:
        """The networks by name, in the order of the buffer: the decoder's parameters follow those of the encoder."""
        n_outputs = self.dimension if self.n_outputs is None else self.n_outputs
        n_inputs = self.dimension + (self.n_condition if self.encoder_sees_condition else 0)
        encoder = Network([n_inputs, *self.hidden, 2 * self.n_latent], 0)
        widths = [self.n_latent + self.n_condition, *reversed(self.hidden), n_outputs]
        return {"encoder": encoder, "decoder": Network(widths, encoder.end)}

    @property
    def networks(self) -> tuple[Network, Network]:
        """The encoder of the data and the decoder to them."""
        parts = self.parts
        return parts["encoder"], parts["decoder"]

    @property
    def layers(self) -> dict[str, Layer]:
        """The layers by name, in the order of the buffer."""
        return {f"{part}.{i}": layer for part, network in self.parts.items() for i, layer in enumerate(network.layers)}

    @property
    def n_parameters(self) -> int:
        """The number of parameters of one model."""
        return list(self.parts.values())[-1].end

    @property
    def row_length(self) -> int:
        """The numbers of one model in a buffer: its parameters, and zeros up to a multiple of a cache line."""
        return padded_length(self.n_parameters)

    def initial(self, seeds: Sequence[int]) -> Tensor:
        """Return initial parameters [models, n_parameters] in float64: uniform in +-1/sqrt(fan_in), a model a seed."""
        keys = torch.tensor([noise.key("init", int(seed)) for seed in seeds], dtype=torch.int64)
        unit = noise.uniforms(keys, torch.zeros(1, dtype=torch.int64), self.n_parameters, 0, torch.float64)
        bound = torch.cat(
            [
                torch.full(((layer.fan_in + 1) * layer.fan_out,), layer.fan_in**-0.5, dtype=torch.float64)
                for layer in self.layers.values()
            ]
        )
        return (2 * unit[:, 0] - 1) * bound

    def tensors(self, row: np.ndarray) -> dict[str, np.ndarray]:
        """Return weights [in, out] and biases [out] in a row of parameters by the name of the layer."""
        result = {}
        for name, (fan_in, fan_out, offset) in self.layers.items():
            end = offset + fan_in * fan_out
            result[f"{name}.weight"] = row[offset:end].reshape(fan_in, fan_out)
            result[f"{name}.bias"] = row[end : end + fan_out]
        return result

    def row(self, tensors: Mapping[str, np.ndarray], place: str) -> np.ndarray:
        """Return the parameters [n_parameters] of tensors by name; an InputError with the `place` if one is missing."""
        parts = []
        for name, (fan_in, fan_out, _) in self.layers.items():
            weight, bias = tensors.get(f"{name}.weight"), tensors.get(f"{name}.bias")
            if weight is None or bias is None or weight.shape != (fan_in, fan_out) or bias.shape != (fan_out,):
                raise InputError(f"{place}: layer {name} is missing or not [{fan_in}, {fan_out}]")
            parts += [weight.ravel(), bias]
        return np.concatenate(parts)

    def record(self) -> dict[str, Any]:
        """Return what a weights file holds to build the networks again."""
        return {
            "dimension": self.dimension,
            "n_latent": self.n_latent,
            "hidden": list(self.hidden),
            "n_outputs": self.n_outputs,
            "n_condition": self.n_condition,
            "encoder_sees_condition": self.encoder_sees_condition,
        }


def architecture_of(
    spec: NetworkSpec | None,
    hidden: Sequence[int],
    dimension: int,
    n_latent: int,
    n_outputs: int,
    n_condition: int = 0,
    encoder_sees_condition: bool = True,
) -> Architecture | OwnArchitecture:
    """Return the architecture of a training.

    Parameters
    ----------
    spec : NetworkSpec or None
        The user's own networks; None for the MLP of `hidden`.
    hidden : sequence of int
        Widths of the encoder's hidden layers.
    dimension, n_latent, n_outputs, n_condition, encoder_sees_condition
        See `Architecture`.

    Raises
    ------
    InputError
        If the user's networks are for samples of another size than the encoder's inputs, or come without their file.
    """
    if spec is None:
        return Architecture(dimension, n_latent, tuple(hidden), n_outputs, n_condition, encoder_sees_condition)
    if spec.file is None:
        raise InputError(f"network: the file with {spec.build}() is missing, must be given")
    if spec.sample.size != dimension:
        shape = " x ".join(map(str, spec.input_shape))
        raise InputError(
            f"network: samples of {shape} numbers, but the encoder sees {dimension} (one-hot classes, if the "
            "likelihood is categorical), must be left out for the MLP"
        )
    return OwnArchitecture(spec.file, spec.sample, n_latent, n_outputs, n_condition, encoder_sees_condition)
