"""Counts with a zero-inflated negative binomial decoder of log means and dropout logits."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy import special

from phasevae.likelihoods.count_objective import CountObjective
from phasevae.likelihoods.counts import CountSummary
from phasevae.likelihoods.featurewise import FeaturewiseFit
from phasevae.likelihoods.negative_binomial import (
    LEAST_DROPOUT,
    CountOptimum,
    NegativeBinomial,
    solved,
    without_dropout,
)

_FIRST_DROPOUT = -3.0


@dataclass(frozen=True)
class ZeroInflatedNegativeBinomial(NegativeBinomial):
    """A count is zero with the chance sigmoid(f2), and negative binomial otherwise.

    Where the likelihood prefers no dropout, the dropout logit is -10 and carries no score.
    """

    name: ClassVar[str] = "zinb"
    formula: ClassVar[str] = "ZINB(x; mean l exp f1, inverse dispersion r, dropout sigmoid f2)"
    meaning: ClassVar[str] = "eigenvalues of the covariance of the scores of mean and dropout, in units of curvature"
    output_names: ClassVar[tuple[str, ...]] = ("log_mean", "dropout_logit")

    def summed(self, fitted: FeaturewiseFit, x: NDArray) -> NDArray:
        x, size = self._split(fitted, x)
        plain = self._elements(fitted, x, size)
        logit = fitted.outputs["dropout_logit"]
        return np.where(x == 0, -np.logaddexp(logit, -plain), plain).sum(1) - special.log_expit(-logit).sum()

    def output_scores(self, fitted: FeaturewiseFit, x: NDArray) -> NDArray:
        x, size = self._split(fitted, x)
        b, r = self._success(fitted, size), fitted.constants["dispersion"]
        logit = fitted.outputs["dropout_logit"]
        # The chance that a zero is a dropout.
        dropped = np.where(x == 0, special.expit(logit - r * np.log1p(-b)), 0)
        return np.stack([x - b * (x + r * (1 - dropped)), dropped - special.expit(logit)], 1)

    def _optimum(self, summary: CountSummary, total: float | None) -> CountOptimum:
        plain, start = without_dropout(summary, self.dispersion)
        start = solved(replace(plain, grouped=True), start, None, self.name).theta
        zeros = summary.grouped(np.arange(summary.columns.size))[1].sum(0)
        logit = np.where(zeros > 0, _FIRST_DROPOUT, LEAST_DROPOUT)
        objective = CountObjective(summary, dropout=True, dispersion=plain.dispersion)
        # The first parameter is the log overall mean with dropout, and the log mean without.
        return solved(objective, np.insert(start, 1, logit, axis=0), total, self.name)
