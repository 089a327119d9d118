"""Do the 95 % intervals hold the truth, and is the estimate unbiased? Simulated sweeps with a known critical point.

    python benchmarks/coverage.py                      200 sweeps of one seed, half a minute
    python benchmarks/coverage.py --seeds 5            several seeds a sweep
    python benchmarks/coverage.py --grid fine          steps of 0.01 through the transition

A sweep is the exact KL of the paper's synthetic spectrum (critical point 1, four latents) with noise of standard
deviation 0.002 + 0.01 KL nats, less a uniform deficit of up to 0.004 nats (never more than KL) within 3 % of the
transition, as networks that relax slowly have it. Prints, for each form: how many sweeps gave a critical point, bias
and scatter, coverage, how many intervals are open, and the median half width of the others; the same of the slope.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import pandas as pd

from phasevae.analysis.kl_fit.critical_point import fit_critical_point
from phasevae.analysis.kl_fit.forms import NAMES
from phasevae.theory.ppca import ppca_active_dims, ppca_kl

EIGENVALUES = np.exp(-0.1 * np.arange(8))
N_LATENT = 4
GRIDS = {
    "default": [0.68, 0.71, 0.74, 0.77, 0.80, 0.82, 0.84, 0.86, 0.88, 0.90, 0.92, 0.94, 0.96, 0.98, 1.02, 1.08],
    "fine": [*np.arange(68, 90, 2) / 100, *np.arange(90, 107) / 100, 1.1],
    "coarse": [0.7, 0.78, 0.86, 0.93, 0.97, 1.03, 1.1],
}


def simulated_sweep(rng: np.random.Generator, grid: list[float], seeds: int, deficit: float = 0.004) -> pd.DataFrame:
    """One sweep as `phasevae collect` would give it, as far as the fit reads it."""
    x = np.repeat(np.asarray(grid, dtype=float), seeds)
    exact = ppca_kl(EIGENVALUES, x, N_LATENT)
    short = (np.abs(x - 1) < 0.03) * np.minimum(deficit * rng.uniform(size=x.size), exact)
    return pd.DataFrame(
        {
            "sigma2": x,
            "beta": 1.0,
            "seed": np.tile(np.arange(seeds), len(grid)),
            "kl": exact - short + rng.normal(size=x.size) * (0.002 + 0.01 * exact),
            "active_dims": ppca_active_dims(EIGENVALUES, x, N_LATENT),
        }
    )


def known_spectrum() -> dict:
    """What the fit reads of spectrum.json."""
    moments = {"skewness": [0.0] * 8, "excess_kurtosis": [0.0] * 8}
    return {"eigenvalues": EIGENVALUES.tolist(), "n_samples": 256_000, **moments}


def summary(found: list[dict], truth: float) -> dict:
    """Coverage and bias of estimates {value, ci95} against the truth, both in its units."""
    there = [item for item in found if item["value"] is not None]
    if not there:
        return {"found": 0}
    value = np.array([item["value"] for item in there]) / truth
    low, high = (
        np.array([item["ci95"][side] if item["ci95"][side] is not None else end for item in there]) / truth
        for side, end in ((0, -np.inf), (1, np.inf))
    )
    low, high = np.minimum(low, high), np.maximum(low, high)
    closed = np.isfinite(high - low)
    return {
        "found": len(there),
        "bias %": 100 * (value.mean() - 1),
        "sd %": 100 * value.std(),
        "coverage %": 100 * np.mean((low <= 1) & (high >= 1)),
        "open %": 100 * np.mean(~closed),
        "half width %": 100 * np.median((high - low)[closed] / 2) if closed.any() else np.nan,
    }


def simulate(n_sweeps: int, grid: list[float], seeds: int, deficit: float) -> list[dict]:
    """fit.json of every sweep."""
    sweeps = (simulated_sweep(np.random.default_rng(k), grid, seeds, deficit) for k in range(n_sweeps))
    return [fit_critical_point(sweep, known_spectrum(), N_LATENT) for sweep in sweeps]


def rows(fits: list[dict]) -> dict[str, dict]:
    """Summaries by name: the default with its interval, each form, and the slope below."""

    def of(model: dict) -> dict:
        return {"value": model["critical_variance"], "ci95": model["ci95"]}

    table = {"DEFAULT": summary([of(fit) for fit in fits], 1.0)}
    table |= {name: summary([of(fit["models"][name]) for fit in fits if fit["models"]], 1.0) for name in NAMES}
    return table | {"slope": summary([fit["slope_below"] for fit in fits], -0.5)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sweeps", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=1, help="seeds of each sweep")
    parser.add_argument("--deficit", type=float, default=0.004, help="largest deficit near the transition (nats)")
    parser.add_argument("--grid", choices=GRIDS, default="default")
    options = parser.parse_args()
    start = time.perf_counter()
    fits = simulate(options.sweeps, GRIDS[options.grid], options.seeds, options.deficit)
    seconds = time.perf_counter() - start
    print(pd.DataFrame(rows(fits)).T.to_string(float_format="%.3f"))
    print(f"{options.sweeps} sweeps, {seconds / options.sweeps:.2f} s each")


if __name__ == "__main__":
    main()
