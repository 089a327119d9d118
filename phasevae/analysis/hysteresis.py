"""Abrupt collapse: what the data's moments foretell, and what a sweep upwards from an active model shows.

Skewness k3 and excess kurtosis k4 along the first component make the transition one of first order: the active state
survives above lambda_1 with an ELBO above the collapsed one's (Eq. 24) up to the binodal. Sweeps downwards mislead, as
collapsed networks may never become active again, so the evidence is a sweep upwards beside freshly trained models.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from phasevae.analysis.sweep_table import abscissa, check_table
from phasevae.errors import InputError
from phasevae.spectrum.variance_proxy import COEXISTENCE_RATIO

if TYPE_CHECKING:
    import pandas as pd


COLUMNS = ("sigma2", "beta", "seed", "kl", "elbo_gap", "elbo_gap_standard_error")
BRANCHES = ("up", "fresh")
BEYOND = 1.02
"""An active state counts as hysteresis from this part of lambda_1 on: closer, slow relaxation leaves some KL."""

SIGMAS = 3.0
ACTIVE = 0.02
"""KL in nats above which the upper branch is still there."""


def predicted_hysteresis(spectrum: Mapping[str, Any] | None) -> dict[str, Any]:
    """Predict from the data alone: {critical_variance, variance_proxy, variance_proxy_ratio, coexistence_possible,
    skewness, excess_kurtosis, binodal_ratio {value, ci95, reason}}; moments are those of the first component."""
    if spectrum is None:
        return {"reason": "no spectrum is given"}
    critical = float(spectrum["eigenvalues"][0])
    variance_proxy = spectrum.get("variance_proxy")
    ratio = None if variance_proxy is None else float(variance_proxy) / critical
    skewness, kurtosis = ((spectrum.get(key) or [None])[0] for key in ("skewness", "excess_kurtosis"))
    return {
        "critical_variance": critical,
        "variance_proxy": variance_proxy,
        "variance_proxy_ratio": ratio,
        "coexistence_possible": None if ratio is None else ratio > COEXISTENCE_RATIO,
        "skewness": skewness,
        "excess_kurtosis": kurtosis,
        "binodal_ratio": binodal_ratio(skewness, kurtosis, spectrum.get("n_samples")),
        "reason": None,
    }


def binodal_ratio(skewness: float | None, kurtosis: float | None, n_samples: int | None) -> dict[str, Any]:
    """Binodal over lambda_1 to leading order in the skewness, 1 / (1 - k3^2 / (9 (1 - k4 / 2 - 3 k3^2 / 4))).

    The interval takes the moments' errors as those of Gaussian samples. Valid for |k3| < 0.5 and a positive bracket;
    elsewhere {value: None} with the reason. Without skewness, k4 > 2 makes the transition abrupt too.
    """
    if skewness is None or kurtosis is None:
        return {"value": None, "ci95": None, "reason": "no moments"}
    if abs(skewness) >= 0.5 or _bracket(skewness, kurtosis) <= 0:
        reason = (
            "outside the expansion (|skewness| < 0.5 and a positive bracket): the transition may be far from lambda_1"
        )
        return {"value": None, "ci95": None, "reason": reason}
    drawn = np.random.default_rng(0).normal(size=(2, 2000))
    k3 = skewness + drawn[0] * np.sqrt(6 / (n_samples or np.inf))
    k4 = kurtosis + drawn[1] * np.sqrt(24 / (n_samples or np.inf))
    low, high = np.quantile(_ratio(k3, k4), [0.025, 0.975])
    return {"value": float(_ratio(skewness, kurtosis)), "ci95": [float(low), float(high)], "reason": None}


def branch_means(table: pd.DataFrame) -> dict[str, dict[str, NDArray]]:
    """Seed means of each branch of hysteresis.csv: {up, fresh: {x, gap, error, kl, n}}.

    gap is the ELBO less that of the collapsed state (Eq. 24); its error joins the one over rows, which the models of a
    sweep share, and the scatter of the seeds. Raises InputError for other branches and for unusable numbers.
    """
    if "branch" not in table:
        raise InputError(f"hysteresis: column 'branch' is missing (found: {', '.join(map(str, table.columns))})")
    unknown = set(table["branch"]) - set(BRANCHES)
    if unknown:
        raise InputError(f"hysteresis: branch '{sorted(unknown)[0]}', must be one of {', '.join(BRANCHES)}")
    found = {}
    for name in BRANCHES:
        rows = table[table["branch"] == name]
        if rows.empty:
            continue
        check_table(rows, COLUMNS, "hysteresis")
        x = abscissa(rows)
        groups = rows.assign(x=x).groupby("x")
        count = groups.size().to_numpy()
        scatter = groups["elbo_gap"].std(ddof=1).fillna(0.0).to_numpy()
        shared = np.sqrt(groups["elbo_gap_standard_error"].apply(lambda e: np.mean(np.square(e))).to_numpy())
        found[name] = {
            "x": groups["kl"].mean().index.to_numpy(),
            "gap": groups["elbo_gap"].mean().to_numpy(),
            "error": np.sqrt(shared**2 + scatter**2 / count),
            "kl": groups["kl"].mean().to_numpy(),
            "n": count,
        }
    return found


def measured_hysteresis(table: pd.DataFrame, critical_variance: float) -> dict[str, Any]:
    """What the upper branch shows: {hysteresis, beyond, binodal {value, ci95}, branch_lost, coexistence, order,
    reason}.

    hysteresis: whether an active model has an ELBO above Eq. 24 by SIGMAS standard errors beyond BEYOND times the
    critical variance; beyond: those x; binodal: where the active branch's ELBO crosses the collapsed one's, with the
    crossings of its 95 % band, at most the first x without the branch; branch_lost: the last x with the branch and
    the next one; coexistence: x at which fresh models are collapsed and the upper branch is active. The order is 1
    with hysteresis, else None: no hysteresis found is no proof of a continuous transition.
    """
    found = branch_means(table)
    empty = {"hysteresis": None, "beyond": [], "binodal": None, "branch_lost": None, "coexistence": [], "order": None}
    if "up" not in found:
        return empty | {"reason": "no upward sweep"}
    up = found["up"]
    if up["x"].max() <= BEYOND * critical_variance:
        return empty | {"reason": f"the upward sweep ends at {up['x'].max():.6g}, below {BEYOND} lambda_1"}
    active = up["kl"] > ACTIVE
    if not active.any():
        return empty | {"reason": "the upward sweep begins with collapsed models"}
    beyond = (up["x"] > BEYOND * critical_variance) & active & (up["gap"] > SIGMAS * up["error"])
    last = int(np.flatnonzero(active)[-1])
    following = float(up["x"][last + 1]) if last + 1 < up["x"].size else None
    result = {
        "hysteresis": bool(beyond.any()),
        "beyond": up["x"][beyond].tolist(),
        "binodal": _crossing(up, active, following) if beyond.any() else None,
        "branch_lost": [float(up["x"][last]), following],
        "coexistence": [],
        "order": 1 if beyond.any() else None,
        "reason": None,
    }
    if "fresh" in found:
        fresh = found["fresh"]
        collapsed = set(fresh["x"][fresh["kl"] <= ACTIVE].tolist())
        result["coexistence"] = [x for x in up["x"][active].tolist() if x in collapsed]
    return result


def _crossing(up: Mapping[str, NDArray], active: NDArray, following: float | None) -> dict[str, Any]:
    """Where the gap of the active branch falls through zero, and where its 95 % band does; None where it does not.
    The band may stay open to the end of the branch: it then ends at `following`, the first x without the branch."""
    x, gap, error = (up[key][active] for key in ("x", "gap", "error"))

    def zero(values: NDArray) -> float | None:
        falls = np.flatnonzero((values[:-1] > 0) & (values[1:] <= 0))
        if not falls.size:
            return None
        i = int(falls[-1])
        return float(x[i] + (x[i + 1] - x[i]) * values[i] / (values[i] - values[i + 1]))

    high = zero(gap + 1.96 * error)
    return {"value": zero(gap), "ci95": [zero(gap - 1.96 * error), following if high is None else high]}


def _bracket(k3: Any, k4: Any) -> Any:
    return 1 - k4 / 2 - 0.75 * np.square(k3)


def _ratio(k3: Any, k4: Any) -> Any:
    return 1 / (1 - np.square(k3) / (9 * _bracket(k3, k4)))
