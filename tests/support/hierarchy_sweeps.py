"""Tables of sweeps of two-level hierarchies, made from the closed forms."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pandas as pd

from phasevae.theory.hierarchical import Hierarchy, hierarchy_optimum


def hierarchy_sweep(
    eigenvalues: Sequence[float],
    betas: Sequence[float],
    betas_top: Sequence[float],
    variance: float | None,
    sigma2: float = 1.0,
) -> pd.DataFrame:
    """sweep.csv of the optima of two latents on each level."""
    rows = []
    for beta, beta_top in itertools.product(betas, betas_top):
        levels = Hierarchy(2, 2, sigma2, beta, beta_top, variance, largest_variance=np.exp(8.0))
        optimum = hierarchy_optimum(eigenvalues, levels)
        rows.append(
            {
                "sigma2": sigma2,
                "beta": beta,
                "seed": 0,
                "elbo": 0.0,
                "elbo_gap": 0.0,
                "kl": (optimum.kl.sum() + optimum.top_kl.sum()),
                "log_likelihood": 0.0,
                "active_dims": int(optimum.active.sum()),
                "beta_top": beta_top,
                "kl_top": optimum.top_kl.sum(),
                "active_top": int(optimum.top_active.sum()),
                "n_latent": 2,
                "n_top": 2,
                "posterior_variance": np.nan if variance is None else variance,
            }
        )
    return pd.DataFrame(rows)
