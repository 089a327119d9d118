"""VAEs with two levels of latents, x - z1 - z2: their networks, and a trained one.

Level 1 is an ordinary VAE whose prior p(z1 | z2) = N(f2(z2), 1) is learned by the top level. Its closed forms are in
`phasevae.theory.hierarchical`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from phasevae.architecture import Architecture
from phasevae.artifacts.tensors import check_tensors, read_tensors
from phasevae.errors import InputError
from phasevae.kernels.mlp import Network
from phasevae.model import VAEEnsemble, padded, posterior
from phasevae.trained import TrainedVAE


@dataclass(frozen=True)
class HierarchyArchitecture(Architecture):
    """The widths of a hierarchy. The networks of the top level have the hidden layers of level 1.

    Attributes
    ----------
    n_top : int
        Latents of the top level.
    posterior_variance : float, optional
        Variance of q(z1 | x), if it is fixed. The encoder then has no outputs for it.
    """

    n_top: int = 1
    posterior_variance: float | None = None

    @property
    def parts(self) -> dict[str, Network]:
        """The four networks by name, in the order of the buffer."""
        learned = self.posterior_variance is None
        encoder = Network([self.dimension, *self.hidden, (2 if learned else 1) * self.n_latent], 0)
        decoder = Network([self.n_latent, *reversed(self.hidden), self.dimension], encoder.end)
        top_encoder = Network([self.n_latent, *self.hidden, 2 * self.n_top], decoder.end)
        top_decoder = Network([self.n_top, *reversed(self.hidden), self.n_latent], top_encoder.end)
        return {"encoder": encoder, "decoder": decoder, "top_encoder": top_encoder, "top_decoder": top_decoder}

    def record(self) -> dict[str, Any]:
        return {**super().record(), "n_top": self.n_top, "posterior_variance": self.posterior_variance}

    def level_1_posterior(self, encoded: Tensor) -> tuple[Tensor, Tensor]:
        """Return mu and log variance of q(z1 | x), each [M, B, n], from the output of the encoder."""
        if self.posterior_variance is None:
            return posterior(encoded)
        return encoded, torch.full_like(encoded, math.log(self.posterior_variance))

    @property
    def collapsed_kl(self) -> float:
        """The divergence of level 1 where both levels are collapsed, in nats: not zero if its variance is fixed."""
        q = self.posterior_variance
        return 0.0 if q is None else 0.5 * self.n_latent * (q - 1 - math.log(q))


class HierarchyEnsemble(VAEEnsemble):
    """M independent hierarchies of one architecture; `encode` and `decode` are those of level 1.

    Attributes
    ----------
    top_encoder, top_decoder : Network
        Of q(z2 | z1), and of the mean of p(z1 | z2).
    """

    architecture: HierarchyArchitecture

    def __init__(self, architecture: HierarchyArchitecture, parameters: Tensor):
        super().__init__(architecture, parameters)
        self.top_encoder, self.top_decoder = (architecture.parts[name] for name in ("top_encoder", "top_decoder"))

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.architecture.level_1_posterior(self.encoder.forward(self.parameters, x)[0])

    def encode_top(self, z1: Tensor) -> tuple[Tensor, Tensor]:
        """Return mu and log variance of q(z2 | z1), each [M, B, m], for z1 [M, B, n]."""
        return posterior(self.top_encoder.forward(self.parameters, z1)[0])

    def decode_top(self, z2: Tensor) -> Tensor:
        """Return the mean of p(z1 | z2) [M, B, n] for z2 [M, B, m]."""
        return self.top_decoder.forward(self.parameters, z2)[0]

    def member(self, index: int) -> HierarchyEnsemble:
        return HierarchyEnsemble(self.architecture, self.parameters[index : index + 1])


class TrainedHierarchy(TrainedVAE):
    """A trained hierarchy; `encode` and `decode` are those of level 1.

    Attributes
    ----------
    n_top : int
        Latents of the top level.
    """

    _ensemble: HierarchyEnsemble

    @property
    def n_top(self) -> int:
        return self._ensemble.architecture.n_top

    @torch.no_grad()
    def encode_top(self, z1: np.ndarray | Tensor) -> tuple[Tensor, Tensor]:
        """Return the means and variances of q(z2 | z1), each [N, n_top], for z1 [N, n_latent]."""
        mu, logvar = self._ensemble.encode_top(self._batch(z1, self.n_latent, "z1"))
        return mu[0], logvar[0].exp()

    @torch.no_grad()
    def decode_top(self, z2: np.ndarray | Tensor) -> Tensor:
        """Return the means of p(z1 | z2) [N, n_latent] for z2 [N, n_top]."""
        return self._ensemble.decode_top(self._batch(z2, self.n_top, "z2"))[0]

    def _prior(self, n: int, generator: torch.Generator) -> Tensor:
        mean = self.decode_top(torch.randn(n, self.n_top, generator=generator))
        return mean + torch.randn(mean.shape, generator=generator)


def load_hierarchy(path: Path) -> TrainedHierarchy:
    """Read a hierarchy from its weights.safetensors; raises InputError as `phasevae.load` does."""
    tensors, metadata = read_tensors(path)
    check_tensors(path, tensors, metadata, "weights", {})
    record = metadata["architecture"]
    architecture = HierarchyArchitecture(
        record["dimension"],
        record["n_latent"],
        tuple(record["hidden"]),
        n_top=record["n_top"],
        posterior_variance=record["posterior_variance"],
    )
    row = torch.from_numpy(architecture.row(tensors, str(path)))[None]
    mean = tensors.get("mean")
    if mean is None or mean.shape != (architecture.dimension,):
        raise InputError(f"{path}: the mean of the data is missing or not [{architecture.dimension}]")
    ensemble = HierarchyEnsemble(architecture, padded(row, architecture))
    return TrainedHierarchy(ensemble, torch.from_numpy(mean), metadata)
