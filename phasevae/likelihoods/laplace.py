"""Absolute errors: a Laplace decoder of fixed scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from phasevae.datasets.base import SampleStream
from phasevae.datasets.feature_statistics import FeatureStatistics
from phasevae.likelihoods.base import check_positive, known_features, require_scores, with_loss
from phasevae.likelihoods.featurewise import FeaturewiseFit, FeaturewiseLikelihood
from phasevae.likelihoods.gaussian import variances
from phasevae.likelihoods.kinks import KINK_WIDTH, WIDTHS, filled, units_of

_HALVINGS = 60
"""They leave 1e-18 of the range of a feature."""


@dataclass(frozen=True)
class Laplace(FeaturewiseLikelihood):
    """Absolute errors in units of a fixed scale.

    The curvature is twice the density at the median, which a finite difference smooths. Where many values equal the
    median, it is large, and the feature hardly counts.
    """

    scale: float = 1.0  # units of the data

    name: ClassVar[str] = "laplace"
    formula: ClassVar[str] = "Laplace(x; f, scale)"
    meaning: ClassVar[str] = "eigenvalues of the correlation of signs, in units of twice the density at the median"
    output_names: ClassVar[tuple[str, ...]] = ("median",)

    def check(self) -> None:
        check_positive("scale", self.scale)

    def fit(self, rows: SampleStream, features: FeatureStatistics | None = None) -> FeaturewiseFit:
        features = known_features(rows, features)
        require_scores(features.constant, rows.label)
        median = medians(rows, features)
        slope, over_widths = _slopes_of_signs(rows, median, np.sqrt(variances(rows, features)), features)
        fitted = FeaturewiseFit(
            likelihood=self,
            outputs={"median": median},
            constants={},
            constant=features.constant,
            n_scores=rows.dimension,
            blocks=(slope / self.scale)[:, None, None],
            used=~features.constant[None],
            width_units=units_of(slope, over_widths),
        )
        return with_loss(fitted, rows)

    def summed(self, fitted: FeaturewiseFit, x: NDArray) -> NDArray:
        errors = np.abs(x - fitted.outputs["median"]).sum(1)
        return errors / self.scale + x.shape[1] * np.log(2 * self.scale)

    def output_scores(self, fitted: FeaturewiseFit, x: NDArray) -> NDArray:
        return np.sign(x - fitted.outputs["median"])[:, None] / self.scale


def medians(rows: SampleStream, features: FeatureStatistics) -> NDArray:
    """Return the median of each feature, [D], by bisection. Each halving is a pass over the rows.

    At most half of the rows are above a median, and at most half below. It is a value of the data, or any number
    between the two values in the middle.
    """
    low, high, half = features.low.copy(), features.high.copy(), features.n_samples / 2
    median = low.copy()
    active = np.flatnonzero(_above_and_below(rows, low, np.arange(low.size))[0] > half)
    for _ in range(_HALVINGS):
        if active.size == 0:
            return median
        middle = low[active] + 0.5 * (high[active] - low[active])
        above, below = _above_and_below(rows, middle, active)
        low[active] = np.where(above > half, middle, low[active])
        high[active] = np.where(above > half, high[active], middle)
        median[active] = middle
        active = active[(above > half) | (below > half)]
    median[active] = _smallest_above(rows, low, active)
    return median


def _smallest_above(rows: SampleStream, bound: NDArray, columns: NDArray) -> NDArray:
    """Return the smallest value above a bound [D] for some columns."""
    smallest = np.full(columns.size, np.inf)
    for block in rows.read():
        chosen = block[:, columns]
        smallest = np.minimum(smallest, np.where(chosen > bound[columns], chosen, np.inf).min(0))
    return smallest


def _above_and_below(rows: SampleStream, centre: NDArray, columns: NDArray) -> NDArray:
    """Return how many rows are above the centre [A] and how many below, for some columns, [2, A]."""
    total = np.zeros((2, columns.size))
    for block in rows.read():
        chosen = block if columns.size == block.shape[1] else block[:, columns]
        total += np.count_nonzero(chosen > centre, axis=0), np.count_nonzero(chosen < centre, axis=0)
    return total


def _slopes_of_signs(
    rows: SampleStream, median: NDArray, deviation: NDArray, features: FeatureStatistics
) -> tuple[NDArray, NDArray]:
    """Return minus the slope of the mean sign of x - f at the median, per unit of the data.

    One pass gives all widths. Where no value lies within KINK_WIDTH, it is doubled until one does.

    Returns
    -------
    array [D], array [W, D]
        The slope over KINK_WIDTH, and over each of WIDTHS where enough values lie within it (`kinks.filled`).
    """
    widths = np.array(WIDTHS)[:, None] * deviation
    drops, n = _drops(rows, median, widths, np.arange(median.size)), features.n_samples
    slopes = drops / (n * np.where(widths > 0, widths, 1.0))
    width, slope = widths[WIDTHS.index(KINK_WIDTH)].copy(), slopes[WIDTHS.index(KINK_WIDTH)].copy()
    missing = np.flatnonzero(~features.constant & (slope == 0))
    while missing.size:
        width[missing] *= 2
        slope[missing] = _drops(rows, median[missing], width[missing][None], missing)[0] / (n * width[missing])
        missing = missing[slope[missing] == 0]
    return slope, filled(slopes, 0.5 * drops)


def _drops(rows: SampleStream, centre: NDArray, widths: NDArray, columns: NDArray) -> NDArray:
    """Return how much the sum of the signs of x - f drops over widths [W, A] around the centre [A] of some columns."""
    drops = np.zeros(widths.shape)
    for block in rows.read():
        distance = np.abs((block if columns.size == block.shape[1] else block[:, columns]) - centre)
        for number, half in enumerate(0.5 * widths):
            drops[number] += np.count_nonzero(distance < half, axis=0) + np.count_nonzero(distance <= half, axis=0)
    return drops
