"""Do the 95 % intervals hold the truth, and is the estimate unbiased? Simulated sweeps with a known critical point.

    python benchmarks/coverage.py                      200 sweeps of one seed, half a minute
    python benchmarks/coverage.py --sweeps 10          a few seconds
    python benchmarks/coverage.py --seeds 5            several seeds per sweep
    python benchmarks/coverage.py --grid fine          steps of 0.01 through the transition

writes no file. A sweep is the exact KL of the paper's synthetic spectrum (critical point 1, four latents) with noise of
standard deviation 0.002 + 0.01 KL nats, less a uniform deficit of up to 0.004 nats (never more than KL) within 3 % of
the transition, as in networks that relax slowly. It prints, for each form: the number of sweeps with a critical point,
bias and scatter, coverage, how many intervals are open, and the median half width of the others; the same for the
slope.
"""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
from shared import gaussian_spectrum, make_parser, paper_problem

from phasevae.analysis.kl_fit.critical_point import CriticalPoint, fit_critical_point
from phasevae.analysis.kl_fit.forms import NAMES
from phasevae.analysis.records import Estimate
from phasevae.theory.ppca import ppca_active_dims, ppca_kl

PROBLEM = paper_problem()
GRIDS = {
    "default": PROBLEM.sigma2,
    "fine": [*np.arange(68, 90, 2) / 100, *np.arange(90, 107) / 100, 1.1],
    "coarse": [0.7, 0.78, 0.86, 0.93, 0.97, 1.03, 1.1],
}


def simulated_sweep(rng: np.random.Generator, grid: list[float], seeds: int, deficit: float) -> pd.DataFrame:
    """Draw a sweep: a table with the columns of sweep.csv that the fit reads.

    Parameters
    ----------
    rng : source of the noise
    grid : decoder variances
    seeds : models at each decoder variance
    deficit : largest deficit of KL near the transition, in nats
    """
    x = np.repeat(np.asarray(grid, dtype=float), seeds)
    exact = ppca_kl(PROBLEM.eigenvalues, x, PROBLEM.n_latent)
    short = (np.abs(x - 1) < 0.03) * np.minimum(deficit * rng.uniform(size=x.size), exact)
    return pd.DataFrame(
        {
            "sigma2": x,
            "beta": 1.0,
            "seed": np.tile(np.arange(seeds), len(grid)),
            "kl": exact - short + rng.normal(size=x.size) * (0.002 + 0.01 * exact),
            "active_dims": ppca_active_dims(PROBLEM.eigenvalues, x, PROBLEM.n_latent),
        }
    )


def summary(estimates: list[Estimate], truth: float) -> dict:
    """Coverage and bias of estimates, in per cent of the truth."""
    known = [estimate for estimate in estimates if estimate.value is not None]
    if not known:
        return {"estimates": 0}
    value = np.array([estimate.value for estimate in known]) / truth
    edges = [
        [-np.inf if low is None else low, np.inf if high is None else high] for low, high in (e.ci95 for e in known)
    ]
    low, high = np.sort(np.array(edges) / truth).T
    closed = np.isfinite(high - low)
    return {
        "estimates": len(known),
        "bias %": 100 * (value.mean() - 1),
        "sd %": 100 * value.std(),
        "coverage %": 100 * np.mean((low <= 1) & (high >= 1)),
        "open %": 100 * np.mean(~closed),
        "half width %": 100 * np.median((high - low)[closed] / 2) if closed.any() else np.nan,
    }


def table(fits: list[CriticalPoint]) -> dict[str, dict]:
    """Summaries by name: the default with its interval, each form, and the slope below."""
    chosen = {"DEFAULT": fits} | {name: [fit.models[name] for fit in fits if fit.models] for name in NAMES}
    rows = {
        name: summary([Estimate(fit.critical_variance, fit.ci95) for fit in of_name], 1.0)
        for name, of_name in chosen.items()
    }
    return rows | {"slope": summary([fit.slope_below for fit in fits], -0.5)}


def main() -> None:
    """Run the command line."""
    parser = make_parser(__doc__)
    parser.add_argument("--sweeps", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=1, help="seeds of each sweep")
    parser.add_argument("--deficit", type=float, default=0.004, help="largest deficit near the transition (nats)")
    parser.add_argument("--grid", choices=GRIDS, default="default")
    options = parser.parse_args()
    start = time.perf_counter()
    fits = []
    for number in range(options.sweeps):
        sweep = simulated_sweep(np.random.default_rng(number), GRIDS[options.grid], options.seeds, options.deficit)
        fits.append(fit_critical_point(sweep, gaussian_spectrum(PROBLEM.eigenvalues), PROBLEM.n_latent))
    seconds = time.perf_counter() - start
    print(pd.DataFrame(table(fits)).T.to_string(float_format="%.3f"))
    print(f"{options.sweeps} sweeps, {seconds / options.sweeps:.2f} s each")


if __name__ == "__main__":
    main()
