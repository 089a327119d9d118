"""From a sweep table to points: means over seeds, and the error that each mean is taken to have."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from phasevae.errors import InputError
from phasevae.wording import counted

if TYPE_CHECKING:
    import pandas as pd

    from phasevae.spectrum.spectrum import Spectrum


BETA, BETA_SIGMA2 = "beta", "beta * sigma2"
"""Names of the abscissa."""


@dataclass(frozen=True)
class SweptQuantity:
    """The quantity that the user of a sweep has varied: its name, and what a value of 1 is in x = beta * sigma2."""

    name: str = BETA_SIGMA2
    unit: float = 1.0

    def at(self, x: float, digits: int = 6) -> str:
        """Return an abscissa as a value of this quantity, with some significant digits."""
        return f"{x / self.unit:.{digits}g}"

    def counted(self, n: int) -> str:
        """Return a number of values of this quantity as text: 1 value of sigma2, 3 values of sigma2."""
        return counted(n, f"value of {self.name}", f"values of {self.name}")

    @property
    def is_column(self) -> bool:
        """Whether it is a column of the table or their product, and no quantity that the user has named."""
        return self.name in ("sigma2", BETA, BETA_SIGMA2)


@dataclass(frozen=True)
class Points:
    """Measured KL at each x = beta * sigma2, ascending: KL in nats, weights 1 / (standard error) and the number of
    trained models behind each mean, all of shape [n]. Advice is given in the quantity that was varied."""

    x: NDArray
    kl: NDArray
    weight: NDArray
    count: NDArray
    swept: SweptQuantity = SweptQuantity()

    def select(self, keep: NDArray) -> Points:
        """Return the points at a boolean mask."""
        return replace(self, x=self.x[keep], kl=self.kl[keep], weight=self.weight[keep], count=self.count[keep])

    def above(self, lower: float) -> Points:
        """Return the points with x >= lower."""
        return self.select(self.x >= lower)

    def with_kl(self, kl: NDArray) -> Points:
        """Return other measured values at the same abscissae and weights."""
        return replace(self, kl=kl)


IDENTITY = ("sigma2", "beta", "seed")
"""Columns that identify a point."""

COLLAPSED_KL = 5e-3
"""A sweep whose KL exceeds this many nats everywhere has no collapsed point (2.5 times the error of such a point)."""

ACTIVE_AGAIN = 0.02
"""A sweep with a collapsed point must not end with more nats of KL than this: it would not cross the transition."""

SD_ABSOLUTE, SD_RELATIVE = 2e-3, 1e-2
"""Scatter of one trained network about the optimum, SD_ABSOLUTE + SD_RELATIVE KL nats; a mean over seeds has less."""

SD_CRITICAL, CRITICAL_WIDTH = 4e-3, 0.03
"""Error that all seeds share near the transition, SD_CRITICAL / (1 + (ln(x / c) / CRITICAL_WIDTH)^2) nats: relaxation
slows down as 1 / |x - c|, so networks keep less KL than they should just below and more just above."""

MIN_POINTS = 4


def seed_means(table: pd.DataFrame, columns: Iterable[str], by: Iterable[str] = ("x",)) -> pd.DataFrame:
    """Average measured columns over the seeds.

    Parameters
    ----------
    table
        One row per trained model, with columns sigma2 and beta.
    columns
        Columns to average.
    by
        Columns that the averaged rows share; ``x`` is beta * sigma2.

    Returns
    -------
    DataFrame
        Indexed by `by`, ascending, with columns (measured column, statistic); the statistics are ``mean``, ``std``
        (undefined for one seed), ``min``, ``max`` and ``count``.
    """
    groups = table.assign(x=abscissa(table)).groupby(list(by))
    means = groups[list(columns)].agg(["mean", "std", "min", "max", "count"])
    for column in columns:
        # A plain sum: the compensated sum of pandas differs in the last digit, which decides ties in the fits.
        total = np.bincount(groups.ngroup(), table[column].fillna(0.0))
        count = means[column, "count"]
        means[column, "mean"] = total / count.where(count > 0)
    return means


def level_1(table: pd.DataFrame) -> pd.DataFrame:
    """Return the part of a hierarchy's table that is an ordinary sweep: level 1, at the top level's largest weight.

    Where level 1 has a larger weight than that, it is left out, because a learned posterior variance then grows without
    bound. Tables of other sweeps are returned as they are.
    """
    if "beta_top" not in table:
        return table
    table = table[table["beta_top"] == table["beta_top"].max()]
    if "level" in table:
        table = table[table["level"] == 1]
    bounded = table["beta"] <= table["beta_top"]
    return table[bounded if bounded.any() else ~bounded].reset_index(drop=True)


def spectrum_of_sweep(spectrum: Spectrum | None, table: pd.DataFrame) -> Spectrum | None:
    """Return the spectrum of a sweep's data as what it predicts for this sweep.

    The thresholds of an encoder that does not see the condition are known in closed form for linear encoders alone,
    which are a lower bound. Those of an encoder that sees it, which are the eigenvalues, are an upper one, and the
    spectrum that is returned says so.

    Parameters
    ----------
    spectrum
        Spectrum of the data.
    table
        Any table of the sweep.
    """
    if spectrum is None or "encoder_sees_condition" not in table or table["encoder_sees_condition"].all():
        return spectrum
    classes = (replace(each, spectrum=replace(each.spectrum, is_bound=True)) for each in spectrum.conditions)
    return replace(spectrum, conditions=tuple(classes), is_bound=True)


def fixed_variance(sweep: pd.DataFrame) -> float | None:
    """Return the fixed posterior variance of level 1 in a hierarchy's sweep; None if it is learned."""
    values = sweep["posterior_variance"].dropna() if "posterior_variance" in sweep else ()
    return float(values.iloc[0]) if len(values) else None


def sweep_points(sweep: pd.DataFrame, swept: SweptQuantity | None = None) -> Points:
    """Average the KL of a sweep over seeds and weight it by the scatter of trained networks.

    Parameters
    ----------
    sweep
        Sweep table.
    swept
        The quantity that was varied; by default the column that varies.
    """
    means = seed_means(sweep, ["kl"])["kl"]
    x, kl, count = means.index.to_numpy(), means["mean"].to_numpy(), means["count"].to_numpy()
    return weighted(Points(x, kl, np.ones_like(kl), count, swept or swept_quantity(sweep)))


def weighted(points: Points, critical: float | None = None) -> Points:
    """Return the points with weights 1 / (standard error).

    Parameters
    ----------
    points
        Means over seeds.
    critical
        Rough critical point; if given, the errors include that of slow relaxation near it.
    """
    variance = (SD_ABSOLUTE + SD_RELATIVE * np.abs(points.kl)) ** 2 / points.count
    if critical is not None:
        variance += (SD_CRITICAL / (1 + (np.log(points.x / critical) / CRITICAL_WIDTH) ** 2)) ** 2
    return replace(points, weight=variance**-0.5)


def of_condition(dimensions: pd.DataFrame, value: str = "") -> pd.DataFrame:
    """Return the rows of a dimensions table for one class of a condition; by default those of all rows together."""
    if "condition" not in dimensions:
        return dimensions
    return dimensions[dimensions["condition"] == value].drop(columns="condition")


def check_belongs(table: pd.DataFrame, name: str, sweep: pd.DataFrame) -> None:
    """Raise InputError if another table of the sweep (dimensions, histories) has a point that the sweep lacks."""
    known, points = (dict.fromkeys(rows[[*IDENTITY]].itertuples(index=False, name=None)) for rows in (sweep, table))
    for point in points:
        if point not in known:
            place = ", ".join(f"{key}={value:g}" for key, value in zip(IDENTITY, point, strict=True))
            raise InputError(f"{name}: {place} is not a point of the sweep, must be a table of the same sweep")


def kl_by_seed(sweep: pd.DataFrame, x: NDArray) -> NDArray:
    """Return the KL of each seed at the abscissae `x` [n], shape [seeds, n]: NaN where a seed has no point, the mean
    where several betas give one x."""
    table = seed_means(sweep, ["kl"], by=("seed", "x"))["kl"]["mean"].unstack("x")
    return table.reindex(columns=x).to_numpy(dtype=float)


def abscissa(table: pd.DataFrame) -> NDArray:
    """Return x = beta * sigma2 of each row, [rows], without the rounding of the product: 1 * 0.3 equals 3 * 0.1."""
    product = table["beta"].to_numpy(float) * table["sigma2"].to_numpy(float)
    return np.array([float(f"{x:.12g}") for x in product])


def over_beta(table: pd.DataFrame) -> bool:
    """Whether the table is of a sweep over the weight of KL at a decoder variance of 1.

    All sweeps of likelihoods other than the Gaussian one are.
    """
    return bool((table["sigma2"] == 1).all() and (table["beta"] != 1).any())


def abscissa_name(table: pd.DataFrame) -> str:
    """Name of the abscissa of a sweep: "beta", or "beta * sigma2"."""
    return BETA if over_beta(table) else BETA_SIGMA2


def swept_quantity(table: pd.DataFrame) -> SweptQuantity:
    """Return which quantity a sweep varies: the decoder variance, the weight of KL, or their product if both vary."""
    if over_beta(table):
        return SweptQuantity(BETA)
    for name, other in (("sigma2", BETA), (BETA, "sigma2")):
        if table[other].nunique() == 1:
            return SweptQuantity(name, float(table[other].iloc[0]))
    return SweptQuantity()
