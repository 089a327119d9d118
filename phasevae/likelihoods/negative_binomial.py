"""Counts with a negative binomial decoder of log means, with size factors and normalised rates as in scvi-tools."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy import special

from phasevae.datasets.base import SampleStream, checked_choice, checked_flag
from phasevae.datasets.feature_statistics import FeatureStatistics
from phasevae.errors import InputError
from phasevae.likelihoods.base import check_positive_or_fit, known_features, require_scores, with_loss
from phasevae.likelihoods.count_objective import CountObjective
from phasevae.likelihoods.counts import LAST_COLUMN, NONE, SIZE_FACTORS, TOTAL, CountSummary, SizeFactors, summarise
from phasevae.likelihoods.featurewise import FeaturewiseFit, FeaturewiseLikelihood
from phasevae.likelihoods.newton import minimise
from phasevae.likelihoods.normalised import minimise_normalised

LARGEST_DISPERSION = 1e6
"""The inverse dispersion r of features that vary no more than Poisson counts do."""

_SMALLEST_DISPERSION = 1e-8

LEAST_DROPOUT, MOST_DROPOUT = -10.0, 20.0
"""Bounds of the dropout logit. At the lower one a feature has no dropout."""


@dataclass(frozen=True)
class NegativeBinomial(FeaturewiseLikelihood):
    """Counts that vary more than Poisson's: mean l m and variance l m + (l m)^2 / r, with the size factor l of a row.

    The inverse dispersion r of each feature is global: it keeps its collapsed optimum.
    """

    dispersion: float | str = "fit"
    """r of all features, or "fit": that of the largest likelihood for each feature."""
    size_factors: str = NONE
    """"none"; "total": the sum of a row, relative to its mean; "last-column": the last column of the rows."""
    normalised: bool = False
    """Whether the means are a softmax over features times the size factor; with "total", times the sum of the row."""

    name: ClassVar[str] = "negative-binomial"
    formula: ClassVar[str] = "NB(x; mean l exp f, inverse dispersion r)"
    meaning: ClassVar[str] = "eigenvalues of the covariance, in units of about m + m^2 / r of each feature"
    output_names: ClassVar[tuple[str, ...]] = ("log_mean",)

    def check(self) -> None:
        check_positive_or_fit("dispersion", self.dispersion)
        checked_choice("size_factors", self.size_factors, SIZE_FACTORS)
        if checked_flag("normalised", self.normalised) and self.size_factors == NONE:
            raise InputError("normalised: True, must be false without size factors")

    def fit(self, rows: SampleStream, features: FeatureStatistics | None = None) -> FeaturewiseFit:
        features = known_features(rows, features)
        dimension = rows.dimension - (self.size_factors == LAST_COLUMN)
        present = features.high[:dimension] > 0
        constant = features.constant[:dimension] if self.size_factors == NONE else ~present
        require_scores(constant, rows.label)
        mean_total = float(features.mean.sum()) if self.size_factors == TOTAL else 1.0
        columns = np.flatnonzero(present)
        summary = summarise(rows, SizeFactors(self.size_factors, mean_total), columns)
        optimum = self._optimum(summary, mean_total if self.normalised else None)
        k = len(self.output_names)
        outputs = np.full((k, dimension), -np.inf)
        outputs[:, present] = optimum.theta[:k]
        used, blocks = np.zeros((k, dimension), dtype=bool), np.zeros((dimension, k, k))
        used[:, present] = ~optimum.bound[:k] & ~constant[present]
        blocks[present] = optimum.hessian[:, :k, :k]
        dispersion = np.full(dimension, LARGEST_DISPERSION)
        dispersion[present] = optimum.dispersion
        fitted = FeaturewiseFit(
            likelihood=self,
            outputs=dict(zip(self.output_names, outputs, strict=True)),
            constants={"dispersion": dispersion},
            constant=constant,
            n_scores=k * dimension,
            blocks=blocks,
            used=used,
            shares=np.exp(outputs[0]) / mean_total if self.normalised else None,
            mean_total=mean_total,
        )
        return with_loss(fitted, rows)

    def summed(self, fitted: FeaturewiseFit, x: NDArray) -> NDArray:
        x, size = self._split(fitted, x)
        return self._elements(fitted, x, size).sum(1)

    def output_scores(self, fitted: FeaturewiseFit, x: NDArray) -> NDArray:
        x, size = self._split(fitted, x)
        b, r = self._success(fitted, size), fitted.constants["dispersion"]
        return (x - b * (x + r))[:, None]

    def _split(self, fitted: FeaturewiseFit, x: NDArray) -> tuple[NDArray, NDArray]:
        return SizeFactors(self.size_factors, fitted.mean_total).split(x)

    def _success(self, fitted: FeaturewiseFit, size: NDArray) -> NDArray:
        """Return l m / (l m + r), [B, D]."""
        ratio = size * (np.exp(fitted.outputs["log_mean"]) / fitted.constants["dispersion"])
        return ratio / (1 + ratio)

    def _elements(self, fitted: FeaturewiseFit, x: NDArray, size: NDArray) -> NDArray:
        """Return the negative log likelihood of each count, [B, D]."""
        r = fitted.constants["dispersion"]
        mean = size * np.exp(fitted.outputs["log_mean"])
        combinations = special.gammaln(x + r) - special.gammaln(r) - special.gammaln(x + 1)
        return (x + r) * np.log1p(mean / r) - special.xlogy(x, mean / r) - combinations

    def _optimum(self, summary: CountSummary, total: float | None) -> CountOptimum:
        objective, start = without_dropout(summary, self.dispersion)
        return solved(objective, start, total, self.name)


@dataclass(frozen=True)
class CountOptimum:
    """Parameters of the features that have counts, at the optimum."""

    theta: NDArray  # [k, D] log mean, dropout logit and log inverse dispersion, as far as they are parameters
    hessian: NDArray  # [D, k, k]
    bound: NDArray[np.bool_]  # [k, D] parameters that are held at a bound
    dispersion: NDArray  # [D]


def without_dropout(summary: CountSummary, dispersion: float | str) -> tuple[CountObjective, NDArray]:
    """Return the objective without dropout and where to start: at moment estimates."""
    sizes, squared_sizes = summary.size_sums
    mean = summary.total / sizes
    if dispersion != "fit":
        fixed = np.full(mean.size, float(dispersion))
        return CountObjective(summary, dropout=False, dispersion=fixed), np.log(mean)[None]
    excess = summary.squares - 2 * mean * summary.products + mean**2 * squared_sizes - summary.total
    over = excess > 1e-10 * summary.squares
    moment = np.where(over, mean**2 * squared_sizes / np.where(over, excess, 1), LARGEST_DISPERSION)
    r = np.clip(moment, _SMALLEST_DISPERSION, LARGEST_DISPERSION)
    return CountObjective(summary, dropout=False), np.log(np.stack([mean, r]))


def solved(objective: CountObjective, start: NDArray, total: float | None, name: str) -> CountOptimum:
    """Minimise with groups of rows of similar size factors first, then, unless groups will do, with all rows.

    With `total`, the means add up to it.
    """
    given = [True, objective.dropout, objective.dispersion is None]
    low = np.array([-np.inf, LEAST_DROPOUT, np.log(_SMALLEST_DISPERSION)])[given]
    high = np.array([np.inf, MOST_DROPOUT, np.log(LARGEST_DISPERSION)])[given]
    what = f"{objective.summary.rows.label}: {name}"
    stages = [replace(objective, grouped=True)]
    if not (objective.grouped or objective.summary.groups_are_exact):
        stages.append(objective)
    theta, pressure = start, 0.0
    for stage in stages:
        # Also with a given sum of the means, most features converge alone, in passes over fewer and fewer of them.
        pushed = replace(stage, pressure=pressure)
        theta, hessian, bound = minimise(pushed, theta, low, high, what)
        if total is not None:
            theta, hessian, bound, pressure = minimise_normalised(pushed, theta, low, high, total, what)
    hessian = objective.by_log_mean(theta, hessian)
    theta[0] = objective.log_mean(theta)
    fixed = objective.dispersion
    return CountOptimum(theta, hessian, bound, np.exp(theta[-1]) if fixed is None else fixed)
