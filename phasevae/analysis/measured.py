"""From a sweep table to points: checks, means over seeds, and the error that each mean is taken to have."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from phasevae import theory
from phasevae.analysis.forms import Points
from phasevae.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("sigma2", "beta", "seed", "kl", "active_dims")
"""Columns of the sweep table that every fit reads."""

COLLAPSED_KL = 5e-3
"""A sweep whose KL stays above this many nats at every point has no collapsed point (2.5 times the error of one)."""

SD_ABSOLUTE, SD_RELATIVE = 2e-3, 1e-2
"""Scatter of one trained network about the optimum, SD_ABSOLUTE + SD_RELATIVE KL nats; a mean over seeds has less."""

SD_CRITICAL, CRITICAL_WIDTH = 4e-3, 0.03
"""Error that all seeds share near the transition, SD_CRITICAL / (1 + (ln(x / c) / CRITICAL_WIDTH)^2) nats: relaxation
slows down as 1 / |x - c|, so networks keep less KL than they should just below and more just above."""

MIN_POINTS = 4


def checked_points(sweep: pd.DataFrame) -> Points:
    """Means over seeds of a sweep's KL at each x = beta * sigma2, ascending, weighted by the scatter of networks.

    Raises InputError for missing columns, undefined or non-positive values and points that stand in it twice.
    """
    check(sweep, COLUMNS)
    x = abscissa(numbers(sweep, "beta") * numbers(sweep, "sigma2"))
    distinct, inverse, count = np.unique(x, return_inverse=True, return_counts=True)
    mean = np.bincount(inverse, numbers(sweep, "kl")) / count
    return weighted(Points(distinct, mean, np.ones_like(mean), count))


def weighted(points: Points, critical: float | None = None) -> Points:
    """The points with weights 1 / sd; near a `critical` point that is known roughly, with the error of slow
    relaxation as well."""
    variance = (SD_ABSOLUTE + SD_RELATIVE * np.abs(points.kl)) ** 2 / points.count
    if critical is not None:
        variance += (SD_CRITICAL / (1 + (np.log(points.x / critical) / CRITICAL_WIDTH) ** 2)) ** 2
    return Points(points.x, points.kl, variance**-0.5, points.count)


def check(sweep: pd.DataFrame, columns: tuple[str, ...]) -> None:
    """Raise InputError unless the sweep has rows, the columns with finite numbers, and each point once."""
    for column in columns:
        if column not in sweep.columns:
            raise InputError(f"sweep: column '{column}' is missing (found: {', '.join(map(str, sweep.columns))})")
    if sweep.empty:
        raise InputError("sweep: has no rows")
    for column in columns:
        values = numbers(sweep, column)
        positive = column in ("sigma2", "beta")
        bad = ~(np.isfinite(values) & ((values > 0) | (not positive)))
        if bad.any():
            row = int(np.argmax(bad))
            wanted = "a positive number" if positive else "a finite number"
            raise InputError(f"sweep: column '{column}', row {row + 1}: {values[row]}, must be {wanted}")
    repeated = sweep.duplicated(["sigma2", "beta", "seed"])
    if repeated.any():
        row = sweep[repeated].iloc[0]
        raise InputError(
            f"sweep: sigma2={row['sigma2']}, beta={row['beta']}, seed={row['seed']:g} stands in it twice, "
            "must be one row a point"
        )


def undetermined(points: Points) -> str | None:
    """Why the points cannot hold a transition between them, or None."""
    if points.x.size < MIN_POINTS:
        return f"{points.x.size} values of beta * sigma2, needs {MIN_POINTS}"
    if points.kl.max() < theory.ACTIVE_KL:
        return f"all collapsed: KL is below {theory.ACTIVE_KL} nats at every point"
    if points.kl.min() > COLLAPSED_KL:
        return f"none collapsed: KL is above {COLLAPSED_KL} nats at every point, no point is beyond the transition"
    return None


def by_seed(sweep: pd.DataFrame, x: NDArray, column: str = "kl") -> NDArray:
    """A measured column as [seeds, x], NaN where a seed has no such point; several betas at one x are averaged."""
    table = sweep.assign(x=abscissa(numbers(sweep, "beta") * numbers(sweep, "sigma2")))
    return table.pivot_table(index="seed", columns="x", values=column).reindex(columns=x).to_numpy(dtype=float)


def abscissa(x: NDArray) -> NDArray:
    """x without the rounding of beta * sigma2, so that 1 * 0.3 and 3 * 0.1 are one place."""
    return np.array([float(f"{value:.12g}") for value in x])


def numbers(sweep: pd.DataFrame, column: str) -> NDArray:
    """A column as float64. Raises InputError when it does not hold numbers."""
    try:
        return sweep[column].to_numpy(dtype=float)
    except (TypeError, ValueError):
        raise InputError(f"sweep: column '{column}' holds {sweep[column].dtype}, must be numbers") from None
