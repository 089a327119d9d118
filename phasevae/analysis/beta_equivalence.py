"""beta equivalence: the optimum depends on beta * sigma2 alone.

So a sweep over beta at fixed sigma2 and one over sigma2 at fixed beta are one curve of KL, and so are sweeps over
sigma2 at different beta.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from phasevae.analysis.kl_fit.profile_likelihood import LEVEL
from phasevae.analysis.sweep_table import COLUMNS, SD_ABSOLUTE, SD_RELATIVE, abscissa, check_table

if TYPE_CHECKING:
    import pandas as pd


MIN_COMMON = 3


@dataclass(frozen=True)
class Curve:
    """Seed means of KL (nats) against x = beta * sigma2, ascending; `fixed` ("beta" or "sigma2") has one `value`."""

    fixed: str
    value: float
    x: NDArray
    kl: NDArray


def fixed_parameter_curves(sweep: pd.DataFrame) -> list[Curve]:
    """The sweeps in a table: one for each beta with MIN_COMMON values of sigma2 or more, and of the other points one
    for each sigma2 with as many values of beta. Raises InputError for a table that no fit could read."""
    check_table(sweep, COLUMNS)
    rest = sweep.assign(x=abscissa(sweep))
    found = []
    for fixed in ("beta", "sigma2"):
        long = rest.groupby(fixed)["x"].transform("nunique") >= MIN_COMMON
        for value, rows in rest[long].groupby(fixed):
            means = rows.groupby("x")["kl"].mean()
            found.append(Curve(fixed, float(value), means.index.to_numpy(), means.to_numpy()))
        rest = rest[~long]
    return found


def compare_sweeps(sweep: pd.DataFrame) -> dict[str, Any] | None:
    """Do the sweeps in a table agree in KL(beta * sigma2)? None for a table of one beta.

    The longest is the reference: its seed means, interpolated linearly in ln x, are compared with the points of the
    others that lie between its own. Returns {reference: {fixed, value}, sweeps: [{fixed, value, n_points,
    mean_difference, ci95, largest_difference, agrees}], agrees, reason}: differences in nats, the interval of their
    mean by the t distribution over points but never narrower than the scatter of trained networks allows; a sweep
    agrees when that interval holds zero. `agrees` is None where no sweep shares MIN_COMMON points with the reference.
    """
    if sweep["beta"].nunique() < 2:
        return None
    found = fixed_parameter_curves(sweep)
    none = f"no two sweeps share {MIN_COMMON} points of beta * sigma2"
    if not found:
        return {"reference": None, "sweeps": [], "agrees": None, "reason": none}
    reference = max(found, key=lambda curve: curve.x.size)
    compared = []
    for curve in found:
        inside = (curve.x >= reference.x[0]) & (curve.x <= reference.x[-1])
        if curve is not reference and inside.sum() >= MIN_COMMON:
            expected = np.interp(np.log(curve.x[inside]), np.log(reference.x), reference.kl)
            compared.append(_name(curve) | _agreement(curve.kl[inside], expected))
    agrees = all(item["agrees"] for item in compared) if compared else None
    return {
        "reference": _name(reference),
        "sweeps": compared,
        "agrees": agrees,
        "reason": None if compared else none,
    }


def _name(curve: Curve) -> dict[str, Any]:
    return {"fixed": curve.fixed, "value": curve.value}


def _agreement(kl: NDArray, expected: NDArray) -> dict[str, Any]:
    from scipy.stats import t

    difference = kl - expected
    known = np.sqrt(2 * np.mean((SD_ABSOLUTE + SD_RELATIVE * expected) ** 2))
    half = t.ppf((1 + LEVEL) / 2, kl.size - 1) * max(difference.std(ddof=1), known) / np.sqrt(kl.size)
    mean = float(difference.mean())
    return {
        "n_points": int(kl.size),
        "mean_difference": mean,
        "ci95": [mean - float(half), mean + float(half)],
        "largest_difference": float(np.abs(difference).max()),
        "agrees": bool(abs(mean) <= half),
    }
