"""Two passes over the same decoder variances, and where they disagree.

One pass reaches each point from the active side (schedule `anneal`), the other starts at it from fresh seeds, next to
the collapsed state (`scratch`). Training is slow by 1 / |sigma2 - sigma2_c| near a transition, so the first
collapses slightly too late and the second too early: the truth lies between the two. Where they agree, both have
found the optimum that there is; where they do not, one reading is at work:

``slowing down``   one of them has not relaxed: more training would bring them together
``coexistence``    the collapsed state is stable (beta * sigma2 at or above lambda_1), yet the pass with the larger KL
                   has an ELBO above it: two optima, a first-order transition with hysteresis
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from phasevae.analysis.kl_fit.critical_point import fit_critical_point
from phasevae.analysis.sweep_table import SD_ABSOLUTE, SD_RELATIVE, checked_points
from phasevae.errors import InputError

if TYPE_CHECKING:
    import pandas as pd


AT = ["beta", "sigma2"]
GAP = ("elbo", "elbo_gap", "elbo_gap_standard_error")
"""Columns that a comparison reads beside those of the fit."""

BEYOND = 3.0
"""Standard errors from which a difference counts: two of them would flag a point that agrees in every other sweep."""

PASSES = ("first", "second")


def compare_passes(first: pd.DataFrame, second: pd.DataFrame, spectrum: Mapping[str, Any]) -> pd.DataFrame:
    """Both passes at each (beta, sigma2) that they share, ascending in beta and sigma2; the content of bracketing.csv.

    `first` and `second` are sweep tables, `spectrum` the content of spectrum.json. Columns: sigma2, beta; KL and ELBO
    (nats, means over seeds) and the number of seeds of each pass; kl_difference and elbo_difference, first less
    second, with standard errors; disagree; reading (``agree`` or one of the two above).

    The standard error of KL takes the scatter of a pass's seeds, but never less than trained networks scatter by
    (`measured.SD_ABSOLUTE`, `SD_RELATIVE`): of few seeds the own scatter is often too small, of one there is none.
    That of ELBO is the seeds' alone, undefined for a single one. Passes disagree when their KL differ by more than
    BEYOND standard errors. Raises InputError for tables that `critical.fit` refuses or that share no point.
    """
    means = []
    for name, sweep in zip(PASSES, (first, second), strict=True):
        _check(name, sweep)
        means.append(_seed_means(sweep).add_suffix(f"_{name}"))
    both = means[0].join(means[1], how="inner").sort_index().reset_index()
    if both.empty:
        raise InputError("bracketing: the two sweeps share no value of sigma2 and beta, must be of the same grid")
    difference = both["kl_first"] - both["kl_second"]
    error = np.hypot(both["kl_error_first"], both["kl_error_second"])
    disagree = difference.abs() > BEYOND * error
    active = np.where(difference > 0, "first", "second")
    gap, gap_error = (
        np.where(active == "first", both[f"{column}_first"], both[f"{column}_second"])
        for column in ("elbo_gap", "gap_error")
    )
    stable = both["beta"] * both["sigma2"] >= _largest_eigenvalue(spectrum)
    coexist = stable & (gap > BEYOND * gap_error)
    columns = {
        "sigma2": both["sigma2"],
        "beta": both["beta"],
        **{f"{key}_{name}": both[f"{key}_{name}"] for key in ("kl", "elbo", "n_seeds") for name in PASSES},
        "kl_difference": difference,
        "kl_standard_error": error,
        "elbo_difference": both["elbo_first"] - both["elbo_second"],
        "elbo_standard_error": np.hypot(both["elbo_error_first"], both["elbo_error_second"]),
        "disagree": disagree,
        "reading": np.where(disagree, np.where(coexist, "coexistence", "slowing down"), "agree"),
    }
    return both.iloc[:, :0].assign(**columns)


def summarise_passes(
    table: pd.DataFrame,
    first: pd.DataFrame,
    second: pd.DataFrame,
    spectrum: Mapping[str, Any],
    n_latent: int | None = None,
) -> dict[str, Any]:
    """Critical variances of both passes and where they disagree; the content of bracketing.json.

    `table` is what `compare` made of the others; each pass is fitted by `critical.fit`. ``bracket`` holds the two
    critical variances in ascending order (None when a pass has none); ``holds_prediction`` says whether the predicted
    one lies between them, their 95 % intervals included. ``disagreement`` lists runs of neighbouring points that
    disagree, as [lowest, highest] beta * sigma2.
    """
    fits = {
        name: fit_critical_point(sweep, spectrum, n_latent) for name, sweep in zip(PASSES, (first, second), strict=True)
    }
    kept = ("critical_variance", "ci95", "model", "n_points", "n_seeds", "reason")
    values = [fit["critical_variance"] for fit in fits.values()]
    bracket = None if None in values else sorted(values)
    predicted = _largest_eigenvalue(spectrum)
    worst = table.loc[table["kl_difference"].abs().idxmax()]
    return {
        **{
            name: {"schedule": _schedule(sweep)} | {key: fits[name][key] for key in kept}
            for name, sweep in zip(PASSES, (first, second), strict=True)
        },
        "predicted": predicted,
        "bracket": bracket,
        "holds_prediction": None if bracket is None else _holds(fits, predicted),
        "n_points": len(table),
        "n_disagree": int(table["disagree"].sum()),
        "disagreement": _runs(table),
        "readings": table["reading"].value_counts().sort_index().to_dict(),
        "largest": {key: float(worst[key]) for key in ("sigma2", "beta", "kl_difference", "kl_standard_error")},
        "n_latent": n_latent,
        "abscissa": "beta * sigma2",
    }


def _check(name: str, sweep: pd.DataFrame) -> None:
    try:
        checked_points(sweep)
        for column in GAP:
            if column not in sweep.columns:
                raise InputError(f"sweep: column '{column}' is missing (found: {', '.join(map(str, sweep.columns))})")
    except InputError as error:
        raise InputError(f"{name} pass: {error}") from None


def _seed_means(sweep: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds and their standard errors, indexed by beta and sigma2."""
    scatter = SD_ABSOLUTE + SD_RELATIVE * sweep["kl"].abs()
    gap_variance = sweep["elbo_gap_standard_error"].fillna(0.0) ** 2
    groups = sweep.assign(scatter=scatter, gap_variance=gap_variance).groupby(AT)
    n = groups.size()
    found = groups[["kl", "elbo", "elbo_gap"]].mean()
    kl_sd = groups["kl"].std().fillna(0.0).clip(lower=groups["scatter"].mean())
    return found.assign(
        n_seeds=n,
        kl_error=kl_sd / np.sqrt(n),
        elbo_error=groups["elbo"].std() / np.sqrt(n),
        # Of one point: how well a finite data set tells its gap; seeds share the data, so it does not average out.
        gap_error=np.sqrt(groups["gap_variance"].mean()),
    )


def _largest_eigenvalue(spectrum: Mapping[str, Any]) -> float:
    if "eigenvalues" not in spectrum:
        raise InputError("spectrum: key 'eigenvalues' is missing")
    return float(spectrum["eigenvalues"][0])


def _schedule(sweep: pd.DataFrame) -> str | None:
    """The one training schedule of a sweep, where its table tells."""
    return str(sweep["schedule"].iloc[0]) if "schedule" in sweep.columns else None


def _holds(fits: Mapping[str, Mapping[str, Any]], predicted: float) -> bool:
    """Whether `predicted` lies between the fits' critical variances, or in one of their intervals."""
    edges = [edge for fit in fits.values() for edge in fit["ci95"]]
    low = [edge for edge in edges[::2] if edge is not None]
    high = [edge for edge in edges[1::2] if edge is not None]
    above = len(low) < len(PASSES) or predicted >= min(low)
    return above and (len(high) < len(PASSES) or predicted <= max(high))


def _runs(table: pd.DataFrame) -> list[list[float]]:
    """[lowest, highest] abscissa of each run of disagreeing points, over all betas together."""
    points = sorted(zip((table["beta"] * table["sigma2"]).tolist(), table["disagree"].tolist(), strict=True))
    runs: list[list[float]] = []
    previous = False
    for x, disagree in points:
        if disagree and previous:
            runs[-1][1] = x
        elif disagree:
            runs.append([x, x])
        previous = disagree
    return runs
