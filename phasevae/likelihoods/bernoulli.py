"""Cross entropy of values within 0 and 1: a Bernoulli decoder of logits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy import special

from phasevae.datasets.base import SampleStream
from phasevae.datasets.feature_statistics import FeatureStatistics
from phasevae.errors import InputError
from phasevae.likelihoods.base import known_features, require_scores, with_loss
from phasevae.likelihoods.featurewise import FeaturewiseFit, FeaturewiseLikelihood


@dataclass(frozen=True)
class Bernoulli(FeaturewiseLikelihood):
    """Cross entropy of values within 0 and 1."""

    name: ClassVar[str] = "bernoulli"
    formula: ClassVar[str] = "Bernoulli(x; sigmoid f)"
    meaning: ClassVar[str] = "eigenvalues of the covariance, in units of m (1 - m) of each feature"
    output_names: ClassVar[tuple[str, ...]] = ("logit",)

    def fit(self, rows: SampleStream, features: FeatureStatistics | None = None) -> FeaturewiseFit:
        features = known_features(rows, features)
        _check_within_0_and_1(features, rows.label)
        require_scores(features.constant, rows.label)
        mean = np.clip(features.mean, 0, 1)
        fitted = FeaturewiseFit(
            likelihood=self,
            outputs={"logit": special.logit(mean)},
            constants={},
            constant=features.constant,
            n_scores=rows.dimension,
            blocks=(mean * (1 - mean))[:, None, None],
            used=~features.constant[None],
        )
        return with_loss(fitted, rows)

    def summed(self, fitted: FeaturewiseFit, x: NDArray) -> NDArray:
        logit = fitted.outputs["logit"]
        # Of two complementary probabilities the smaller one keeps its digits.
        chance, other = special.expit(logit), special.expit(-logit)
        return -(special.xlogy(x, chance) + special.xlogy(1 - x, other)).sum(1)

    def output_scores(self, fitted: FeaturewiseFit, x: NDArray) -> NDArray:
        return (x - special.expit(fitted.outputs["logit"]))[:, None]


def _check_within_0_and_1(features: FeatureStatistics, label: str) -> None:
    for value, column in (
        (features.low.min(), features.low.argmin()),
        (features.high.max(), features.high.argmax()),
    ):
        if not 0 <= value <= 1:
            raise InputError(f"{label}: value {value:g} in column {column} (counted from 0), must be within 0 and 1")
