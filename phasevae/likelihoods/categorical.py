"""Classes: each column of the rows holds class numbers from 0, and the decoder gives logits for each column."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from phasevae.datasets.base import SampleStream, checked_int
from phasevae.datasets.feature_statistics import FeatureStatistics
from phasevae.errors import InputError
from phasevae.likelihoods.base import (
    FittedLikelihood,
    Likelihood,
    check_whole,
    known_features,
    require_scores,
    with_loss,
)


@dataclass(frozen=True)
class Categorical(Likelihood):
    """Class numbers at each of L positions."""

    n_classes: int | None = None
    """K, for all positions. None: the largest class number plus one."""

    name: ClassVar[str] = "categorical"
    formula: ClassVar[str] = "Categorical(x; softmax f), at each position"
    meaning: ClassVar[str] = "number of positions times the inertias of multiple correspondence analysis, from 1 to L"

    def check(self) -> None:
        if self.n_classes is not None:
            checked_int("n_classes", self.n_classes, 2)

    def fit(self, rows: SampleStream, features: FeatureStatistics | None = None) -> CategoricalFit:
        features = known_features(rows, features)
        if features.low.min() < 0:
            raise InputError(
                f"{rows.label}: value {features.low.min():g} in column {features.low.argmin()} (counted from 0), "
                f"must be a class number (a whole number, 0 or more)"
            )
        n_classes = self._number_of_classes(features, rows.label)
        shares = _class_shares(rows, n_classes)
        require_scores(features.constant, rows.label)
        with np.errstate(divide="ignore"):
            logits = np.log(shares)
        fitted = CategoricalFit(
            likelihood=self,
            outputs={"logits": logits},
            constants={},
            constant=features.constant,
            n_scores=logits.size,
        )
        return with_loss(fitted, rows)

    def _number_of_classes(self, features: FeatureStatistics, label: str) -> int:
        largest = features.high.max()
        if self.n_classes is None:
            if largest >= MOST_CLASSES:
                raise InputError(
                    f"{label}: value {largest:g} in column {features.high.argmax()} (counted from 0), "
                    f"must be a class number below {MOST_CLASSES}"
                )
            return int(largest) + 1
        if largest >= self.n_classes:
            raise InputError(
                f"{label}: value {largest:g} in column {features.high.argmax()} (counted from 0), "
                f"must be a class number below n_classes = {self.n_classes}"
            )
        return int(self.n_classes)


MOST_CLASSES = 100_000
"""Larger numbers are rather values of another kind."""


@dataclass(frozen=True, kw_only=True)
class CategoricalFit(FittedLikelihood):
    """The constant decoder of classes. Its curvature is diag(pi) - pi pi^T at each position.

    Scores are ordered by position, then by class. As those of a multinomial they are whitened by a division with
    sqrt(pi).
    """

    @property
    def shares(self) -> NDArray:
        return np.exp(self.outputs["logits"])

    def negative_log_likelihood(self, x: NDArray) -> NDArray:
        position = np.arange(x.shape[1])
        return -self.outputs["logits"][position, x.astype(int)].sum(1)

    def scores(self, x: NDArray) -> NDArray:
        return self._divided(x, 1.0)

    def whitened_scores(self, x: NDArray) -> NDArray:
        shares = self.shares
        return self._divided(x, np.sqrt(np.where(shares > 0, shares, 1)))

    def curvature(self) -> NDArray:
        n_positions, n_classes = self.shares.shape
        full = np.zeros((n_positions, n_classes, n_positions, n_classes))
        for position, shares in enumerate(self.shares):
            full[position, :, position] = np.diag(shares) - np.outer(shares, shares)
        return full.reshape(self.n_scores, self.n_scores)

    def _divided(self, x: NDArray, units: NDArray | float) -> NDArray:
        """Return the scores in units [L, K]."""
        units = np.broadcast_to(units, self.shares.shape)
        scores = np.tile(-self.shares / units, (len(x), 1, 1))
        position, classes = np.arange(x.shape[1]), x.astype(int)
        scores[np.arange(len(x))[:, None], position, classes] += 1 / units[position, classes]
        scores[:, self.constant] = 0
        return scores.reshape(len(x), -1)


def _class_shares(rows: SampleStream, n_classes: int) -> NDArray:
    """Return the share of each class at each position, [L, K]."""
    counts = np.zeros(rows.dimension * n_classes, dtype=np.int64)
    n = 0
    for block in rows.read():
        check_whole(block, n, rows.label, "a class number (a whole number, 0 or more)")
        numbers = block.astype(np.int64) + n_classes * np.arange(rows.dimension)
        counts += np.bincount(numbers.ravel(), minlength=counts.size)
        n += len(block)
    return counts.reshape(rows.dimension, n_classes) / n
