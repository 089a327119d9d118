"""Critical slowing down: how long KL takes to settle, against the distance from the transition.

Training with Adam moves parameters at the pace of the learning rate, so time is counted in units of it:
T = sum of learning rates over steps. Near an equilibrium KL - KL_end ~ exp(-T / tau), with tau ~ 1 / |x - c|: the soft
mode's curvature vanishes at the transition.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from phasevae.analysis.kl_fit.profile_likelihood import LEVEL
from phasevae.analysis.sweep_table import check_table, column_values

if TYPE_CHECKING:
    import pandas as pd


COLUMNS = ("sigma2", "beta", "seed", "learning_time", "current_sigma2", "kl")
MIN_ROWS = 10
MIN_POINTS = 5
MIN_CHANGE = 3.0
"""KL must fall by this many times its scatter while it settles: a point that sits still tells no time."""

_TAUS = 160


def fit_slowing(histories: pd.DataFrame, critical: float | None) -> dict[str, Any]:
    """Relaxation time of each point after its sigma2 stopped rising, and the exponent of |x - c|.

    histories: COLUMNS, one row a recorded step (`phasevae collect --histories`); critical: the fitted c.
    Returns {x, tau, exponent {value, ci95, expected, below, above}, reason}: tau in units of learning rate times
    steps, the exponent nu of tau = A |ln(x / c)|^-nu by least squares of the logarithms, with an own A `below` and
    `above` the transition (None on a side without points): the curvature on the two sides differs.
    """
    empty: dict[str, Any] = {"x": [], "tau": [], "exponent": None}
    if critical is None:
        return empty | {"reason": "no critical variance is fitted"}
    check_table(histories, COLUMNS, "histories", rows=None)
    found = []
    for (sigma2, beta, _), rows in histories.groupby(["sigma2", "beta", "seed"]):
        settled = rows[np.isclose(column_values(rows, "current_sigma2"), sigma2, rtol=1e-9)]
        tau = relaxation_time(column_values(settled, "learning_time"), column_values(settled, "kl"))
        if tau is not None:
            found.append((sigma2 * beta, tau))
    if not found:
        return empty | {"reason": "no point settles visibly"}
    x, tau = np.array(found).T
    result = {"x": x.tolist(), "tau": tau.tolist()}
    distance = np.abs(np.log(x / critical))
    use = distance > 0
    if np.unique(x[use]).size < MIN_POINTS:
        reason = f"{np.unique(x[use]).size} values of beta * sigma2 settle visibly, needs {MIN_POINTS}"
        return result | {"exponent": None, "reason": reason}
    return result | {"exponent": _exponent(distance[use], tau[use], (x > critical)[use]), "reason": None}


def relaxation_time(time: NDArray, kl: NDArray) -> float | None:
    """tau of KL = KL_end + B exp(-T / tau) by least squares; None when too short, still, or slower than the record."""
    if time.size < MIN_ROWS:
        return None
    since = time - time[0]
    taus = np.geomspace(since[-1] / 200, since[-1], _TAUS)
    decay = np.exp(-since / taus[:, None])
    centred, target = decay - decay.mean(1, keepdims=True), kl - kl.mean()
    amplitude = (centred @ target) / np.square(centred).sum(1)
    rest = np.square(target - amplitude[:, None] * centred).sum(1)
    at = int(rest.argmin())
    scatter = np.sqrt(rest[at] / (time.size - 3))
    if at in (0, _TAUS - 1) or abs(amplitude[at]) < MIN_CHANGE * scatter:
        return None
    return float(taus[at])


def _exponent(distance: NDArray, tau: NDArray, is_above: NDArray) -> dict[str, Any]:
    """nu and the prefactors of tau = A distance^-nu with its 95 % interval, A by side."""
    from scipy.stats import t

    sides = [side for side in (~is_above, is_above) if side.any()]
    design = np.column_stack([-np.log(distance), *(side.astype(float) for side in sides)])
    solved, _, _, _ = np.linalg.lstsq(design, np.log(tau), rcond=None)
    dof = tau.size - design.shape[1]
    variance = np.square(np.log(tau) - design @ solved).sum() / dof
    half = t.ppf((1 + LEVEL) / 2, dof) * np.sqrt(variance * np.linalg.inv(design.T @ design)[0, 0])
    value, prefactors = float(solved[0]), iter(np.exp(solved[1:]).tolist())
    below, above = (next(prefactors) if side.any() else None for side in (~is_above, is_above))
    return {
        "value": value,
        "ci95": [value - float(half), value + float(half)],
        "expected": 1.0,
        "below": below,
        "above": above,
    }
