"""Losses as users write them in PyTorch, each with data of its own family.

`criterion.py` imports this module; it is not a command of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from own_loss_vae import UserLoss
from torch import Tensor, nn
from torch.distributions import Laplace, NegativeBinomial, Normal, StudentT, kl_divergence
from torch.nn import functional as F  # noqa: N812

N_ROWS, N_FEATURES, SIDE, CLASSES, DISPERSION = 20_000, 16, 8, 4, 5.0
STATES, SYMBOLS, LENGTH = 4, 8, 10


def factors(strengths: tuple[float, ...], seed: int = 0) -> tuple[NDArray, np.random.Generator]:
    """Return features [N, D] that are linear in Gaussian factors, and the generator for what follows.

    Parameters
    ----------
    strengths : root mean square contribution of each factor to a feature
    seed : seed of the loadings and the factors
    """
    rng = np.random.default_rng(seed)
    loadings, _ = np.linalg.qr(rng.normal(size=(N_FEATURES, len(strengths))))
    loadings = loadings.T * np.sqrt(N_FEATURES) * np.array(strengths)[:, None]
    return rng.normal(size=(N_ROWS, len(strengths))) @ loadings, rng


def continuous() -> NDArray:
    """Gaussian data with noise of variance 1."""
    signal, rng = factors((1.0, 0.6))
    return signal + rng.normal(size=signal.shape)


def heavy_tailed() -> NDArray:
    """The same with Student noise of four degrees of freedom."""
    signal, rng = factors((1.0, 0.6))
    return signal + rng.standard_t(4, size=signal.shape)


def skewed() -> NDArray:
    """Data with noise of a variance that grows with the signal."""
    signal, rng = factors((0.6, 0.4))
    return signal + np.exp(0.3 * signal) * rng.normal(size=signal.shape)


def binary() -> NDArray:
    """0 or 1, with logits linear in the factors."""
    signal, rng = factors((1.5, 0.8))
    return rng.random(signal.shape) < 1 / (1 + np.exp(-signal - rng.normal(size=N_FEATURES)))


def counts() -> NDArray:
    """Counts of a Poisson distribution with log rates linear in the factors."""
    signal, rng = factors((0.15, 0.1))
    return rng.poisson(np.exp(signal + rng.uniform(1, 3, N_FEATURES)))


def overdispersed() -> NDArray:
    """Counts of a negative binomial distribution with log means linear in the factors."""
    signal, rng = factors((0.3, 0.2))
    means = np.exp(signal + rng.uniform(1, 3, N_FEATURES))
    return rng.negative_binomial(DISPERSION, DISPERSION / (DISPERSION + means))


def compositions() -> NDArray:
    """Multinomial counts of 20 to 80 items, with log shares linear in the factors."""
    signal, rng = factors((0.4, 0.25))
    shares = np.exp(signal + rng.normal(size=N_FEATURES) * 0.5)
    return rng.multinomial(rng.integers(20, 81, N_ROWS), shares / shares.sum(1, keepdims=True))


def classes() -> NDArray:
    """Four one-hot features of four classes, with logits linear in the factors."""
    signal, rng = factors((1.2, 0.8))
    logits = signal.reshape(N_ROWS, -1, CLASSES)
    chosen = (logits + rng.gumbel(size=logits.shape)).argmax(-1)
    return np.eye(CLASSES)[chosen]


def one_class() -> NDArray:
    """One one-hot feature of four classes."""
    return np.eye(CLASSES)[np.random.default_rng(0).choice(CLASSES, (N_ROWS, 1), p=(0.4, 0.3, 0.2, 0.1))]


def transitions() -> tuple[NDArray, NDArray]:
    """Probabilities of a hidden Markov chain: of the next state [states, states], and of a symbol [states, symbols].

    A state lasts ten symbols on average, and prefers two symbols that no other state prefers.
    """
    stay = np.where(np.eye(STATES, dtype=bool), 0.9, 0.1 / (STATES - 1))
    emit = np.full((STATES, SYMBOLS), 0.2 / (SYMBOLS - 2))
    for state in range(STATES):
        emit[state, 2 * state : 2 * state + 2] = 0.5, 0.3
    return stay, emit


def sequences(n: int, seed: int = 0) -> NDArray:
    """Draw symbols [n, length] of the hidden Markov chain, int64."""
    rng = np.random.default_rng(seed)
    stay, emit = (np.cumsum(table, 1)[:, :-1] for table in transitions())
    states, symbols = rng.integers(STATES, size=n), []
    for _ in range(LENGTH):
        symbols.append((rng.random((n, 1)) > emit[states]).sum(1))
        states = (rng.random((n, 1)) > stay[states]).sum(1)
    return np.stack(symbols, 1)


def one_hot_sequences() -> NDArray:
    """The sequences as one-hot symbols."""
    return np.eye(SYMBOLS)[sequences(N_ROWS)]


def images() -> NDArray:
    """Images of a spot whose place, and so its brightness at each pixel, differs."""
    rng = np.random.default_rng(0)
    axis = np.arange(SIDE) - (SIDE - 1) / 2
    y, x = rng.normal(size=(2, 4000, 1, 1))
    spot = np.exp(-((axis[:, None] - y) ** 2 + (axis - x) ** 2) / 8)
    return (spot + 0.2 * rng.normal(size=spot.shape))[:, None]


def kl(mu: Tensor, logvar: Tensor) -> Tensor:
    """KL divergence from the prior, [batch, n]."""
    return -0.5 * (1 + logvar - mu.pow(2) - logvar.exp())


def gaussian(recon: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    """Gaussian of standard deviation 0.8, with torch's distributions."""
    prior, posterior = Normal(0.0, 1.0), Normal(mu, torch.exp(0.5 * logvar))
    return (kl_divergence(posterior, prior).sum(1) - Normal(recon, 0.8).log_prob(x).sum(1)).mean()


def gaussian_with_variance(recon: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    """Gaussian whose mean and log variance are both outputs."""
    mean, log_variance = recon.unbind(1)
    nll = F.gaussian_nll_loss(mean, x, log_variance.exp(), reduction="sum") / len(x)
    return nll + kl(mu, logvar).sum(1).mean()


def bernoulli(recon: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    """Cross entropy of logits, summed over features and rows."""
    return F.binary_cross_entropy_with_logits(recon, x, reduction="sum") + kl(mu, logvar).sum()


def poisson(recon: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    """Poisson with log rates."""
    return F.poisson_nll_loss(recon, x, reduction="none").sum(1).mean() + kl(mu, logvar).sum(1).mean()


def negative_binomial(recon: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    """Negative binomial with log means and a fixed dispersion."""
    likelihood = NegativeBinomial(DISPERSION, logits=recon - np.log(DISPERSION))
    return -likelihood.log_prob(x).sum(1).mean() + kl(mu, logvar).sum(1).mean()


def multinomial(recon: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    """Counts times log shares, as in VAEs of recommender systems."""
    return -(F.log_softmax(recon, 1) * x).sum(1).mean() + 0.2 * kl(mu, logvar).sum(1).mean()


def categorical(recon: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    """Cross entropy of each one-hot feature."""
    error = F.cross_entropy(recon.transpose(1, 2), x.argmax(2), reduction="none").sum(1).mean()
    return error + kl(mu, logvar).sum(1).mean()


def laplace(recon: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    """Laplace of scale 1."""
    return -Laplace(recon, 1.0).log_prob(x).sum(1).mean() + kl(mu, logvar).sum(1).mean()


def l1(recon: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    """Mean absolute error beside a small weight of KL."""
    return F.l1_loss(recon, x) + 0.1 * kl(mu, logvar).sum(1).mean()


def huber(recon: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    """Huber's loss."""
    return F.smooth_l1_loss(recon, x, reduction="none").sum(1).mean() + kl(mu, logvar).sum(1).mean()


def student_t(recon: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    """Student's t of four degrees of freedom."""
    return -StudentT(4.0, recon).log_prob(x).sum(1).mean() + kl(mu, logvar).sum(1).mean()


@cache
def features() -> nn.Module:
    """Fixed random convolutions, in the place of a trained network's features."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = nn.Conv2d(1, 6, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(6, 6, 3, padding=1), nn.ReLU()
    return nn.Sequential(*layers).requires_grad_(False)


def perceptual(recon: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    """Squared error of features and a little of pixels."""
    error = F.mse_loss(features()(recon), features()(x)) + 0.1 * F.mse_loss(recon, x)
    return error + 0.001 * kl(mu, logvar).sum(1).mean()


def sum_beside_mean(recon: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    """Mean squared error beside KL that is summed over the batch too."""
    return F.mse_loss(recon, x) + 0.0005 * kl(mu, logvar).sum()


@dataclass(frozen=True)
class Case:
    """A loss and the data that it is trained on.

    output_shape: of one output, where it is not that of one row of the data.
    """

    name: str
    loss: UserLoss
    data: Callable[[], NDArray]
    output_shape: tuple[int, ...] | None = None
    n_latent: int = 3

    def samples(self) -> NDArray:
        """Return the data [N, ...], float32."""
        return self.data().astype(np.float32)


CASES = {
    case.name: case
    for case in (
        Case("gaussian", gaussian, continuous),
        Case("gaussian with variance", gaussian_with_variance, skewed, (2, N_FEATURES)),
        Case("bernoulli", bernoulli, binary),
        Case("poisson", poisson, counts),
        Case("negative binomial", negative_binomial, overdispersed),
        Case("multinomial", multinomial, compositions),
        Case("categorical", categorical, classes),
        Case("one class", categorical, one_class),
        Case("sequence without history", categorical, one_hot_sequences),
        Case("laplace", laplace, heavy_tailed),
        Case("student-t", student_t, heavy_tailed),
        Case("L1", l1, continuous),
        Case("huber", huber, heavy_tailed),
        Case("perceptual", perceptual, images),
        Case("sum beside mean", sum_beside_mean, continuous),
    )
}
