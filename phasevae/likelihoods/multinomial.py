"""Rows of counts with a multinomial decoder of logits. The number of counts may vary by row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy import special

from phasevae.datasets.base import SampleStream
from phasevae.datasets.feature_statistics import FeatureStatistics
from phasevae.likelihoods.base import (
    FittedLikelihood,
    Likelihood,
    check_counts,
    known_features,
    require_scores,
    with_loss,
)


@dataclass(frozen=True)
class Multinomial(Likelihood):
    """The counts of a row, given their sum."""

    name: ClassVar[str] = "multinomial"
    formula: ClassVar[str] = "Multinomial(x; N = sum of x, softmax f)"
    meaning: ClassVar[str] = "eigenvalues of the covariance of x - N pi, in units of E[N] pi of each feature"

    def fit(self, rows: SampleStream, features: FeatureStatistics | None = None) -> MultinomialFit:
        features = known_features(rows, features)
        check_counts(rows)
        absent = features.high == 0
        require_scores(absent, rows.label)
        total = features.mean.sum()
        with np.errstate(divide="ignore"):
            logits = np.log(features.mean / total)
        fitted = MultinomialFit(
            likelihood=self,
            outputs={"logits": logits},
            constants={},
            constant=absent,
            n_scores=rows.dimension,
            mean_total=float(total),
        )
        return with_loss(fitted, rows)


@dataclass(frozen=True, kw_only=True)
class MultinomialFit(FittedLikelihood):
    """The constant decoder of counts. Its curvature is E[N] (diag(pi) - pi pi^T).

    Scores sum to zero over the features. On such vectors diag(1 / pi) is a generalised inverse of diag(pi) - pi pi^T.
    Whitening is therefore a division by sqrt(E[N] pi).
    """

    mean_total: float  # E[N]

    @property
    def shares(self) -> NDArray:
        return np.exp(self.outputs["logits"])

    def negative_log_likelihood(self, x: NDArray) -> NDArray:
        inner = special.gammaln(x + 1) - special.xlogy(x, self.shares)
        return inner.sum(1) - special.gammaln(x.sum(1) + 1)

    def scores(self, x: NDArray) -> NDArray:
        return np.where(self.constant, 0, x - np.outer(x.sum(1), self.shares))

    def whitened_scores(self, x: NDArray) -> NDArray:
        return self.scores(x) / np.sqrt(self.mean_total * np.where(self.constant, 1, self.shares))

    def curvature(self) -> NDArray:
        return self.mean_total * (np.diag(self.shares) - np.outer(self.shares, self.shares))
