"""The second variation in a collapsed latent of a trained network, by finite differences, compared with theory.

The network is perturbed along the modes of the residual spectrum, which are added to the outputs of encoder and
decoder. Where all latents are collapsed, these modes are the principal directions of the data. The second differences
of -ELBO, with the same noise at every displacement, are compared with the blocks of `phasevae.theory.stability`.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from phasevae.errors import InputError
from phasevae.kernels import noise
from phasevae.measurement.residual import ResidualSpectrum, residual_spectrum
from phasevae.measurement.residual_states import draw_states
from phasevae.rows import Rows
from phasevae.theory.ppca import ACTIVE_KL, gaussian_kl
from phasevae.theory.stability import stability_blocks
from phasevae.trained import TrainedVAE

PAIRS = 16
"""Antithetic pairs of latent draws per row."""

MOST_ROWS = 8_192
_STEP = 0.02


def measure_stability(
    model: TrainedVAE, x: np.ndarray, latents: Sequence[int] | None = None, n_modes: int = 2
) -> dict[str, Any]:
    """Measure and predict the blocks of the second variation in the collapsed latents of a trained model.

    Parameters
    ----------
    model : TrainedVAE
        With a Gaussian decoder and at least one collapsed latent.
    x : array [N, D]
        Data as fed to the network, thinned to MOST_ROWS rows.
    latents : sequence of int
        Collapsed ones; all of them by default.
    n_modes : int
        How many of the leading modes of the residual spectrum; all of them where it has fewer.

    Returns
    -------
    dict
        {sigma2, beta, kl, active, eigenvalues, blocks: [{latent, mode, channel, measured, predicted, soft_mode,
        predicted_soft_mode, relative_error}], largest_error}. Blocks are 2 x 2 lists in nats; errors are relative to
        the larger diagonal entry. The eigenvalues are those of the residual spectrum on the rows used.

    Raises
    ------
    InputError
        For a model with a condition, two levels or another likelihood, if its values are not finite, if no latent has
        collapsed, for latents that are not collapsed ones, and for fewer than two samples.
    """
    if model.family is not None:
        raise InputError("stability: the model has another likelihood, the blocks are those of a Gaussian decoder")
    if model.metadata.get("beta_top") is not None:
        raise InputError("stability: the model has two levels of latents, the blocks are those of one level")
    if model.coding is not None:
        raise InputError("stability: the model has a condition, the blocks are those of a model without one")
    if len(x) < 2:
        raise InputError(f"stability: {len(x)} samples, must be 2 or more")
    rows = torch.from_numpy(np.array(x[:: max(1, -(-len(x) // MOST_ROWS))], dtype=np.float64))
    mu, logvar = _posterior(model, rows)
    kl = gaussian_kl(mu, logvar, torch.expm1).mean(0)
    if not kl.isfinite().all():
        raise InputError("stability: the KL of the model is not finite, its training has diverged")
    collapsed = (kl <= ACTIVE_KL).nonzero()[:, 0].tolist()
    active = [latent for latent in range(model.n_latent) if latent not in collapsed]
    if not collapsed:
        raise InputError(f"stability: all {model.n_latent} latents are active, at least one must have collapsed")
    spectrum = _residual(model, rows, active)
    chosen = collapsed if latents is None else latents
    if not len(chosen):
        raise InputError("stability: latents: names none, must name a collapsed one")
    if wrong := [latent for latent in chosen if not 0 <= latent < model.n_latent]:
        raise InputError(f"stability: latent {wrong[0]}, must be from 0 to {model.n_latent - 1}")
    if wrong := [latent for latent in chosen if latent in active]:
        raise InputError(f"stability: latent {wrong[0]} has a KL of {kl[wrong[0]]:.4g} nats, must have collapsed")
    state = _State(model, rows, mu, logvar, spectrum, active)
    blocks = []
    for latent, mode in itertools.product(chosen, range(min(n_modes, len(spectrum.eigenvalues)))):
        predicted = stability_blocks(max(0.0, float(spectrum.eigenvalues[mode])), model.sigma2, model.beta)
        for channel in ("mean", "width"):
            about = {"latent": int(latent), "mode": int(mode), "channel": channel}
            blocks.append(about | _compared(_block(state, channel, latent, mode), predicted[channel]))
    return {
        "sigma2": model.sigma2,
        "beta": model.beta,
        "kl": float(kl.sum()),
        "active": active,
        "eigenvalues": spectrum.eigenvalues.tolist(),
        "blocks": blocks,
        "largest_error": max(block["relative_error"] for block in blocks),
    }


def _posterior(model: TrainedVAE, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return mu and log variance of rows, each [N, n], in float64."""
    mu, variance = model.encode(x)
    return mu.double(), variance.double().log()


def _residual(model: TrainedVAE, rows: Tensor, active: Sequence[int]) -> ResidualSpectrum:
    """Return the residual spectrum on the rows."""
    states = draw_states(
        lambda inputs: _posterior(model, inputs),
        lambda z, condition: model.decode(z).double(),
        Rows(rows, np.zeros(rows.shape[1], np.float32)),
        active,
        noise.key("residual", "stability"),
    )
    return residual_spectrum(states)


class _State:
    """A model's posterior at some rows with fixed noise; gives -ELBO, without its constant, under perturbations."""

    def __init__(
        self,
        model: TrainedVAE,
        x: Tensor,
        mu: Tensor,
        logvar: Tensor,
        spectrum: ResidualSpectrum,
        active: Sequence[int],
    ):
        self._model, self._x, self._mu, self._sigma = model, x, mu, (0.5 * logvar).exp()
        generator = torch.Generator().manual_seed(0)
        drawn = torch.randn(PAIRS, *mu.shape, dtype=torch.float64, generator=generator)
        drawn /= drawn.square().mean((0, 1)).sqrt()
        self._noise = torch.cat([drawn, -drawn])
        self._spectrum, self._active = spectrum, list(active)
        self._encoded = (x - x.mean(0)) @ torch.from_numpy(spectrum.functions).T

    def energy(self, channel: str, latent: int, mode: int, u: float, v: float) -> float:
        """Return -ELBO with f + u g(z) e(z_A) for g of the channel, and mu or sigma of one latent displaced by v h."""
        mu, sigma = self._mu.clone(), self._sigma.clone()
        (mu if channel == "mean" else sigma)[:, latent] += v * self._encoded[:, mode]
        sigma = sigma.clamp_min(1e-3)
        moves = self._spectrum.moves[mode]
        total = 0.0
        for drawn in self._noise:
            z = mu + sigma * drawn
            along = z[:, latent] if channel == "mean" else (z[:, latent] ** 2 - 1) / 2**0.5
            basis = self._spectrum.basis(z[None][..., self._active])[0, :, : len(moves)]
            decoded = self._model.decode(z).double() + u * along[:, None] * (basis @ moves)
            total += float((self._x - decoded).square().sum(1).mean())
        kl = float(gaussian_kl(mu, 2 * sigma.log(), torch.expm1).sum(1).mean())
        return total / len(self._noise) / (2 * self._model.sigma2) + self._model.beta * kl


def _block(state: _State, channel: str, latent: int, mode: int) -> np.ndarray:
    """Return the second differences of the energy in (u, v)."""

    def energy(u: float, v: float) -> float:
        return state.energy(channel, latent, mode, u, v)

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
