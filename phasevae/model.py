"""Deep Gaussian VAEs (Eqs. 14-16): M models of one architecture as one ensemble.

The parameters of all models are in one buffer [M, P]: the optimiser sees one tensor, and `phasevae.kernels.mlp`
computes all models at once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from phasevae.architecture import Architecture
from phasevae.errors import InputError
from phasevae.networks.own import OwnArchitecture

LOGVAR_RANGE = (-12.0, 8.0)
"""The encoder's log variance is clamped to this range (Li, arXiv:2610.11257)."""


class VAEEnsemble:
    """M independent VAEs of one architecture in one flat buffer of parameters.

    The results of `encode` and `decode` are not differentiable.

    Parameters
    ----------
    architecture : Architecture or OwnArchitecture
    parameters : Tensor [M, P]
        P is `architecture.row_length`.

    Attributes
    ----------
    encoder, decoder : Network or ModuleNetwork
        The networks, whose parameters are in `parameters`.

    Raises
    ------
    InputError
        If the shape of `parameters` is not that of the architecture.
    """

    def __init__(self, architecture: Architecture | OwnArchitecture, parameters: Tensor):
        if parameters.ndim != 2 or parameters.shape[1] != architecture.row_length:
            raise InputError(
                f"parameters: shape {tuple(parameters.shape)}, must be [models, {architecture.row_length}]"
            )
        self.architecture = architecture
        self.parameters = parameters
        self.encoder, self.decoder = architecture.networks

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mu and log variance, each [M, B, n], for inputs x [M, B, E], or [1, B, E] shared by all models."""
        return posterior(self.encoder.forward(self.parameters, x)[0])

    def decode(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return the outputs of the decoder [M, B, P] for z [M, B, n] and a condition [M or 1, B, C]."""
        return self.decoder.forward(self.parameters, decoder_input(z, condition))[0]

    def member(self, index: int) -> VAEEnsemble:
        """Return one model as an ensemble that shares its parameters."""
        return VAEEnsemble(self.architecture, self.parameters[index : index + 1])

    def tensors(self, index: int) -> dict[str, np.ndarray]:
        """Return the parameters of one model by name, as float32 arrays."""
        return self.architecture.tensors(self.parameters[index].detach().cpu().float().numpy())


def decoder_input(z: Tensor, condition: Tensor | None) -> Tensor:
    """Append the condition [M or 1, B, C], if there is one, to latents [M, B, n]."""
    return z if condition is None else torch.cat((z, condition.expand(z.shape[0], -1, -1)), -1)


def posterior(encoded: Tensor) -> tuple[Tensor, Tensor]:
    """Return mu and log variance, each [M, B, n], from the output [M, B, 2 n] of an encoder."""
    mu, logvar = encoded.chunk(2, dim=-1)
    return mu, logvar.clamp(*LOGVAR_RANGE)


def posterior_backward(encoded: Tensor, grad_mu: Tensor, grad_logvar: Tensor) -> Tensor:
    """Return the derivative by the output of an encoder [M, B, 2 n] from those by mu and log variance, [M, B, n]."""
    logvar = encoded.chunk(2, dim=-1)[1]
    inside = (logvar >= LOGVAR_RANGE[0]) & (logvar <= LOGVAR_RANGE[1])
    return torch.cat((grad_mu, torch.where(inside, grad_logvar, 0.0)), -1)


def initialise(
    architecture: Architecture | OwnArchitecture,
    seeds: Sequence[int],
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> VAEEnsemble:
    """Initialise an ensemble.

    Parameters
    ----------
    architecture : Architecture or OwnArchitecture
    seeds : sequence of int
        One model each. A model depends on its seed alone, not on the other seeds.
    device : torch.device or str
    dtype : torch.dtype

    Returns
    -------
    VAEEnsemble
    """
    return VAEEnsemble(architecture, padded(architecture.initial(seeds), architecture).to(device=device, dtype=dtype))


def padded(rows: Tensor, architecture: Architecture | OwnArchitecture) -> Tensor:
    """Append zeros to the parameters [M, n_parameters] of models, up to the length of a row of the buffer."""
    return torch.nn.functional.pad(rows, (0, architecture.row_length - rows.shape[1]))
