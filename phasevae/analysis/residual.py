"""Where each branch of a sweep ends, by its residual spectra: the values at which the margin is zero.

A branch is a range of x = beta * sigma2 with the same number k of active latents. Within it the margin x - Lambda_A is
positive, and it is zero at both ends. They are extrapolated by the form that the edge has for Gaussian data,
Lambda_A = max(lambda_{k+1}, x^2 / lambda_k): it is constant near the lower end, lambda_{k+1}, and grows with x^2 up to
the upper end, lambda_k.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from phasevae.analysis.records import Estimate, Interval
from phasevae.analysis.sweep_table import abscissa
from phasevae.analysis.thresholds import Thresholds

if TYPE_CHECKING:
    import pandas as pd

_NORMAL = 1.96
_COLUMNS = ["active_dims", "residual_edge", "residual_edge_standard_error"]


@dataclass(frozen=True)
class Branch:
    """The ends of one branch, as beta * sigma2, where the margin is zero.

    Attributes
    ----------
    active
        Active latents.
    measured
        The smallest and the largest value with a point.
    n_points
        Trained models.
    lower, upper
        The ends. Where the points reach only the part of the branch that does not tell an end, its interval is open on
        one side. The upper end is None without active latents.
    cascade
        The same ends by the thresholds of the modes of KL.
    """

    active: int
    measured: Interval
    n_points: int
    lower: Estimate
    upper: Estimate | None
    cascade: Interval


@dataclass(frozen=True)
class Branches:
    """The branches of a sweep from the one with most active latents on, or the `reason` why there are none."""

    branches: list[Branch]
    reason: str | None = None


def fit_branches(sweep: pd.DataFrame, cascade: Thresholds) -> Branches:
    """Find the ends of each branch with their 95 % intervals.

    The intervals are from the standard errors of the points and, with several seeds, from their scatter. A model whose
    number of active latents is not that of most seeds is left out; of two numbers that are as frequent, the smaller one
    counts.

    Parameters
    ----------
    sweep
        Content of sweep.csv.
    cascade
        The thresholds of the modes.
    """
    if missing := [column for column in _COLUMNS if column not in sweep]:
        return Branches([], f"sweep: column '{missing[0]}' is missing; train the points again")
    points = sweep.assign(x=abscissa(sweep)).dropna(subset=_COLUMNS)
    points = points[points["residual_edge"] > 0]  # noise may take an edge of zero below it
    if points.empty:
        return Branches([], "the residual spectrum is not defined for this loss, or for two levels")
    usual = points.groupby("x")["active_dims"].transform(lambda counts: counts.mode().iloc[0])
    points = points[points["active_dims"] == usual]
    thresholds = {mode.mode: mode.threshold for mode in cascade.modes}
    return Branches(
        [
            _branch(int(active), rows, [thresholds.get(active + 1), thresholds.get(active)])
            for active, rows in sorted(points.groupby("active_dims"), key=lambda item: -item[0])
        ]
    )


def _branch(active: int, points: pd.DataFrame, cascade: Interval) -> Branch:
    low, high = (points[points["x"] == end] for end in (points["x"].min(), points["x"].max()))
    (x_low, edge_low, half_low), (x_high, edge_high, half_high) = _edge(low), _edge(high)
    # Neither end is told by a branch whose edge grows with x^2 all along, or not at all.
    noise = np.hypot(half_low, half_high)
    constant = active == 0 or edge_low - edge_high * (x_low / x_high) ** 2 > noise
    growing = edge_high - edge_low > noise
    lower = _estimate(edge_low, half_low, None if constant else 0)
    copy = x_high**2 / edge_high
    upper = _estimate(copy, half_high * copy / edge_high, None if growing else 1) if active else None
    return Branch(active, [x_low, x_high], len(points), lower, upper, cascade)


def _edge(rows: pd.DataFrame) -> tuple[float, float, float]:
    """Return x of the rows of one x, the mean of their edges, and half of its 95 % interval."""
    edges, n = rows["residual_edge"].to_numpy(float), len(rows)
    errors = rows["residual_edge_standard_error"].to_numpy(float)
    scatter = stats.t.ppf(0.975, n - 1) * edges.std(ddof=1) / n**0.5 if n > 1 else 0.0
    half = np.hypot(scatter, _NORMAL * np.sqrt(np.mean(errors**2) / n))
    return float(rows["x"].iloc[0]), float(edges.mean()), float(half)


def _estimate(value: float, half: float, open_side: int | None) -> Estimate:
    """Return an estimate; one that is a bound alone has an interval that is open on side 0 or 1, and no value."""
    interval: list[float | None] = [value - half, value + half]
    if open_side is None:
        return Estimate(value, interval)
    interval[open_side] = None
    return Estimate(None, interval)
