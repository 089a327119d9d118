"""Sweep tables of KL alone: the exact curve of eight eigenvalues near each other, and the same with scatter."""

from __future__ import annotations

import numpy as np
import pandas as pd
from gaussian_sweeps import spectrum_of

from phasevae.theory.ppca import ppca_active_dims, ppca_kl

DEFAULT = np.exp(-0.1 * np.arange(8))
SPECTRUM = spectrum_of(DEFAULT)
GRID = [0.68, 0.71, 0.74, 0.77, 0.80, 0.82, 0.84, 0.86, 0.88, 0.90, 0.92, 0.94, 0.96, 0.98, 1.02, 1.08]


def exact_sweep(eigenvalues=DEFAULT, grid=GRID, n=4, seeds=1, beta=1.0):
    x = np.repeat(np.asarray(grid, dtype=float), seeds)
    table = {
        "sigma2": x / beta,
        "beta": beta,
        "seed": np.tile(np.arange(seeds), len(grid)),
        "kl": ppca_kl(eigenvalues, x, n),
        "active_dims": ppca_active_dims(eigenvalues, x, n),
    }
    return pd.DataFrame(table)


def noisy_sweep(seed, **options):
    """Scatter 0.002 + 0.01 KL and a deficit of up to 0.004 nats within 3 % of the transition."""
    rng = np.random.default_rng(seed)
    table = exact_sweep(**options)
    kl = table["kl"].to_numpy()
    near = np.abs(table["sigma2"] * table["beta"] - 1) < 0.03
    deficit = near * np.minimum(0.004 * rng.uniform(size=kl.size), kl)
    return table.assign(kl=kl - deficit + rng.normal(size=kl.size) * (0.002 + 0.01 * kl))
