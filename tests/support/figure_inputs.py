"""The inputs of figures: tables that follow the exact curves of five eigenvalues, and their analysis."""

from __future__ import annotations

import functools

import numpy as np
import pandas as pd
from gaussian_sweeps import spectrum_of

from phasevae.analysis.bracketing import compare_bracketing, summarise_bracketing
from phasevae.analysis.pipeline import analyse
from phasevae.theory.ppca import (
    collapsed_elbo,
    ppca_active_dims,
    ppca_elbo,
    ppca_exact_above,
    ppca_kl,
    ppca_kl_per_dim,
    ppca_latent_variance,
)
from phasevae.theory.residual import ppca_residual_edge

EIGENVALUES = [1.0, 0.8, 0.6, 0.5, 0.3]
N_LATENT = 3
BOUND = ppca_exact_above(EIGENVALUES, N_LATENT)


@functools.cache
def cached_inputs(seeds, beta, skewness):
    x = np.repeat(np.array([0.4, 0.55, 0.6, 0.65, 0.7, 0.75, 0.82, 0.87, 0.92, 0.97, 1.02, 1.1]), seeds)
    shift = np.tile(0.001 * np.arange(seeds), x.size // seeds)
    elbo = np.array([ppca_elbo(EIGENVALUES, s / beta, N_LATENT, beta) for s in x])
    sweep = pd.DataFrame(
        {
            "sigma2": x / beta,
            "beta": beta,
            "seed": np.tile(np.arange(seeds), x.size // seeds),
            "elbo": elbo,
            "elbo_gap": elbo - collapsed_elbo(sum(EIGENVALUES), len(EIGENVALUES), x / beta),
            "kl": ppca_kl(EIGENVALUES, x, N_LATENT) + shift,
            "log_likelihood": elbo,
            "active_dims": ppca_active_dims(EIGENVALUES, x, N_LATENT),
            "residual_edge": ppca_residual_edge(EIGENVALUES, x, N_LATENT),
            "residual_edge_standard_error": 5e-4,
            "residual_margin": x - ppca_residual_edge(EIGENVALUES, x, N_LATENT),
        }
    )
    kl, variance = (
        ppca_kl_per_dim(EIGENVALUES, x, N_LATENT),
        ppca_latent_variance(EIGENVALUES, x, N_LATENT),
    )
    # Networks order their latents as they please: the tables hold them reversed.
    rows = [
        {
            "sigma2": r.sigma2,
            "beta": beta,
            "seed": r.seed,
            "latent": j,
            "kl": kl[i, 2 - j],
            "latent_variance": variance[i, 2 - j],
            "mean_eigenvalue": 1 - variance[i, j],
        }
        for i, r in enumerate(sweep.itertuples())
        for j in range(N_LATENT)
    ]
    spectrum = spectrum_of(EIGENVALUES, skewness, n_samples=10_000)
    dimensions = pd.DataFrame(rows)
    fit = analyse(sweep, spectrum, N_LATENT, dimensions, histories_of(sweep))
    upward = pd.concat(
        [sweep.assign(branch=branch, elbo_gap_standard_error=1e-3) for branch in ("up", "fresh")], ignore_index=True
    )
    inputs = {"sweep": sweep, "dimensions": dimensions, "fit": fit, "spectrum": spectrum, "hysteresis": upward}
    return inputs | bracketed(sweep, spectrum)


def make_inputs(seeds=1, beta=1.0, skewness=0.0):
    """A new dict of what is the same in every test: the fit takes most of the time."""
    return dict(cached_inputs(seeds, beta, skewness))


def histories_of(sweep):
    """Models whose KL settles with a time that grows towards beta * sigma2 = 1."""
    time = np.linspace(0, 3, 40)
    tables = []
    for row in sweep.itertuples():
        settling = 0.05 * np.exp(-time * abs(np.log(row.beta * row.sigma2)) / 0.05)
        point = {"sigma2": row.sigma2, "beta": row.beta, "seed": row.seed, "current_sigma2": row.sigma2}
        tables.append(pd.DataFrame(point | {"learning_time": time, "kl": row.kl + settling}))
    return pd.concat(tables, ignore_index=True)


def bracketed(sweep, spectrum):
    """The sweep and a second one that is collapsed at beta * sigma2 = 0.92 and 0.97."""
    collapsed = collapsed_elbo(spectrum.trace, len(EIGENVALUES), sweep["sigma2"])
    first = sweep.assign(elbo_gap=sweep["elbo"] - collapsed, elbo_gap_standard_error=1e-3, schedule="anneal")
    second = first.assign(seed=first["seed"] + 1000, schedule="scratch")
    second.loc[(second["beta"] * second["sigma2"]).between(0.9, 1.0), "kl"] = 0.0
    table = compare_bracketing(first, second, spectrum)
    return {
        "bracketing": table,
        "bracketing_summary": summarise_bracketing(table, first, second, spectrum, N_LATENT),
    }


def labels(figure):
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]
