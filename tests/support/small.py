"""The small training that several tests run: its settings and its data."""

from __future__ import annotations

import torch

from phasevae.sweeps.settings import Settings

RECIPE = {
    "n_latent": 2,
    "hidden": (16, 8),
    "samples": 32 * 200.0,
    "batch": 32,
    "learning_rate": 2e-3,
    "schedule": "anneal",
    "anneal_from": 0.4,
    "anneal_fraction": 0.5,
    "antithetic": True,
    "rao_blackwell_group": 16,
    "balanced_order": True,
    "moment_matched_noise": True,
    "holdout": 0.0,
}


def recipe(**changes) -> Settings:
    """200 steps of 32 samples, two latents; but for the changes."""
    return Settings(**{**RECIPE, **changes})


def gaussian_rows(n: int = 500, device: str = "cpu", dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """[n, 4] with covariance eigenvalues near 1, 0.8, 0.5 and 0.3."""
    scale = torch.tensor([1.0, 0.8, 0.5, 0.3]).sqrt()
    return (scale * torch.randn(n, 4, generator=torch.Generator().manual_seed(0))).to(device, dtype)
