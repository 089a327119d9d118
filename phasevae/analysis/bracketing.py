"""Bracketing: two sweeps over the same decoder variances from opposite sides, and where they disagree.

The first sweep reaches each point from the active side (schedule `anneal`). The second starts there from fresh seeds,
next to the collapsed state (`scratch`). Training is slow by 1 / |sigma2 - sigma2_c| near a transition, so the first
collapses slightly too late and the second too early: the truth lies between the two. Where they agree, both have
reached the optimum. A disagreement has two possible readings:

``slowing down``   a sweep has not relaxed: more training would bring the two together
``coexistence``    the collapsed state is stable (beta * sigma2 at or above lambda_1), yet the sweep with the larger KL
                   has an ELBO above it: two optima, a first-order transition with hysteresis
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from phasevae.analysis.kl_fit.critical_point import CriticalPoint, fit_critical_point
from phasevae.analysis.records import FittedVariance, Interval
from phasevae.analysis.sweep_table import (
    BETA_SIGMA2,
    SD_ABSOLUTE,
    SD_RELATIVE,
    abscissa_name,
    seed_means,
    spectrum_of_sweep,
)
from phasevae.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from phasevae.spectrum.spectrum import Spectrum


GAP = ("elbo", "elbo_gap", "elbo_gap_standard_error")
"""Columns that a comparison reads in addition to those of the fit."""

BEYOND = 3.0
"""Standard errors from which a difference counts: two of them would flag a point that agrees in every other sweep."""

SWEEPS = ("first", "second")


@dataclass(frozen=True)
class BracketingSweep(FittedVariance):
    """Training schedule of one of the two sweeps, and its fitted critical variance."""

    schedule: str | None  # None for a table without this column
    critical_variance: float | None
    ci95: Interval | None
    model: str | None
    n_points: int
    n_seeds: int
    reason: str | None
    advice: str | None = None  # see `CriticalPoint`


@dataclass(frozen=True)
class LargestDifference:
    """The point where the KL of the two sweeps differs most, first less second, in nats."""

    sigma2: float
    beta: float
    kl_difference: float
    kl_standard_error: float


@dataclass(frozen=True)
class BracketingSummary:
    """Critical variances of both sweeps and where they disagree; the content of bracketing.json."""

    first: BracketingSweep
    second: BracketingSweep
    predicted: float  # largest eigenvalue; an upper bound if the encoder does not see the condition
    bracket: list[float] | None  # both critical variances, ascending; None if a sweep does not determine its own
    holds_prediction: bool | None  # the predicted value lies between them, their 95 % intervals included; no bound does
    n_points: int
    n_disagree: int
    disagreement: list[list[float]]  # [lowest, highest] x of each run of neighbouring points that disagree
    readings: dict[str, int]
    largest: LargestDifference
    n_latent: int | None
    abscissa: str = BETA_SIGMA2


def compare_bracketing(first: pd.DataFrame, second: pd.DataFrame, spectrum: Spectrum) -> pd.DataFrame:
    """Compare both sweeps at each (beta, sigma2) that they share.

    The sweeps disagree where their KL differ by more than BEYOND standard errors. The standard error of KL takes the
    scatter of a sweep's seeds, but never less than that of trained networks (`sweep_table.SD_ABSOLUTE`,
    `SD_RELATIVE`): the scatter of few seeds is often too small. That of ELBO is the seeds' alone, undefined for one
    seed.

    Parameters
    ----------
    first, second
        Sweep tables.
    spectrum
        Spectrum of the data.

    Returns
    -------
    DataFrame
        The content of bracketing.csv, ascending in beta and sigma2: KL and ELBO (nats, means over seeds) and number
        of seeds of each sweep; kl_difference and elbo_difference, first less second, with standard errors; disagree;
        reading, ``agree`` or ``slowing down`` or ``coexistence``.

    Raises
    ------
    InputError
        For tables that share no point.
    """
    means = [_means(sweep).add_suffix(f"_{name}") for name, sweep in zip(SWEEPS, (first, second), strict=True)]
    both = means[0].join(means[1], how="inner").sort_index().reset_index()
    if both.empty:
        raise InputError("bracketing: the two sweeps share no value of sigma2 and beta, must be of the same grid")
    difference = both["kl_first"] - both["kl_second"]
    error = np.hypot(both["kl_error_first"], both["kl_error_second"])
    disagree = difference.abs() > BEYOND * error
    gap, gap_error = (
        np.where(difference > 0, both[f"{column}_first"], both[f"{column}_second"])
        for column in ("elbo_gap", "gap_error")
    )
    stable = both["beta"] * both["sigma2"] >= spectrum.critical_variance
    coexist = stable & (gap > BEYOND * gap_error)
    columns = {
        **{f"{key}_{name}": both[f"{key}_{name}"] for key in ("kl", "elbo", "n_seeds") for name in SWEEPS},
        "kl_difference": difference,
        "kl_standard_error": error,
        "elbo_difference": both["elbo_first"] - both["elbo_second"],
        "elbo_standard_error": np.hypot(both["elbo_error_first"], both["elbo_error_second"]),
        "disagree": disagree,
        "reading": np.where(disagree, np.where(coexist, "coexistence", "slowing down"), "agree"),
    }
    columns |= {key: first[key].iloc[0] for key in ("encoder_sees_condition",) if key in first}
    return both[["sigma2", "beta"]].assign(**columns)


def summarise_bracketing(
    table: pd.DataFrame, first: pd.DataFrame, second: pd.DataFrame, spectrum: Spectrum, n_latent: int | None = None
) -> BracketingSummary:
    """Fit the critical variance of both sweeps and summarise where they disagree.

    Parameters
    ----------
    table
        Comparison of both sweeps by `compare_bracketing`.
    first, second
        Sweep tables.
    spectrum
        Spectrum of the data.
    n_latent
        Number of latents of the networks.
    """
    fits = [fit_critical_point(sweep, spectrum, n_latent) for sweep in (first, second)]
    values = [fit.determined for fit in fits]
    predicted, is_bound = spectrum.critical_variance, spectrum_of_sweep(spectrum, first).is_bound
    worst = table.loc[table["kl_difference"].abs().idxmax()]
    return BracketingSummary(
        *(_summary(fit, sweep) for fit, sweep in zip(fits, (first, second), strict=True)),
        predicted=predicted,
        bracket=None if None in values else sorted(values),
        holds_prediction=None if None in values or is_bound else _holds(fits, predicted),
        n_points=len(table),
        n_disagree=int(table["disagree"].sum()),
        disagreement=_runs(table),
        readings=table["reading"].value_counts().sort_index().to_dict(),
        largest=LargestDifference(
            *(float(worst[key]) for key in ("sigma2", "beta", "kl_difference", "kl_standard_error"))
        ),
        n_latent=n_latent,
        abscissa=abscissa_name(first),
    )


def _means(sweep: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds and their standard errors, indexed by beta and sigma2."""
    scatter = SD_ABSOLUTE + SD_RELATIVE * sweep["kl"].abs()
    gap_variance = sweep["elbo_gap_standard_error"].fillna(0.0) ** 2
    means = seed_means(
        sweep.assign(scatter=scatter, gap_variance=gap_variance),
        ["kl", "elbo", "elbo_gap", "scatter", "gap_variance"],
        by=("beta", "sigma2"),
    )
    mean, std = (means.xs(statistic, axis=1, level=1) for statistic in ("mean", "std"))
    n = means["kl", "count"]
    return mean[["kl", "elbo", "elbo_gap"]].assign(
        n_seeds=n,
        kl_error=std["kl"].fillna(0.0).clip(lower=mean["scatter"]) / np.sqrt(n),
        elbo_error=std["elbo"] / np.sqrt(n),
        # The seeds share the data, so the error over rows does not average out.
        gap_error=np.sqrt(mean["gap_variance"]),
    )


def _summary(fit: CriticalPoint, sweep: pd.DataFrame) -> BracketingSweep:
    schedule = str(sweep["schedule"].iloc[0]) if "schedule" in sweep.columns else None
    fitted = (fit.critical_variance, fit.ci95, fit.model)
    return BracketingSweep(schedule, *fitted, fit.n_points, fit.n_seeds, fit.reason, fit.advice)


def _holds(fits: list[CriticalPoint], predicted: float) -> bool:
    """Whether `predicted` lies between the fits' critical variances, or in one of their intervals."""
    low, high = (
        [edge for edge in edges if edge is not None] for edges in zip(*(fit.ci95 for fit in fits), strict=True)
    )
    above = len(low) < len(fits) or predicted >= min(low)
    return above and (len(high) < len(fits) or predicted <= max(high))


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
