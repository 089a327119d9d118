"""beta equivalence: the optimum depends on beta * sigma2 alone, so sweeps at different beta are one curve of KL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from phasevae.analysis.measured import COLUMNS, SD_ABSOLUTE, SD_RELATIVE, abscissa, check, numbers
from phasevae.analysis.profiles import LEVEL

if TYPE_CHECKING:
    import pandas as pd

MIN_COMMON = 3


def compare(sweep: pd.DataFrame) -> dict[str, Any] | None:
    """Do the sweeps of a table at different beta agree in KL(beta * sigma2)? None for a table of one beta.

    The beta with the most points is the reference: its seed means, interpolated linearly in ln x, are compared with the
    points of the others that lie between its own. Returns {reference, betas: [{beta, n_points, mean_difference, ci95,
    largest_difference, agrees}], agrees, reason}: differences in nats, the interval of their mean by the t
    distribution over points but never narrower than the scatter of trained networks allows; a beta agrees when that
    interval holds zero. `agrees` is None where no other beta shares MIN_COMMON points.
    """
    check(sweep, COLUMNS)
    table = sweep.assign(x=abscissa(numbers(sweep, "beta") * numbers(sweep, "sigma2")))
    means = table.groupby(["beta", "x"])["kl"].agg(["mean", "count"]).reset_index()
    sizes = means.groupby("beta").size()
    if len(sizes) < 2:
        return None
    reference = float(sizes.idxmax())
    curve = means[means["beta"] == reference]
    found = []
    for beta, rows in means[means["beta"] != reference].groupby("beta"):
        inside = rows[(rows["x"] >= curve["x"].min()) & (rows["x"] <= curve["x"].max())]
        if len(inside) >= MIN_COMMON:
            expected = np.interp(np.log(inside["x"]), np.log(curve["x"]), curve["mean"])
            found.append({"beta": float(beta), **_agreement(inside["mean"].to_numpy(), expected)})
    reason = None if found else f"no two betas share {MIN_COMMON} points of beta * sigma2"
    agrees = all(item["agrees"] for item in found) if found else None
    return {"reference": reference, "betas": found, "agrees": agrees, "reason": reason}


def _agreement(kl: np.ndarray, expected: np.ndarray) -> dict[str, Any]:
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
