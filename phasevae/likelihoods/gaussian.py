"""Gaussian decoders: a fixed variance, and a variance that the decoder gives too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from phasevae.datasets.base import SampleStream
from phasevae.datasets.feature_statistics import FeatureStatistics
from phasevae.likelihoods.base import check_positive, known_features, require_scores, with_loss
from phasevae.likelihoods.featurewise import FeaturewiseFit, FeaturewiseLikelihood

_LOG_2PI = np.log(2 * np.pi)


@dataclass(frozen=True)
class Gaussian(FeaturewiseLikelihood):
    """A Gaussian of fixed variance. Its criterion is the covariance in units of this variance."""

    sigma2: float = 1.0  # squared units of the data

    name: ClassVar[str] = "gaussian"
    formula: ClassVar[str] = "Gaussian(x; f, sigma2)"
    meaning: ClassVar[str] = "eigenvalues of the covariance, in units of sigma2"
    output_names: ClassVar[tuple[str, ...]] = ("mean",)

    def check(self) -> None:
        check_positive("sigma2", self.sigma2)

    def fit(self, rows: SampleStream, features: FeatureStatistics | None = None) -> FeaturewiseFit:
        features = known_features(rows, features)
        require_scores(features.constant, rows.label)
        fitted = FeaturewiseFit(
            likelihood=self,
            outputs={"mean": features.mean},
            constants={},
            constant=features.constant,
            n_scores=rows.dimension,
            blocks=np.full((rows.dimension, 1, 1), 1 / self.sigma2),
            used=~features.constant[None],
        )
        return with_loss(fitted, rows)

    def summed(self, fitted: FeaturewiseFit, x: NDArray) -> NDArray:
        squares = np.square(x - fitted.outputs["mean"]).sum(1)
        return 0.5 * (squares / self.sigma2 + x.shape[1] * (_LOG_2PI + np.log(self.sigma2)))

    def output_scores(self, fitted: FeaturewiseFit, x: NDArray) -> NDArray:
        return (x - fitted.outputs["mean"])[:, None] / self.sigma2


@dataclass(frozen=True)
class GaussianVariance(FeaturewiseLikelihood):
    """A Gaussian whose mean and log variance are both outputs of the decoder.

    The scores of the whitened variances are ((x - m)^2 / v - 1) / sqrt 2, so skewness couples the two. Constant
    features are left out: their likelihood has no bound.
    """

    name: ClassVar[str] = "gaussian-variance"
    formula: ClassVar[str] = "Gaussian(x; f1, exp f2)"
    meaning: ClassVar[str] = "eigenvalues of the correlation of the features and of their squares"
    output_names: ClassVar[tuple[str, ...]] = ("mean", "log_variance")

    def fit(self, rows: SampleStream, features: FeatureStatistics | None = None) -> FeaturewiseFit:
        features = known_features(rows, features)
        require_scores(features.constant, rows.label)
        variance = np.where(features.constant, 0.0, variances(rows, features))
        blocks = np.zeros((rows.dimension, 2, 2))
        blocks[:, 0, 0] = 1 / np.where(features.constant, 1, variance)
        blocks[:, 1, 1] = 0.5
        with np.errstate(divide="ignore"):
            outputs = {"mean": features.mean, "log_variance": np.log(variance)}
        fitted = FeaturewiseFit(
            likelihood=self,
            outputs=outputs,
            constants={},
            constant=features.constant,
            n_scores=2 * rows.dimension,
            blocks=blocks,
            used=np.tile(~features.constant, (2, 1)),
        )
        return with_loss(fitted, rows)

    def summed(self, fitted: FeaturewiseFit, x: NDArray) -> NDArray:
        squares = np.square(self._standardized(fitted, x))
        log_variance = fitted.outputs["log_variance"][~fitted.constant]
        return 0.5 * (squares.sum(1) + (_LOG_2PI + log_variance).sum())

    def output_scores(self, fitted: FeaturewiseFit, x: NDArray) -> NDArray:
        y = self._standardized(fitted, x)
        return np.stack([y / self._deviation(fitted), 0.5 * (np.square(y) - 1)], 1)

    def _standardized(self, fitted: FeaturewiseFit, x: NDArray) -> NDArray:
        return np.where(fitted.constant, 0, (x - fitted.outputs["mean"]) / self._deviation(fitted))

    def _deviation(self, fitted: FeaturewiseFit) -> NDArray:
        return np.exp(0.5 * np.where(fitted.constant, 0, fitted.outputs["log_variance"]))


def variances(rows: SampleStream, features: FeatureStatistics) -> NDArray:
    """Return the variance (1/N) of each feature, [D], from one pass over the rows."""
    total = np.zeros(rows.dimension)
    for block in rows.read():
        centred = block - features.origin
        centred -= features.shift
        total += np.einsum("bd,bd->d", centred, centred)
    return total / features.n_samples
