"""Parts of loss functions as users write them in torch, and data for them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from phasevae.prediction.predict import Prediction

LATENTS = 3


def kl_of_latents(mu: Tensor, logvar: Tensor) -> Tensor:
    """KL of each latent of each sample, [b, n]."""
    return 0.5 * (mu.pow(2) + logvar.exp() - logvar - 1)


def kl(mu: Tensor, logvar: Tensor) -> Tensor:
    """KL summed over latents, averaged over the batch."""
    return kl_of_latents(mu, logvar).sum(1).mean()


def half_sse(recon: Tensor, x: Tensor) -> Tensor:
    """Half the squared error, summed over features, averaged over the batch."""
    return 0.5 * (recon - x).pow(2).flatten(1).sum(1).mean()


def factors(prediction: Prediction) -> np.ndarray:
    """The KL weights at which the latents die."""
    return np.array([threshold.kl_weight for threshold in prediction.thresholds])


def codes(prediction: Prediction) -> list[str]:
    """Codes of the warnings."""
    return [warning.code for warning in prediction.warnings]


def gaussian_rows(n: int = 1500, seed: int = 0) -> np.ndarray:
    """Gaussian samples [n, 6] with three strong directions."""
    rng = np.random.default_rng(seed)
    loadings = rng.normal(size=(3, 6)) * np.array([[1.0], [0.7], [0.5]])
    return rng.normal(size=(n, 3)) @ loadings + 0.7 * rng.normal(size=(n, 6)) + rng.normal(size=6)


def whitened_rows(lam: np.ndarray, n: int = 1500, seed: int = 0) -> np.ndarray:
    """Samples [n, D] of mean zero with covariance diag(lam) up to rounding."""
    x = np.random.default_rng(seed).normal(size=(n, len(lam)))
    x -= x.mean(0)
    return x @ np.linalg.inv(np.linalg.cholesky(np.cov(x.T, bias=True))).T * np.sqrt(lam)


def pixel_rows(n: int = 1200) -> np.ndarray:
    """Values within 0 and 1, [n, 6]."""
    return 1 / (1 + np.exp(-2 * gaussian_rows(n, 1)))


def count_rows(n: int = 1500) -> np.ndarray:
    """Counts [n, 6] with correlated rates; each row and each column has some."""
    rng = np.random.default_rng(2)
    rates = np.exp(0.5 * rng.normal(size=(n, 2)) @ rng.normal(size=(2, 6)) + np.linspace(0, 1.5, 6))
    counts = rng.poisson(rates).astype(float)
    return counts[counts.sum(1) > 0]


def class_rows(n: int = 1500, positions: int = 5) -> np.ndarray:
    """Classes 0, 1, 2 at positions, as whole numbers [n, positions]."""
    rng = np.random.default_rng(3)
    z = rng.normal(size=(n, 2))
    first = z[:, :1] + rng.normal(size=(n, positions)) > 0
    return first.astype(np.int64) + (z[:, 1:] + rng.normal(size=(n, positions)) > 0.5)


def explicit(matrix: np.ndarray) -> np.ndarray:
    """Eigenvalues of a symmetric matrix, descending."""
    return np.linalg.eigvalsh(matrix)[::-1]


def tensor(x: np.ndarray) -> Tensor:
    """An array as float64."""
    return torch.as_tensor(x, dtype=torch.float64)
