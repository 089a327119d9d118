"""Spectra, and sweep tables that follow the exact curves of Gaussian data."""

from __future__ import annotations

import numpy as np
import pandas as pd

from phasevae.spectrum.spectrum import Spectrum, assemble_spectrum
from phasevae.theory.ppca import collapsed_elbo, ppca_active_dims, ppca_elbo, ppca_kl, ppca_latent_variance

SINGLE = np.array([1.0] + [0.25] * 7)
GRID = [0.5, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.88, 0.9, 0.92, 0.94, 0.96, 0.98, 1.02, 1.05, 1.1]


def spectrum_of(
    eigenvalues=SINGLE, skewness=0.0, kurtosis=0.0, n_samples=256_000, variance_proxy: float | None = None
) -> Spectrum:
    """The spectrum of data with these eigenvalues and these moments of the first component."""
    values = np.array(eigenvalues, dtype=float)
    moments = (np.array([moment, *np.zeros(values.size - 1)]) for moment in (skewness, kurtosis))
    return assemble_spectrum(values, float(values.sum()), n_samples, *moments, variance_proxy)


def gaussian_sweep(seed=None, eigenvalues=SINGLE, grid=GRID, beta=1.0, n=4):
    """The exact curves, with noise when a seed is given."""
    rng, x = np.random.default_rng(seed), np.asarray(grid, dtype=float)
    lam, noise = np.asarray(eigenvalues), 0.0 if seed is None else 1.0
    kl = ppca_kl(lam, x, n)
    gap = ppca_elbo(lam, x, n) - collapsed_elbo(lam.sum(), lam.size, x)
    draws = noise * rng.normal(size=(2, x.size))
    return pd.DataFrame(
        {
            "sigma2": x / beta,
            "beta": beta,
            "seed": 0,
            "kl": kl + draws[0] * (1e-3 + 5e-3 * kl),
            "elbo_gap": beta * (gap + draws[1] * (3e-4 + 5e-3 * gap)),
            "active_dims": ppca_active_dims(lam, x, n),
        }
    )


def rotated_dimensions(eigenvalues, grid, n, angle=0.7):
    """A dimensions table whose two leading latents are rotated into each other."""
    rows = []
    for x in grid:
        variance = 1 - ppca_latent_variance(eigenvalues, x, n)
        turn = np.eye(n)
        turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        covariance = turn @ np.diag(variance) @ turn.T
        values = np.linalg.eigvalsh(covariance)[::-1]
        rows += [
            {"sigma2": x, "beta": 1.0, "seed": 0, "latent": j, "mean_variance": covariance[j, j],
             "mean_eigenvalue": values[j]} for j in range(n)
        ]  # fmt: skip
    return pd.DataFrame(rows)


def contains(estimate, truth):
    """Whether the 95 % interval of an estimate, of which a side may be open, holds the truth."""
    low, high = estimate.ci95
    return (low is None or low <= truth) and (high is None or truth <= high)
