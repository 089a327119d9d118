"""Counts with a Poisson decoder of log rates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy import special

from phasevae.datasets.base import SampleStream
from phasevae.datasets.feature_statistics import FeatureStatistics
from phasevae.likelihoods.base import check_counts, known_features, require_scores, with_loss
from phasevae.likelihoods.featurewise import FeaturewiseFit, FeaturewiseLikelihood


@dataclass(frozen=True)
class Poisson(FeaturewiseLikelihood):
    """Counts. A feature without counts has the log rate minus infinity and is left out."""

    name: ClassVar[str] = "poisson"
    formula: ClassVar[str] = "Poisson(x; exp f)"
    meaning: ClassVar[str] = "eigenvalues of the covariance, in units of the mean of each feature"
    output_names: ClassVar[tuple[str, ...]] = ("log_rate",)

    def fit(self, rows: SampleStream, features: FeatureStatistics | None = None) -> FeaturewiseFit:
        features = known_features(rows, features)
        check_counts(rows)
        require_scores(features.constant, rows.label)
        with np.errstate(divide="ignore"):
            log_rate = np.log(features.mean)
        fitted = FeaturewiseFit(
            likelihood=self,
            outputs={"log_rate": log_rate},
            constants={},
            constant=features.constant,
            n_scores=rows.dimension,
            blocks=features.mean[:, None, None],
            used=~features.constant[None],
        )
        return with_loss(fitted, rows)

    def summed(self, fitted: FeaturewiseFit, x: NDArray) -> NDArray:
        rate = np.exp(fitted.outputs["log_rate"])
        return (rate - special.xlogy(x, rate) + special.gammaln(x + 1)).sum(1)

    def output_scores(self, fitted: FeaturewiseFit, x: NDArray) -> NDArray:
        return (x - np.exp(fitted.outputs["log_rate"]))[:, None]
