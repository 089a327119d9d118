"""The usual PyTorch code: a DataLoader and a module, each model in its own steps, by turns."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from contenders.common import Contender, Run, fastest, flat, single


def prepare(run: Run) -> dict[str, Any]:
    """The fastest number of loader processes and of threads."""
    return fastest(start, single(run), loader_options(run.threads))


def start(run: Run, workers: int, threads: int) -> Contender:
    """Return the models before their training; `workers`: number of loader processes."""
    return Loop(run, workers, threads)


def loader_options(threads: int) -> list[dict[str, int]]:
    """Every number of loader processes up to the number of threads, with every number of threads."""
    return [{"workers": w, "threads": t} for w in range(threads + 1) for t in range(1, threads + 1)]


class Loop:
    """Trains from scratch at a constant learning rate.

    The models take turns, so that there is a curve of error against time. This costs nothing and favours this
    contender: no model waits until the others have been trained.
    """

    def __init__(self, run: Run, workers: int, threads: int):
        torch.manual_seed(run.seed)
        torch.set_num_threads(threads)
        self.detail = f"{threads} threads, {workers} workers"
        self._sigma2 = run.sigma2
        self._models = [PlainVAE(*run.networks) for _ in run.sigma2]
        rate = run.settings.learning_rate
        self._optimisers = [torch.optim.Adam(model.parameters(), lr=rate) for model in self._models]
        data = TensorDataset(torch.from_numpy(run.x))
        self._loader = DataLoader(data, batch_size=run.settings.batch, shuffle=True, num_workers=workers)

    def train(self, steps: int) -> None:
        for model, optimiser, sigma2 in zip(self._models, self._optimisers, self._sigma2, strict=True):
            for (x,) in first_batches(self._loader, steps):
                optimiser.zero_grad()
                self.loss(model, x, sigma2).backward()
                optimiser.step()

    def loss(self, model: PlainVAE, x: Tensor, sigma2: float) -> Tensor:
        """The loss of a batch."""
        return model(x, sigma2)

    def parameters(self) -> NDArray[np.float32]:
        return stacked([(model.encoder, model.decoder) for model in self._models])


class PlainVAE(nn.Module):
    """A VAE with a Gaussian decoder of fixed variance."""

    def __init__(self, encoder: list[int], decoder: list[int]):
        super().__init__()
        self.encoder = perceptron(encoder)
        self.decoder = perceptron(decoder)

    def forward(self, x: Tensor, sigma2: float | Tensor) -> Tensor:
        """The negative ELBO without its constant."""
        z, kl = draw_and_kl(self.encoder(x))
        return ((x - self.decoder(z)).pow(2).sum(-1) / (2 * sigma2) + kl).mean()


def draw_and_kl(encoded: Tensor) -> tuple[Tensor, Tensor]:
    """A draw of the latents [B, n] and the KL [B] of the posterior, from the encoder's output [B, 2 n]."""
    mu, logvar = encoded.chunk(2, dim=-1)
    kl = -0.5 * (1 + logvar - mu.pow(2) - logvar.exp()).sum(-1)
    return mu + torch.exp(0.5 * logvar) * torch.randn_like(mu), kl


def perceptron(widths: list[int]) -> nn.Sequential:
    """Linear layers with ReLU between them."""
    layers: list[nn.Module] = []
    for fan_in, fan_out in itertools.pairwise(widths):
        layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def first_batches(loader: Iterable, count: int | None = None) -> Iterator:
    """The first `count` batches of epoch after epoch, each freshly shuffled; without end if `count` is None."""
    return itertools.islice(itertools.chain.from_iterable(itertools.repeat(loader)), count)


def stacked(models: list[tuple[nn.Sequential, nn.Sequential]]) -> NDArray[np.float32]:
    """Weights [M, P] of (encoder, decoder) pairs."""
    return np.stack([flat([*_layers(encoder), *_layers(decoder)]) for encoder, decoder in models])


def _layers(network: nn.Sequential) -> list[tuple[NDArray, NDArray]]:
    linear = [layer for layer in network if isinstance(layer, nn.Linear)]
    return [(layer.weight.detach().numpy().T, layer.bias.detach().numpy()) for layer in linear]
