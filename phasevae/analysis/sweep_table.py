"""From a sweep table to points: checks, means over seeds, and the error that each mean is taken to have."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from phasevae.errors import InputError
from phasevae.theory.ppca import ACTIVE_KL

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Points:
    """Measured KL, one entry an abscissa: x = beta * sigma2 ascending, KL in nats, weights 1 / sd and the number of
    trained models behind each, all of shape [n]."""

    x: NDArray
    kl: NDArray
    weight: NDArray
    count: NDArray

    def select(self, keep: NDArray) -> Points:
        """The points at a boolean mask."""
        return Points(self.x[keep], self.kl[keep], self.weight[keep], self.count[keep])

    def above(self, lower: float) -> Points:
        """The points with x >= lower."""
        return self.select(self.x >= lower)

    def with_kl(self, kl: NDArray) -> Points:
        """Other measured values at the same abscissae and weights."""
        return replace(self, kl=kl)


COLUMNS = ("sigma2", "beta", "seed", "kl", "active_dims")
"""Columns of the sweep table that every fit reads."""

IDENTITY = ("sigma2", "beta", "seed")
"""Columns that name a point."""

LARGEST = 1e100
"""Larger numbers, and decoder variances below its inverse, are no measurements: their squares are beyond a float."""

NEGATIVE_KL = -0.2
"""KL in nats is never negative; simulated noise may take it a little below zero, not this far."""

RANGES = {
    "sigma2": (1 / LARGEST, LARGEST, f"a positive number up to {LARGEST:g}"),
    "beta": (1 / LARGEST, LARGEST, f"a positive number up to {LARGEST:g}"),
    "kl": (NEGATIVE_KL, LARGEST, f"a finite number from {NEGATIVE_KL} to {LARGEST:g}"),
    "elbo_gap_standard_error": (0.0, LARGEST, f"a finite number from 0 to {LARGEST:g}"),
    "mean_eigenvalue": (-1e-3, LARGEST, f"a finite number from 0 to {LARGEST:g}"),
}
"""Lowest and highest number that a column may hold, and how that is put; rounding may pass 0."""

COLLAPSED_KL = 5e-3
"""A sweep whose KL stays above this many nats at every point has no collapsed point (2.5 times the error of one)."""

ACTIVE_AGAIN = 0.02
"""A sweep that has collapsed somewhere and ends with more nats of KL than this is no sweep through a transition."""

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
    check_table(sweep, COLUMNS)
    x = abscissa(sweep)
    distinct, inverse, count = np.unique(x, return_inverse=True, return_counts=True)
    mean = np.bincount(inverse, column_values(sweep, "kl")) / count
    return weighted(Points(distinct, mean, np.ones_like(mean), count))


def weighted(points: Points, critical: float | None = None) -> Points:
    """The points with weights 1 / sd; near a `critical` point that is known roughly, with the error of slow
    relaxation as well."""
    variance = (SD_ABSOLUTE + SD_RELATIVE * np.abs(points.kl)) ** 2 / points.count
    if critical is not None:
        variance += (SD_CRITICAL / (1 + (np.log(points.x / critical) / CRITICAL_WIDTH) ** 2)) ** 2
    return Points(points.x, points.kl, variance**-0.5, points.count)


def check_table(
    table: pd.DataFrame, columns: tuple[str, ...], name: str = "sweep", rows: tuple[str, ...] | None = ()
) -> None:
    """Raise InputError unless the table has rows, the columns with numbers that can be, and each row once.

    name: what messages call the table. rows: columns that tell the rows of one point apart; None if they may repeat.
    """
    for column in columns:
        if column not in table.columns:
            raise InputError(f"{name}: column '{column}' is missing (found: {', '.join(map(str, table.columns))})")
    if table.empty:
        raise InputError(f"{name}: has no rows")
    for column in columns:
        values = column_values(table, column, name)
        low, high, wanted = RANGES.get(column, (-LARGEST, LARGEST, "a finite number"))
        bad = ~((values >= low) & (values <= high))
        if bad.any():
            row = int(np.argmax(bad))
            raise InputError(f"{name}: column '{column}', row {row + 1}: {values[row]}, must be {wanted}")
    if rows is None:
        return
    keys = [*IDENTITY, *rows]
    repeated = table.duplicated(keys)
    if repeated.any():
        row = table[repeated].iloc[0]
        place = ", ".join(f"{key}={row[key]}" if key in ("sigma2", "beta") else f"{key}={row[key]:g}" for key in keys)
        raise InputError(f"{name}: {place} stands in it twice, must be one row a {'point' if not rows else rows[-1]}")


def check_belongs(table: pd.DataFrame, name: str, sweep: pd.DataFrame) -> None:
    """Raise InputError for a point of another table of the sweep (dimensions, histories) that the sweep has not."""
    if not set(IDENTITY) <= set(table.columns) & set(sweep.columns):
        return
    known, points = (
        dict.fromkeys(zip(*(column_values(of, column, called).tolist() for column in IDENTITY), strict=True))
        for of, called in ((sweep, "sweep"), (table, name))
    )
    for point in points:
        if point not in known:
            place = ", ".join(f"{key}={value:g}" for key, value in zip(IDENTITY, point, strict=True))
            raise InputError(f"{name}: {place} is no point of the sweep, must be a table of the same sweep")


def undetermined(points: Points) -> str | None:
    """Why the points cannot hold a transition between them, or None."""
    if points.x.size < MIN_POINTS:
        return f"{points.x.size} values of beta * sigma2, needs {MIN_POINTS}"
    if points.kl.max() < ACTIVE_KL:
        return f"all collapsed: KL is below {ACTIVE_KL} nats at every point"
    if points.kl.min() > COLLAPSED_KL:
        return f"none collapsed: KL is above {COLLAPSED_KL} nats at every point, no point is beyond the transition"
    if points.kl[-1] > ACTIVE_AGAIN:
        return f"KL is {points.kl[-1]:.3g} nats at the largest beta * sigma2, though it is collapsed at smaller ones"
    return None


def by_seed(sweep: pd.DataFrame, x: NDArray, column: str = "kl") -> NDArray:
    """A measured column as [seeds, x], NaN where a seed has no such point; several betas at one x are averaged."""
    table = sweep.assign(x=abscissa(sweep))
    return table.pivot_table(index="seed", columns="x", values=column).reindex(columns=x).to_numpy(dtype=float)


def abscissa(table: pd.DataFrame) -> NDArray:
    """x = beta * sigma2 of each row, [rows], without the rounding of the product: 1 * 0.3 and 3 * 0.1 are one place."""
    product = column_values(table, "beta") * column_values(table, "sigma2")
    return np.array([float(f"{x:.12g}") for x in product])


def column_values(table: pd.DataFrame, column: str, name: str = "sweep") -> NDArray:
    """A column as float64. Raises InputError, by the table's `name`, when it does not hold numbers."""
    try:
        return table[column].to_numpy(dtype=float)
    except (TypeError, ValueError):
        raise InputError(f"{name}: column '{column}' holds {table[column].dtype}, must be numbers") from None


def seed_means(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """Columns x = beta * sigma2, mean, min, max and count over seeds of one measured column, ascending in x."""
    grouped = table.assign(x=abscissa(table)).groupby("x")[column]
    return grouped.agg(["mean", "min", "max", "count"]).reset_index()
