"""Of what order the transition is: jumps of ELBO, KL and squared error and of their derivatives; critical exponents.

Ehrenfest: the order is that of the lowest derivative of the ELBO that jumps. By the envelope theorem
dELBO/dsigma2 = -D / (2 sigma2) + MSE / (2 sigma2^2), so a jump of MSE (and with it of KL) makes a transition of first
order, a jump of their slopes one of second. With t = 1 - x / c a second-order collapse has KL ~ t, squared decoder
amplitude E|f - mean|^2 ~ t and ELBO gap ~ t^2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from phasevae.analysis.kl_fit.profile_likelihood import chi2_bound
from phasevae.analysis.sweep_table import COLLAPSED_KL, Points, abscissa, check_table, column_values

if TYPE_CHECKING:
    import pandas as pd
from phasevae.analysis.least_squares import solve_unconstrained

COLUMNS = ("sigma2", "beta", "seed", "kl", "elbo_gap")
"""Columns of the sweep table that are read here."""

KL_TOLERANCE = 0.02
"""A jump of KL below this many nats is none: slow relaxation and the grid leave that much open."""

LOWEST_RATIO = 0.6
"""Jumps are looked for from this part of the critical point up."""

SD = {"kl": (2e-3, 1e-2), "amplitude2": (4e-3, 1e-2), "gap": (5e-4, 2e-2)}
"""Scatter of one trained network, absolute and relative: KL and gap in nats, squared amplitude in units of x."""

N_CANDIDATES = 161


def quantities(sweep: pd.DataFrame) -> dict[str, Points]:
    """Seed means of `kl`, `gap` = (ELBO - collapsed) / beta, and `amplitude2` = MSE of the collapsed state - MSE,
    against x = beta * sigma2. At an extremum the last is the decoder's variance E|f - mean|^2, in units of x."""
    check_table(sweep, COLUMNS)
    beta, kl = column_values(sweep, "beta"), column_values(sweep, "kl")
    gap = column_values(sweep, "elbo_gap") / beta
    x = abscissa(sweep)
    distinct, inverse, count = np.unique(x, return_inverse=True, return_counts=True)
    found = {}
    for name, values in (("kl", kl), ("amplitude2", 2 * x * (gap + kl)), ("gap", gap)):
        mean = np.bincount(inverse, values) / count
        absolute, relative = SD[name]
        absolute = absolute * distinct if name == "amplitude2" else absolute
        found[name] = Points(distinct, mean, np.sqrt(count) / (absolute + relative * np.abs(mean)), count)
    return found


def transition_order(sweep: pd.DataFrame, spectrum: Mapping[str, Any] | None, fit: Mapping[str, Any]) -> dict[str, Any]:
    """Ehrenfest order with the jumps that tell it, each {value, ci95}.

    Keys: value (1, 2 or None), reason, window, kl {jump, slope_jump}, amplitude2 {jump, slope_jump}, elbo {jump,
    first_jump, second_jump}. Jumps of values are below minus above the transition, jumps of derivatives in x above
    minus below, so that all but `second_jump` are positive where order is lost. `fit` is the content of fit.json.
    """
    found = quantities(sweep)
    edges = transition_edges(found["kl"], fit)
    empty = {"value": None, "window": None, "kl": None, "amplitude2": None, "elbo": None}
    if edges is None:
        return empty | {"reason": fit["reason"] or "no transition in the sweep"}
    lower = max(second_eigenvalue(spectrum, fit), LOWEST_RATIO * edges[1])
    windows = {name: points.above(lower) for name, points in found.items()}
    below = int(np.sum(windows["kl"].x < np.mean(edges)))
    above = windows["kl"].x.size - below
    if below < 3 or above < 1:
        counts = f"{below} values of beta * sigma2 below the transition in the single-mode window and {above} above it"
        return empty | {"reason": f"{counts}, needs 3 and 1"}
    c = np.linspace(*edges, N_CANDIDATES)
    degree = 2 if below >= 5 else 1
    result: dict[str, Any] = {"window": [float(windows["kl"].x.min()), float(windows["kl"].x.max())]}
    for name in ("kl", "amplitude2"):
        points = windows[name]
        slope = _jump(points, c, [1, 2][:degree], 1)
        result[name] = {"jump": _jump(points, c, [0, 1, 2][: degree + 1], 0), "slope_jump": _per_x(slope)}
    gap = windows["gap"]
    result["elbo"] = {
        "jump": _jump(gap, c, [0, 1, 2][: degree + 1], 0),
        "first_jump": _per_x(_jump(gap, c, [1, 2], 1)),
        "second_jump": _curvature(_jump(gap, c, [2, 3][:degree], 2)),
    }
    value, reason = _verdict(result)
    return {"value": value, "reason": reason} | result


def transition_edges(kl: Points, fit: Mapping[str, Any]) -> tuple[float, float] | None:
    """Lowest and highest place of the transition: from the last point that is surely active to the first from which on
    all are collapsed, or the fitted interval where that reaches further. None without both."""
    active, alive = (np.flatnonzero(kl.kl > level) for level in (4 * COLLAPSED_KL, COLLAPSED_KL))
    if not active.size or alive[-1] == kl.x.size - 1:
        return None
    low, high = float(kl.x[active[-1]]), float(kl.x[alive[-1] + 1])
    ci95 = fit["ci95"]
    if ci95 and None not in ci95 and ci95[0] < high and ci95[1] > low:
        low, high = min(low, ci95[0]), max(high, ci95[1])
    return low, high


def _jump(points: Points, c: NDArray, powers: list[int], which: int) -> dict[str, Any]:
    """Coefficient of tau^which, tau = ln(c / x), of a polynomial with these `powers` below c over a constant floor:
    {value, ci95}, profiled over the critical points c [B]."""
    tau = np.log(c[:, None] / points.x)
    below = tau > 0
    columns = [np.where(below, np.abs(tau) ** power, 0.0) for power in powers] + [np.ones_like(tau)]
    design = points.weight * np.stack(columns, axis=1)
    coefficients, chi2, inverse = solve_unconstrained(design, points.weight * points.kl)
    at = powers.index(which)
    value, variance = coefficients[:, at], inverse[:, at, at]
    limit = chi2_bound(chi2.min(), max(points.x.size - len(powers) - 2, 1))
    inside = chi2 <= limit
    half = np.sqrt(variance[inside] * (limit - chi2[inside]))
    return {
        "value": float(value[chi2.argmin()]),
        "ci95": [float((value[inside] - half).min()), float((value[inside] + half).max())],
        "at": float(c[chi2.argmin()]),
    }


def _per_x(jump: Mapping[str, Any]) -> dict[str, Any]:
    """A coefficient of tau as the upward jump of the slope in x: d tau = -dx / c, and nothing is left above c."""
    return {"value": jump["value"] / jump["at"], "ci95": [edge / jump["at"] for edge in jump["ci95"]]}


def _curvature(jump: Mapping[str, Any]) -> dict[str, Any]:
    """A coefficient of tau^2 as the upward jump of the second derivative in x, -2 b / c^2."""
    c, (low, high) = jump["at"], jump["ci95"]
    return {"value": -2 * jump["value"] / c**2, "ci95": [-2 * high / c**2, -2 * low / c**2]}


def _verdict(found: Mapping[str, Any]) -> tuple[int | None, str]:
    """(order, why)."""
    kl, amplitude = found["kl"], found["amplitude2"]
    if kl["jump"]["ci95"][0] > KL_TOLERANCE and amplitude["jump"]["ci95"][0] > 0:
        return 1, f"KL jumps by {kl['jump']['value']:.3g} nats, and with it the first derivative of the ELBO"
    if kl["jump"]["ci95"][0] > KL_TOLERANCE:
        return None, "KL jumps, the squared error does not: the networks may not have converged"
    if kl["slope_jump"]["ci95"][0] > 0 and amplitude["slope_jump"]["ci95"][0] > 0:
        return 2, "KL is continuous, its slope and that of the squared error jump, hence the ELBO's second derivative"
    return None, "the jumps are not known well enough"


def second_eigenvalue(spectrum: Mapping[str, Any] | None, fit: Mapping[str, Any]) -> float:
    """Where a second mode begins: of the spectrum, else of the fitted cascade, else 0."""
    models = fit["models"]
    fitted = ((models.get("cascade") or {}).get("parameters") or {}).get("eigenvalues", [])
    eigenvalues = fitted if spectrum is None else spectrum["eigenvalues"]
    return float(eigenvalues[1]) if len(eigenvalues) > 1 else 0.0
