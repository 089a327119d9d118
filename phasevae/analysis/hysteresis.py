"""Abrupt collapse: what the data's moments predict, and what a sweep upwards from an active model shows.

Skewness k3 and excess kurtosis k4 along the first component make the transition one of first order: the active state
survives above lambda_1, with an ELBO above the collapsed state's (Eq. 24) up to the binodal. Sweeps downwards mislead,
as collapsed networks may never become active again. The evidence is therefore a sweep upwards, next to freshly trained
models.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from phasevae.analysis.records import Estimate
from phasevae.analysis.sweep_table import SweptQuantity, seed_means, swept_quantity
from phasevae.spectrum.variance_proxy import COEXISTENCE_RATIO

if TYPE_CHECKING:
    import pandas as pd

    from phasevae.spectrum.spectrum import Spectrum


BRANCHES = ("up", "fresh")
BEYOND = 1.02
"""An active state counts as hysteresis from this part of lambda_1 on: closer, slow relaxation leaves some KL."""

SIGMAS = 3.0
ACTIVE = 0.02
"""A model with more KL than this, in nats, is active."""


@dataclass(frozen=True)
class Branch:
    """Seed means of one branch of hysteresis.csv against x = beta * sigma2.

    The error of the gap joins the error over rows, which the models of a sweep share, and the scatter of the seeds.
    """

    x: NDArray
    kl: NDArray  # nats
    gap: NDArray  # ELBO less that of the collapsed state (Eq. 24), nats
    error: NDArray


@dataclass(frozen=True)
class BinodalRatio(Estimate):
    """Binodal over lambda_1; None with the reason where the expansion does not hold."""

    reason: str | None = None


@dataclass(frozen=True)
class PredictedHysteresis:
    """What the spectrum predicts; the moments are those of the first component."""

    critical_variance: float | None = None
    variance_proxy: float | None = None
    variance_proxy_ratio: float | None = None  # over the critical variance
    coexistence_possible: bool | None = None
    skewness: float | None = None
    excess_kurtosis: float | None = None
    binodal_ratio: BinodalRatio | None = None
    reason: str | None = None


@dataclass(frozen=True)
class MeasuredHysteresis:
    """What the upward sweep shows; places are values of beta * sigma2.

    The order is 1 with hysteresis, else None: a sweep without hysteresis does not prove a continuous transition.
    """

    hysteresis: bool | None = None
    beyond: list[float] = field(default_factory=list)  # where the ELBO is surely above that of the collapsed state
    binodal: Estimate | None = None  # where the two ELBOs are equal
    branch_lost: list[float | None] | None = None  # last place with the active branch, and the next place
    coexistence: list[float] = field(default_factory=list)  # where upward models are active, fresh ones collapsed
    order: int | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Hysteresis:
    """Predicted and measured hysteresis."""

    predicted: PredictedHysteresis
    measured: MeasuredHysteresis | None
    reason: str | None


def fit_hysteresis(
    spectrum: Spectrum | None, upward: pd.DataFrame | None, swept: SweptQuantity | None = None
) -> Hysteresis:
    """Predict hysteresis from the spectrum and, if there is an upward sweep, measure it.

    Parameters
    ----------
    spectrum
        Spectrum of the data.
    upward
        Content of hysteresis.csv.
    swept
        See `measured_hysteresis`.
    """
    predicted = predicted_hysteresis(spectrum)
    if upward is None or spectrum is None:
        missing = "no hysteresis.csv is given" if spectrum is not None else "no spectrum is given"
        return Hysteresis(predicted, None, missing)
    measured = measured_hysteresis(upward, spectrum.critical_variance, swept)
    return Hysteresis(predicted, measured, measured.reason)


def predicted_hysteresis(spectrum: Spectrum | None) -> PredictedHysteresis:
    """Predict from the data alone whether an active state can survive above lambda_1, and up to where."""
    if spectrum is None:
        return PredictedHysteresis(reason="no spectrum is given")
    if spectrum.is_bound:
        return PredictedHysteresis(reason="the encoder does not see the condition")
    critical, proxy, leading = spectrum.critical_variance, spectrum.variance_proxy, spectrum.leading
    ratio = None if proxy is None else float(proxy) / critical
    moments = float(leading.skewness[0]), float(leading.excess_kurtosis[0])
    skewness, kurtosis = (None if np.isnan(value) else value for value in moments)
    return PredictedHysteresis(
        critical_variance=critical,
        variance_proxy=proxy,
        variance_proxy_ratio=ratio,
        coexistence_possible=None if ratio is None else ratio > COEXISTENCE_RATIO,
        skewness=skewness,
        excess_kurtosis=kurtosis,
        binodal_ratio=binodal_ratio(skewness, kurtosis, leading.n_samples),
    )


def binodal_ratio(skewness: float | None, kurtosis: float | None, n_samples: int) -> BinodalRatio:
    """Predict the binodal over lambda_1 to leading order in the skewness, 1 / (1 - k3^2 / (9 (1 - k4/2 - 3 k3^2/4))).

    The expansion holds for |k3| < 0.5 and a positive bracket. Without skewness, k4 > 2 makes the transition
    abrupt too.

    Parameters
    ----------
    skewness
        k3 along the first component; None if undefined.
    kurtosis
        Excess kurtosis k4 along it.
    n_samples
        Number of samples; the interval takes the moments' errors as those of as many Gaussian samples.
    """
    if skewness is None or kurtosis is None:
        return BinodalRatio(reason="no moments")
    if abs(skewness) >= 0.5 or _bracket(skewness, kurtosis) <= 0:
        return BinodalRatio(
            reason="outside the expansion (|skewness| < 0.5 and a positive bracket): the transition may be far from "
            "lambda_1"
        )
    drawn = np.random.default_rng(0).normal(size=(2, 2000))
    k3 = skewness + drawn[0] * np.sqrt(6 / n_samples)
    k4 = kurtosis + drawn[1] * np.sqrt(24 / n_samples)
    ci95 = np.quantile(_ratio(k3, k4), [0.025, 0.975]).tolist()
    return BinodalRatio(float(_ratio(skewness, kurtosis)), ci95)


def branch_means(table: pd.DataFrame) -> dict[str, Branch]:
    """Return the seed means of each branch of hysteresis.csv, ``up`` and ``fresh``."""
    branches = {}
    for name in BRANCHES:
        rows = table[table["branch"] == name]
        if rows.empty:
            continue
        squared = np.square(rows["elbo_gap_standard_error"])
        means = seed_means(rows.assign(squared=squared), ["kl", "elbo_gap", "squared"])
        kl, gap, shared = (means[column, "mean"].to_numpy() for column in ("kl", "elbo_gap", "squared"))
        scatter = means["elbo_gap", "std"].fillna(0.0).to_numpy()
        error = np.sqrt(shared + scatter**2 / means["kl", "count"].to_numpy())
        branches[name] = Branch(means.index.to_numpy(), kl, gap, error)
    return branches


def measured_hysteresis(
    table: pd.DataFrame, critical_variance: float, swept: SweptQuantity | None = None
) -> MeasuredHysteresis:
    """Test whether active models survive above the transition.

    There is hysteresis if, beyond BEYOND times the critical variance, an active model has an ELBO above Eq. 24 by
    SIGMAS standard errors. The interval of the binodal has the crossings of the 95 % band of the ELBO gap as its
    edges, the upper edge at most the first x without the branch.

    Parameters
    ----------
    table
        Content of hysteresis.csv.
    critical_variance
        The largest eigenvalue lambda_1 of the data.
    swept
        The quantity that was varied, for the reason; by default the column that varies.
    """
    branches = branch_means(table)
    if "up" not in branches:
        return MeasuredHysteresis(reason="no upward sweep")
    up = branches["up"]
    if up.x.max() <= BEYOND * critical_variance:
        swept = swept or swept_quantity(table)
        end = f"{swept.name} = {swept.at(up.x.max())}"
        return MeasuredHysteresis(reason=f"the upward sweep ends at {end}, below {BEYOND} lambda_1")
    active = up.kl > ACTIVE
    if not active.any():
        return MeasuredHysteresis(reason="the upward sweep begins with collapsed models")
    beyond = (up.x > BEYOND * critical_variance) & active & (up.gap > SIGMAS * up.error)
    last = int(np.flatnonzero(active)[-1])
    following = float(up.x[last + 1]) if last + 1 < up.x.size else None
    fresh = branches.get("fresh")
    collapsed = set() if fresh is None else set(fresh.x[fresh.kl <= ACTIVE].tolist())
    return MeasuredHysteresis(
        hysteresis=bool(beyond.any()),
        beyond=up.x[beyond].tolist(),
        binodal=_crossing(up, active, following) if beyond.any() else None,
        branch_lost=[float(up.x[last]), following],
        coexistence=[x for x in up.x[active].tolist() if x in collapsed],
        order=1 if beyond.any() else None,
    )


def _crossing(up: Branch, active: NDArray, following: float | None) -> Estimate:
    """Where the gap of the active branch falls through zero, and where its 95 % band does; None where it does not.
    A band that stays open to the end of the branch ends at `following`, the first x without the branch."""
    x, gap, error = up.x[active], up.gap[active], up.error[active]

    def zero(values: NDArray) -> float | None:
        falls = np.flatnonzero((values[:-1] > 0) & (values[1:] <= 0))
        if not falls.size:
            return None
        i = int(falls[-1])
        return float(x[i] + (x[i + 1] - x[i]) * values[i] / (values[i] - values[i + 1]))

    high = zero(gap + 1.96 * error)
    return Estimate(zero(gap), [zero(gap - 1.96 * error), following if high is None else high])


def _bracket(k3: Any, k4: Any) -> Any:
    return 1 - k4 / 2 - 0.75 * np.square(k3)


def _ratio(k3: Any, k4: Any) -> Any:
    return 1 / (1 - np.square(k3) / (9 * _bracket(k3, k4)))
