"""Gaussian data, and linear VAEs at the optimum for them, with some of the latents active (Lucas et al. 2019)."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from phasevae.architecture import Architecture
from phasevae.model import VAEEnsemble


def gaussian_samples(eigenvalues: list[float], n_samples: int) -> tuple[NDArray, NDArray, NDArray]:
    """Centred samples [N, D] of random axes, with the eigenvalues and components [D, D] of their own covariance."""
    dimension = len(eigenvalues)
    basis = np.linalg.qr(np.random.default_rng(1).normal(size=(dimension, dimension)))[0]
    x = np.random.default_rng(0).normal(size=(n_samples, dimension)) * np.sqrt(eigenvalues) @ basis.T
    x -= x.mean(0)
    values, vectors = np.linalg.eigh(np.cov(x.T, bias=True))
    return x, values[::-1].copy(), vectors[:, ::-1].copy()


def linear_vae(eigenvalues: NDArray, vectors: NDArray, s: float, n_active: int, n_latent: int) -> VAEEnsemble:
    """The network without hidden layers whose first latents carry the leading components [D, D], at beta sigma2 = s."""
    dimension = len(vectors)
    leading, directions = eigenvalues[:n_active], vectors[:, :n_active]
    encoder, decoder = np.zeros((2, dimension, n_latent))
    logvar = np.zeros(n_latent)
    decoder[:, :n_active] = directions * np.sqrt(leading - s)
    encoder[:, :n_active] = directions * np.sqrt(leading - s) / leading
    logvar[:n_active] = np.log(s / leading)
    head = np.concatenate([encoder, np.zeros_like(encoder)], axis=1)
    flat = np.concatenate([head.ravel(), np.zeros(n_latent), logvar, decoder.T.ravel(), np.zeros(dimension)])
    architecture = Architecture(dimension, n_latent, ())
    parameters = torch.zeros(1, architecture.row_length, dtype=torch.float64)
    parameters[0, : architecture.n_parameters] = torch.from_numpy(flat)
    return VAEEnsemble(architecture, parameters)
