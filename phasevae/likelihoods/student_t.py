"""Errors with heavy tails: a Student-t decoder of locations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy import special

from phasevae.datasets.base import SampleStream
from phasevae.datasets.feature_statistics import FeatureStatistics
from phasevae.errors import InputError
from phasevae.likelihoods.base import (
    check_positive,
    check_positive_or_fit,
    known_features,
    require_scores,
    with_loss,
)
from phasevae.likelihoods.featurewise import FeaturewiseFit, FeaturewiseLikelihood
from phasevae.likelihoods.gaussian import variances
from phasevae.likelihoods.laplace import medians
from phasevae.likelihoods.newton import Objective, minimise

_SMALLEST_SCALE = 1e-6
"""In units of a feature's standard deviation. Where so many values are equal that the likelihood has no bound, the
scale falls below it."""


@dataclass(frozen=True)
class StudentT(FeaturewiseLikelihood):
    """Student's t. The scale is fixed, or that of the largest likelihood for each feature.

    Constant features with a fitted scale are left out: their likelihood has no bound.
    """

    df: float = 4.0
    scale: float | str = 1.0  # units of the data, or "fit"

    name: ClassVar[str] = "student-t"
    formula: ClassVar[str] = "Student-t(x; f, scale, df)"
    meaning: ClassVar[str] = "eigenvalues of the covariance of the bounded errors, in units of their curvature"
    output_names: ClassVar[tuple[str, ...]] = ("location",)

    def check(self) -> None:
        check_positive("df", self.df)
        check_positive_or_fit("scale", self.scale)

    def fit(self, rows: SampleStream, features: FeatureStatistics | None = None) -> FeaturewiseFit:
        features = known_features(rows, features)
        require_scores(features.constant, rows.label)
        varies = ~features.constant
        location, curvature = features.mean, np.ones(rows.dimension)
        scale = np.full(rows.dimension, 0.0 if self.scale == "fit" else self.scale)
        location[varies], scale[varies], curvature[varies] = self._optimum(rows, features)
        fitted = FeaturewiseFit(
            likelihood=self,
            outputs={"location": location},
            constants={"scale": scale},
            constant=features.constant,
            n_scores=rows.dimension,
            blocks=curvature[:, None, None],
            used=varies[None],
        )
        return with_loss(fitted, rows)

    def summed(self, fitted: FeaturewiseFit, x: NDArray) -> NDArray:
        used = fitted.constants["scale"] > 0
        scale = fitted.constants["scale"][used]
        y = (x[:, used] - fitted.outputs["location"][used]) / scale
        norm = special.gammaln(self.df / 2) - special.gammaln((self.df + 1) / 2) + 0.5 * np.log(self.df * np.pi)
        return 0.5 * (self.df + 1) * np.log1p(y * y / self.df).sum(1) + (norm + np.log(scale)).sum()

    def output_scores(self, fitted: FeaturewiseFit, x: NDArray) -> NDArray:
        scale = np.where(fitted.constants["scale"] > 0, fitted.constants["scale"], 1)
        y = (x - fitted.outputs["location"]) / scale
        return ((self.df + 1) * y / (scale * (self.df + y * y)))[:, None]

    def _optimum(self, rows: SampleStream, features: FeatureStatistics) -> tuple[NDArray, NDArray, NDArray]:
        """Return location, scale and curvature of the features that vary."""
        varies = np.flatnonzero(~features.constant)
        deviation = np.sqrt(variances(rows, features))[varies]
        centre = medians(rows, features)[varies]
        # Newton's method sees every feature in units of its own: the fixed scale, or the standard deviation.
        unit = deviation if self.scale == "fit" else np.full(varies.size, float(self.scale))
        start = np.zeros((2 if self.scale == "fit" else 1, varies.size))
        low, high = np.full(len(start), -np.inf), np.full(len(start), np.inf)
        if self.scale == "fit":
            start[1], low[1] = np.log(0.7), np.log(_SMALLEST_SCALE)
        objective = self._objective(rows, varies, centre, unit)
        theta, hessian, bound = minimise(objective, start, low, high, f"{rows.label}: {self.name}")
        if self.scale == "fit" and bound[1].any():
            raise InputError(
                f"{rows.label}: column {varies[bound[1]][0]} (counted from 0) has too many equal values for a fitted "
                f"scale, must vary more (or give the scale)"
            )
        scale = unit * np.exp(theta[1]) if self.scale == "fit" else unit
        return centre + unit * theta[0], scale, hessian[:, 0, 0] / unit**2

    def _objective(self, rows: SampleStream, varies: NDArray, centre: NDArray, unit: NDArray) -> Objective:
        """Return the mean negative log likelihood as a function of location and, if it is fitted, log scale."""
        df = self.df

        def objective(theta: NDArray, columns: NDArray) -> tuple[NDArray, NDArray, NDArray]:
            log_scale = theta[1] if len(theta) == 2 else np.zeros(columns.size)
            sums, n = np.zeros((6, columns.size)), 0
            for block in rows.read():
                y = ((block[:, varies[columns]] - centre[columns]) / unit[columns] - theta[0]) * np.exp(-log_scale)
                square = y * y
                weight = 1 / (df + square)
                terms = (np.log1p(square / df), y * weight, square * weight)
                second = (weight * (1 - 2 * square * weight), y * weight**2, square * weight**2)
                sums += [term.sum(0) for term in (*terms, *second)]
                n += len(block)
            log, first, square, slope, mixed, width = (df + 1) * sums / n
            inverse = np.exp(-log_scale)
            value = 0.5 * log + log_scale
            gradient = np.stack([-inverse * first, 1 - square], 1)
            mixed = 2 * df * inverse * mixed
            hessian = np.array([[inverse**2 * slope, mixed], [mixed, 2 * df * width]]).transpose(2, 0, 1)
            k = len(theta)
            return value, gradient[:, :k], hessian[:, :k, :k]

        return objective
