"""beta equivalence: the optimum depends on beta * sigma2 alone.

A sweep over beta at fixed sigma2 and a sweep over sigma2 at fixed beta therefore give the same curve of KL, and so do
sweeps over sigma2 at different beta.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from phasevae.analysis.kl_fit.profile_likelihood import LEVEL
from phasevae.analysis.records import Interval
from phasevae.analysis.sweep_table import (
    SD_ABSOLUTE,
    SD_RELATIVE,
    SweptQuantity,
    abscissa,
    seed_means,
)

if TYPE_CHECKING:
    import pandas as pd


MIN_COMMON = 3


@dataclass(frozen=True)
class FixedParameter:
    """What a sweep keeps fixed: ``beta`` or ``sigma2``, and its value."""

    fixed: str
    value: float


@dataclass(frozen=True)
class Curve(FixedParameter):
    """Seed means of KL (nats) of one sweep against x = beta * sigma2, ascending."""

    x: NDArray
    kl: NDArray


@dataclass(frozen=True)
class Comparison(FixedParameter):
    """A sweep against the reference at their `n_points` common points: differences of KL in nats."""

    n_points: int
    mean_difference: float
    ci95: Interval  # of the mean
    largest_difference: float
    agrees: bool  # the interval holds zero


@dataclass(frozen=True)
class BetaEquivalence:
    """Whether all sweeps of a table give one curve KL(beta * sigma2); `agrees` is None, with the reason, if no sweep
    shares MIN_COMMON points with the reference."""

    reference: FixedParameter | None
    sweeps: list[Comparison]
    agrees: bool | None
    reason: str | None


def fixed_parameter_curves(sweep: pd.DataFrame) -> list[Curve]:
    """Return the sweeps in a table: a curve for each beta with MIN_COMMON values of sigma2 or more, and of the other
    points a curve for each sigma2 with as many values of beta."""
    rest = sweep.assign(x=abscissa(sweep))
    curves = []
    for fixed in ("beta", "sigma2"):
        long = rest.groupby(fixed)["x"].transform("nunique") >= MIN_COMMON
        for value, rows in rest[long].groupby(fixed):
            means = seed_means(rows, ["kl"])["kl"]["mean"]
            curves.append(Curve(fixed, float(value), means.index.to_numpy(), means.to_numpy()))
        rest = rest[~long]
    return curves


def compare_sweeps(sweep: pd.DataFrame, swept: SweptQuantity = SweptQuantity()) -> BetaEquivalence | None:
    """Test whether the sweeps in a table agree in KL(beta * sigma2). None for a table of one beta.

    The longest sweep is the reference: its seed means, interpolated linearly in ln x, are compared with the points of
    the other sweeps that lie between its own. The interval of the mean difference is that of the t distribution over
    points, but never narrower than the scatter of trained networks.

    Parameters
    ----------
    sweep
        Sweep table.
    swept
        The quantity that was varied, for the reason.
    """
    if sweep["beta"].nunique() < 2:
        return None
    curves = fixed_parameter_curves(sweep)
    reason = f"no two sweeps share {swept.counted(MIN_COMMON)}"
    if not curves:
        return BetaEquivalence(None, [], None, reason)
    reference = max(curves, key=lambda curve: curve.x.size)
    compared = []
    for curve in curves:
        inside = (curve.x >= reference.x[0]) & (curve.x <= reference.x[-1])
        if curve is not reference and inside.sum() >= MIN_COMMON:
            expected = np.interp(np.log(curve.x[inside]), np.log(reference.x), reference.kl)
            compared.append(_compare(curve, curve.kl[inside], expected))
    agrees = all(item.agrees for item in compared) if compared else None
    fixed = FixedParameter(reference.fixed, reference.value)
    return BetaEquivalence(fixed, compared, agrees, None if compared else reason)


def _compare(curve: Curve, kl: NDArray, expected: NDArray) -> Comparison:
    from scipy.stats import t

    difference = kl - expected
    known = np.sqrt(2 * np.mean((SD_ABSOLUTE + SD_RELATIVE * expected) ** 2))
    half = t.ppf((1 + LEVEL) / 2, kl.size - 1) * max(difference.std(ddof=1), known) / np.sqrt(kl.size)
    mean = float(difference.mean())
    return Comparison(
        curve.fixed,
        curve.value,
        n_points=int(kl.size),
        mean_difference=mean,
        ci95=[mean - float(half), mean + float(half)],
        largest_difference=float(np.abs(difference).max()),
        agrees=bool(abs(mean) <= half),
    )
