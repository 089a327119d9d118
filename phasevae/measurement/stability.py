"""The second variation at a trained collapsed network, measured by finite differences and compared with theory.

The network is perturbed along the modes of `phasevae.theory.stability`, which are added to the outputs of encoder and
decoder. The second differences of -ELBO, with the same noise at every displacement, are compared with the blocks.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from phasevae.errors import InputError
from phasevae.theory.ppca import ACTIVE_KL, gaussian_kl
from phasevae.theory.stability import stability_blocks
from phasevae.trained import TrainedVAE

PAIRS = 16
"""Antithetic pairs of latent draws per row."""

MOST_ROWS = 8_192
_STEP = 0.02


def measure_stability(
    model: TrainedVAE, x: np.ndarray, latents: Sequence[int] | None = None, directions: Sequence[int] = (0, 1)
) -> dict[str, Any]:
    """Measure and predict the blocks of the second variation at a trained collapsed model.

    Parameters
    ----------
    model : TrainedVAE
        Trained with beta = 1, and collapsed.
    x : array [N, D]
        Data as fed to the network, thinned to MOST_ROWS rows.
    latents : sequence of int, optional
        All by default.
    directions : sequence of int
        Principal components, counted from 0.

    Returns
    -------
    dict
        {sigma2, beta, kl, eigenvalues, blocks: [{latent, direction, channel, measured, predicted, soft_mode,
        predicted_soft_mode, relative_error}], largest_error}. Blocks are 2 x 2 lists in nats; errors are relative to
        the larger diagonal entry. The eigenvalues are those of the rows used.

    Raises
    ------
    InputError
        If the network has not collapsed or has another likelihood, and for latents or directions that do not exist.
    """
    if model.family is not None:
        raise InputError("stability: the model has another likelihood, the blocks are those of a Gaussian decoder")
    if model.metadata.get("beta_top") is not None:
        raise InputError("stability: the model has two levels of latents, the blocks are those of one level")
    if model.beta != 1:
        raise InputError(f"stability: the model has beta {model.beta:g}, the blocks are those of beta = 1")
    rows = torch.from_numpy(np.array(x[:: max(1, -(-len(x) // MOST_ROWS))], dtype=np.float64))
    with torch.no_grad():
        mu, variance = (part.double() for part in model.encode(rows))
    kl = float(_kl(mu, variance.log()))
    if not kl <= 10 * ACTIVE_KL:  # NaN as well
        raise InputError(
            f"stability: KL is {kl:.4g} nats at sigma2={model.sigma2:g}, must be that of a collapsed model"
        )
    centred = rows - rows.mean(0)
    eigenvalues, vectors = torch.linalg.eigh(centred.T @ centred / len(rows))
    eigenvalues, vectors = eigenvalues.flip(0), vectors.flip(1)
    chosen = range(model.n_latent) if latents is None else latents
    for name, values, most in (("latent", chosen, model.n_latent), ("direction", directions, len(eigenvalues))):
        if wrong := [value for value in values if not 0 <= value < most]:
            raise InputError(f"stability: {name} {wrong[0]}, must be from 0 to {most - 1}")
    noise = torch.randn(
        PAIRS, len(rows), model.n_latent, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    state = _State(model, rows, mu, variance.sqrt(), torch.cat([noise, -noise]))
    blocks = []
    for latent, direction in itertools.product(chosen, directions):
        component = centred @ vectors[:, direction] / eigenvalues[direction].sqrt()
        predicted = stability_blocks(float(eigenvalues[direction]), model.sigma2)
        for channel in ("mean", "width"):
            measured = _block(state, channel, latent, vectors[:, direction], component)
            blocks.append(
                _compared(measured, predicted[channel])
                | {"latent": int(latent), "direction": int(direction), "channel": channel}
            )
    return {
        "sigma2": model.sigma2,
        "beta": model.beta,
        "kl": kl,
        "eigenvalues": eigenvalues.tolist(),
        "blocks": blocks,
        "largest_error": max(block["relative_error"] for block in blocks),
    }


def _kl(mu: Tensor, logvar: Tensor) -> Tensor:
    """Return the KL divergence of a posterior [N, n], averaged over the rows."""
    return gaussian_kl(mu, logvar, torch.expm1).sum(1).mean()


class _State:
    """A model's posterior at some rows with fixed noise; gives -ELBO, without its constant, under perturbations."""

    def __init__(self, model: TrainedVAE, x: Tensor, mu: Tensor, sigma: Tensor, noise: Tensor):
        self._model, self._x, self._mu, self._sigma, self._noise = model, x, mu, sigma, noise

    @torch.no_grad()
    def energy(self, channel: str, latent: int, e: Tensor, y: Tensor, u: float, v: float) -> float:
        """Return -ELBO with f + u g(z) e for g of the channel, and mu or sigma of one latent displaced by v y."""
        mu, sigma = self._mu.clone(), self._sigma.clone()
        (mu if channel == "mean" else sigma)[:, latent] += v * y
        if (sigma <= 0).any():
            sigma = sigma.clamp_min(1e-3)
        total = 0.0
        for noise in self._noise:
            z = mu + sigma * noise
            mode = z[:, latent] if channel == "mean" else (z[:, latent] ** 2 - 1) / 2**0.5
            decoded = self._model.decode(z.float()).double() + u * mode[:, None] * e
            total += float((self._x - decoded).square().sum(1).mean())
        return total / len(self._noise) / (2 * self._model.sigma2) + float(_kl(mu, 2 * sigma.log()))


def _block(state: _State, channel: str, latent: int, e: Tensor, y: Tensor) -> np.ndarray:
    """Return the second differences of the energy in (u, v)."""

    def energy(u: float, v: float) -> float:
        return state.energy(channel, latent, e, y, u, v)

    h, centre = _STEP, energy(0, 0)
    uu = (energy(h, 0) - 2 * centre + energy(-h, 0)) / h**2
    vv = (energy(0, h) - 2 * centre + energy(0, -h)) / h**2
    uv = (energy(h, h) - energy(h, -h) - energy(-h, h) + energy(-h, -h)) / (4 * h**2)
    return np.array([[uu, uv], [uv, vv]])


def _compared(measured: np.ndarray, predicted: np.ndarray) -> dict[str, Any]:
    return {
        "measured": measured.tolist(),
        "predicted": predicted.tolist(),
        "soft_mode": float(np.linalg.eigvalsh(measured)[0]),
        "predicted_soft_mode": float(np.linalg.eigvalsh(predicted)[0]),
        "relative_error": float(np.abs(measured - predicted).max() / np.diag(predicted).max()),
    }
