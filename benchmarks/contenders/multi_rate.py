"""Multi-Rate VAE: one network for all decoder variances.

Bae, Zhang, Ruan, Wang, Hasegawa, Ba, Grosse: Multi-Rate VAE: Train Once, Get the Full Rate-Distortion Curve. ICLR 2023,
arXiv:2212.03905. A gate for each number that a linear layer gives, an affine function of the logarithm of the weight of
the KL term through an activation, scales that number: sigmoid in the encoder, sqrt(ReLU(1 - exp)) in the decoder. Each
batch is trained at random weights, uniform in their logarithm; the weight of the KL term is sigma2 here.

Not from the paper: every row of a batch has its own weight; the logarithm is mapped from the range of the points to
[-1, 1]; the gates begin half way, and the same for all weights; the decoder's gates stay away from zero, where the
derivative of the square root is infinite.

At one decoder variance the gates are constants, and the network is an ordinary one with scaled rows of its weights. So
it is measured as all others are.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from contenders.common import Contender, Run, fastest, flat, single
from contenders.loop import draw_and_kl, first_batches, loader_options

SHUT = -1e-4
"""Largest argument of a decoder's gate, which is 0.01 there."""


def prepare(run: Run) -> dict[str, Any]:
    """The fastest number of loader processes and of threads."""
    return fastest(start, single(run), loader_options(run.threads))


def start(run: Run, workers: int, threads: int) -> Contender:
    """Return the network before its training; `workers`: number of loader processes."""
    return MultiRate(run, workers, threads)


class MultiRate:
    """Trains from scratch at a constant learning rate, with Adam."""

    def __init__(self, run: Run, workers: int, threads: int):
        torch.manual_seed(run.seed)
        torch.set_num_threads(threads)
        self.detail = f"{threads} threads, {workers} workers"
        self._sigma2 = torch.tensor(run.sigma2)
        self._range = math.log(min(run.sigma2)), math.log(max(run.sigma2))
        encoder, decoder = run.networks
        self._encoder, self._decoder = GatedMLP(encoder, encoder_gate, 0.0), GatedMLP(decoder, decoder_gate, -0.3)
        self._network = nn.ModuleList((self._encoder, self._decoder))
        self._optimiser = torch.optim.Adam(self._network.parameters(), lr=run.settings.learning_rate)
        data = TensorDataset(torch.from_numpy(run.x))
        self._loader = DataLoader(data, batch_size=run.settings.batch, shuffle=True, num_workers=workers)

    def train(self, steps: int) -> None:
        for (x,) in first_batches(self._loader, steps):
            self._optimiser.zero_grad()
            self.loss(x, torch.empty(len(x)).uniform_(*self._range).exp()).backward()
            self._optimiser.step()

    def loss(self, x: Tensor, sigma2: Tensor) -> Tensor:
        """The mean over rows of half the squared error and sigma2 times the KL; sigma2 [B]: that of each row."""
        rate = self._rate(sigma2)
        z, kl = draw_and_kl(self._encoder(x, rate))
        return (0.5 * (x - self._decoder(z, rate)).pow(2).sum(-1) + sigma2 * kl).mean()

    @torch.no_grad()
    def parameters(self) -> NDArray[np.float32]:
        rates = self._rate(self._sigma2)
        return np.stack([flat([*self._encoder.at(rate), *self._decoder.at(rate)]) for rate in rates])

    def _rate(self, sigma2: Tensor) -> Tensor:
        """The logarithm as the gates see it: [B, 1] within -1 and 1; -1 if there is one point alone."""
        low, high = self._range
        return (2 * (sigma2.log() - low) / (high - low or 1.0) - 1)[:, None]


class GatedMLP(nn.Module):
    """Linear layers with ReLU between them, whose outputs are scaled by gates.

    Parameters
    ----------
    widths : of the layers, from the input on
    gate : activation of the gates
    begin : argument of every gate before the training
    """

    def __init__(self, widths: list[int], gate: Callable[[Tensor], Tensor], begin: float):
        super().__init__()
        self._gate = gate
        self.linear = nn.ModuleList(nn.Linear(*pair) for pair in itertools.pairwise(widths))
        self.of_rate = nn.ModuleList(nn.Linear(1, width) for width in widths[1:])
        for layer in self.of_rate:
            nn.init.zeros_(layer.weight)
            nn.init.constant_(layer.bias, begin)

    def forward(self, h: Tensor, rate: Tensor) -> Tensor:
        """The output for rows h [B, in], each at its own rate [B, 1]."""
        last = len(self.linear) - 1
        for k, (linear, of_rate) in enumerate(zip(self.linear, self.of_rate, strict=True)):
            h = self._gate(of_rate(rate)) * linear(h)
            h = h if k == last else h.relu()
        return h

    def at(self, rate: Tensor) -> list[tuple[NDArray, NDArray]]:
        """The layers (weight [in, out], bias [out]) of the ordinary network at a rate [1]."""
        layers = []
        for linear, of_rate in zip(self.linear, self.of_rate, strict=True):
            gate = self._gate(of_rate(rate))
            layers.append(((gate[:, None] * linear.weight).numpy().T, (gate * linear.bias).numpy()))
        return layers


def encoder_gate(x: Tensor) -> Tensor:
    """Of (0, 1)."""
    return x.sigmoid()


def decoder_gate(x: Tensor) -> Tensor:
    """Of (0, 1); beyond SHUT it no longer changes."""
    return (1 - x.clamp(max=SHUT).exp()).sqrt()
