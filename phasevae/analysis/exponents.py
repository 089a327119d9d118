"""TODO."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from phasevae.analysis.kl_fit.profile_likelihood import chi2_bound
from phasevae.analysis.sweep_table import Points

if TYPE_CHECKING:
    import pandas as pd
from phasevae.analysis.least_squares import solve_unconstrained
from phasevae.analysis.order import N_CANDIDATES, quantities, second_eigenvalue

EXPONENTS = {"kl": 1.0, "amplitude": 0.5, "gap": 2.0}
"""Those of pPCA in t = 1 - sigma2 / sigma2_c: KL, amplitude of the decoder and ELBO gap of a single mode."""

T_RANGE = 0.03, 0.3
"""Exponents are fitted where t = 1 - x / c lies between these: closer, networks relax too slowly."""

MIN_SPAN = 0.1
"""The largest t must reach this: a power law needs a decade, or at least a factor of three."""

CORRECTION = -1.0, 3.0
"""Range of a in t^g (1 + a t). Gaussian data have 1/2 for KL, 0 for the squared amplitude, 4/3 for the ELBO gap."""


def fit_exponents(sweep: pd.DataFrame, spectrum: Mapping[str, Any] | None, fit: Mapping[str, Any]) -> dict[str, Any]:
    """Critical exponents of KL, decoder amplitude and ELBO gap with 95 % intervals.

    A t^g (1 + a t), t = 1 - x / c, is fitted to the points with t in T_RANGE above the second eigenvalue, c free in
    the fitted interval. Returns {kl, amplitude, gap: {value, ci95, expected, prefactor, correction,
    critical_variance (its own)}, window,
    critical_variance, reason}.
    """
    empty = dict.fromkeys(EXPONENTS) | {"window": None, "critical_variance": None}
    c = fit["critical_variance"]
    if c is None:
        return empty | {"reason": fit["reason"]}
    found = quantities(sweep)
    lower = max(second_eigenvalue(spectrum, fit), c * (1 - T_RANGE[1]))
    x = found["kl"].x
    inside = (x >= lower) & (x <= c * (1 - T_RANGE[0]))
    span = 1 - x[inside].min() / c if inside.any() else 0.0
    if inside.sum() < 5 or span < MIN_SPAN:
        return empty | {
            "reason": f"{int(inside.sum())} points with t from {T_RANGE[0]} to {span:.3f} above the second eigenvalue, "
            f"needs 5 that reach {MIN_SPAN}"
        }
    low, high = (edge if edge is not None else c for edge in fit["ci95"])
    grid = np.linspace(min(low, c * 0.99), max(high, c * 1.01), N_CANDIDATES)
    grid = grid[grid > x[inside].max() * 1.002]
    result: dict[str, Any] = {}
    for name, key, share in (("kl", "kl", 1.0), ("amplitude", "amplitude2", 0.5), ("gap", "gap", 1.0)):
        result[name] = _exponent(found[key].select(inside), grid, EXPONENTS[name] / share, share) | {
            "expected": EXPONENTS[name]
        }
    window = [float(x[inside].min()), float(x[inside].max())]
    return result | {"window": window, "critical_variance": c, "reason": None}


def _exponent(points: Points, c: NDArray, expected: float, share: float) -> dict[str, Any]:
    """Profile of chi2 over g of A t^g (1 + a t), minimised over c; g and its interval times `share`."""
    g = np.linspace(0.2 * expected, 2.2 * expected, 201)
    t = 1 - points.x / c[:, None]
    best = np.full(g.size, np.inf)
    solutions = np.zeros((g.size, 3))
    for i, exponent in enumerate(g):
        design = points.weight * np.stack([t**exponent, t ** (exponent + 1)], axis=1)
        for prefactor, correction, chi2 in _power_fits(design, points.weight * points.kl):
            at = chi2.argmin()
            if chi2[at] < best[i]:
                best[i], solutions[i] = chi2[at], (prefactor[at], correction[at], c[at])
    at = int(best.argmin())
    inside = g[best <= chi2_bound(best[at], max(points.x.size - 4, 1))]
    low, high = (None if edge in (g[0], g[-1]) else float(share * edge) for edge in (inside.min(), inside.max()))
    prefactor, correction, place = solutions[at]
    return {
        "value": float(share * g[at]),
        "ci95": [low, high],
        "prefactor": float(prefactor),
        "correction": float(correction),
        "critical_variance": float(place),
    }


def _power_fits(design: NDArray, target: NDArray) -> list[tuple[NDArray, NDArray, NDArray]]:
    """(A, a, chi2), each [B], of A (column 0 + a column 1): a free where it is in CORRECTION, and at both its ends."""
    fits = []
    coefficients, chi2, _ = solve_unconstrained(design, target)
    with np.errstate(divide="ignore", invalid="ignore"):
        a = coefficients[:, 1] / coefficients[:, 0]
    allowed = (coefficients[:, 0] > 0) & (a >= CORRECTION[0]) & (a <= CORRECTION[1])
    fits.append((coefficients[:, 0], np.where(allowed, a, 0.0), np.where(allowed, chi2, np.inf)))
    for end in CORRECTION:
        prefactor, chi2, _ = solve_unconstrained(design[:, :1] + end * design[:, 1:], target)
        fits.append((prefactor[:, 0], np.full(len(chi2), end), np.where(prefactor[:, 0] > 0, chi2, np.inf)))
    return fits
