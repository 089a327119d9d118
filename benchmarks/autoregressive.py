"""Does a VAE with an autoregressive decoder collapse at KL weight 1? Train small ones on a hidden Markov chain.

    python benchmarks/autoregressive.py                # docs/research/autoregressive.csv, and the tables of criterion.md
    python benchmarks/autoregressive.py --seeds 0 --weights 0.8,1.25 --output quick.csv

takes half an hour. A decoder that predicts each symbol from the previous ones as well as anything can leaves scores
whose covariance equals their curvature, so the criterion says 1 for the weight of KL beside the cross entropy of a
sequence. First a recurrent decoder learns the chain without latents; its cross entropy is compared with the exact
entropy, and the criterion is evaluated over all constant inputs to its gates, as that is how a latent enters. Then a
latent and a recurrent encoder are added and trained on, while the weight of KL rises from 0.3 to its target. The exit
code is 1 if KL does not vanish between weights 0.9 and 1.1.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from criterion_cases import LENGTH, SYMBOLS, kl, sequences, transitions
from gallery_vae import VAE, decaying, raised
from predictions import ALIVE, DEAD
from shared import ROOT, make_parser, markdown_table, numbers, write_tables
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from phasevae.artifacts.tables import write_table

TABLE, PAGE = (ROOT / "docs" / "research" / name for name in ("autoregressive.csv", "criterion.md"))
HIDDEN, BATCH, RATE, N_TRAIN, N_TEST = 24, 128, 4e-3, 400_000, 40_000
WEIGHTS = (0.8, 0.9, 0.95, 1.0, 1.05, 1.1, 1.25)
TOLERANCE = 0.1
"""A latent has to live below 1 by this much, and to be dead above 1 by this much."""


class Encoder(nn.Module):
    """A recurrent network in both directions; means and log variances side by side from the mean of its states."""

    def __init__(self, n_latent: int):
        super().__init__()
        self.body = nn.GRU(SYMBOLS, HIDDEN, batch_first=True, bidirectional=True)
        self.out = nn.Linear(2 * HIDDEN, 2 * n_latent)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.body(x)[0].mean(1))


class Decoder(nn.Module):
    """A recurrent network that sees the latents beside the previous symbol, and gives logits of the next one."""

    def __init__(self, n_latent: int):
        super().__init__()
        self.body = nn.GRU(SYMBOLS + n_latent, HIDDEN, batch_first=True)
        self.out = nn.Linear(HIDDEN, SYMBOLS)

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        previous = F.pad(x[:, :-1], (0, 0, 1, 0))
        return self.out(self.body(torch.cat([previous, z[:, None].expand(-1, LENGTH, -1)], 2))[0])


def cross_entropy(logits: Tensor, x: Tensor) -> Tensor:
    """Cross entropy of each sequence [batch], in nats, summed over its symbols."""
    return -(F.log_softmax(logits, 2) * x).sum((1, 2))


def one_hot(symbols: np.ndarray) -> Tensor:
    """Symbols [n, length] as vectors [n, length, symbols]."""
    return F.one_hot(torch.from_numpy(symbols), SYMBOLS).float()


def surprisal(symbols: np.ndarray) -> np.ndarray:
    """Exact -ln p of each sequence [n], in nats, by the forward algorithm."""
    stay, emit = transitions()
    belief, total = np.full((len(symbols), len(stay)), 1 / len(stay)), np.zeros(len(symbols))
    for column in symbols.T:
        belief = belief * emit[:, column].T
        evidence = belief.sum(1)
        total -= np.log(evidence)
        belief = belief / evidence[:, None] @ stay
    return total


def without_latents(symbols: np.ndarray, steps: int, seed: int) -> Decoder:
    """Train a decoder whose latents are zero.

    Parameters
    ----------
    symbols : sequences [n, length]
    steps, seed : number of training steps; seed of the network and the batches
    """
    torch.manual_seed(seed)
    decoder, nothing = Decoder(1), torch.zeros(BATCH, 1)
    optimiser = torch.optim.Adam(decoder.parameters(), RATE)
    decay = decaying(optimiser, steps)
    for _ in range(steps):
        x = one_hot(symbols[np.asarray(torch.randint(len(symbols), (BATCH,)))])
        optimiser.zero_grad()
        cross_entropy(decoder(nothing, x), x).mean().backward()
        optimiser.step()
        decay.step()
    return decoder


def with_latent(decoder: Decoder, symbols: np.ndarray, weight: float, steps: int, seed: int) -> VAE:
    """Add an encoder and train both, while the weight of KL rises.

    Parameters
    ----------
    decoder : a trained one, which stays as it is
    symbols, steps, seed : as for `without_latents`
    weight : of KL at the end
    """
    torch.manual_seed(seed)
    model = VAE(Encoder(1), Decoder(1))
    model.decoder.load_state_dict(decoder.state_dict())
    optimiser = torch.optim.Adam(model.parameters(), RATE)
    decay = decaying(optimiser, steps)
    for step in range(steps):
        x = one_hot(symbols[np.asarray(torch.randint(len(symbols), (BATCH,)))])
        mu, logvar = model.encoder(x).chunk(2, -1)
        logits = model.decoder(mu + torch.exp(0.5 * logvar) * torch.randn_like(mu), x)
        optimiser.zero_grad()
        (cross_entropy(logits, x) + raised(step / steps, weight, 1.0) * kl(mu, logvar).sum(1)).mean().backward()
        optimiser.step()
        decay.step()
    return model
