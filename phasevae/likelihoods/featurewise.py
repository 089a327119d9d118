"""Likelihoods that are products over features, with one or a few outputs of the decoder for each feature."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from phasevae.likelihoods.base import FittedLikelihood, Likelihood

_NULL = 1e-12
"""Eigenvalues of a block of the curvature below this fraction of its largest are zero."""


@dataclass(frozen=True)
class FeaturewiseLikelihood(Likelihood):
    """A product over features."""

    output_names: ClassVar[tuple[str, ...]]

    @abstractmethod
    def summed(self, fitted: FeaturewiseFit, x: NDArray) -> NDArray:
        """Return the negative log likelihood of rows, summed over features, [B]."""

    @abstractmethod
    def output_scores(self, fitted: FeaturewiseFit, x: NDArray) -> NDArray:
        """Return the scores of each output, [B, k, D]. Those of outputs that are left out may be anything finite."""


@dataclass(frozen=True, kw_only=True)
class FeaturewiseFit(FittedLikelihood):
    """The constant decoder of a product over features.

    With `shares`, the first output of each feature is a log mean, and the means are a softmax over the features times
    a factor of the row. The blocks of the curvature then belong to changes of the log means that keep the sum of the
    means. Changes that do not keep it are projected out.
    """

    likelihood: FeaturewiseLikelihood
    blocks: NDArray  # [D, k, k] curvature of each feature
    used: NDArray[np.bool_]  # [k, D] outputs that carry a score
    shares: NDArray | None = None  # [D] the softmax
    mean_total: float = 1.0  # of the rows, for size factors
    width_units: NDArray | None = None  # [W, D] of losses with kinks: units of the scores over `kinks.WIDTHS`

    def negative_log_likelihood(self, x: NDArray) -> NDArray:
        return self.likelihood.summed(self, x)

    def scores(self, x: NDArray) -> NDArray:
        scores = self._masked(x)
        if self.shares is not None:
            scores[:, 0] -= self.shares * scores[:, 0].sum(1, keepdims=True)
        return scores.reshape(len(x), -1)

    def whitened_scores(self, x: NDArray) -> NDArray:
        scores = self._masked(x)
        if scores.shape[1] == 1:
            scores *= self._whiteners[:, 0, 0]
        else:
            scores = np.einsum("djk,bkd->bjd", self._whiteners, scores)
        scores = scores.reshape(len(x), -1)
        if self.shares is not None:
            scores -= np.outer(scores @ self._fixed_direction, self._fixed_direction)
        return scores

    def curvature(self) -> NDArray:
        dimension, k = self.blocks.shape[:2]
        full = np.zeros((k, dimension, k, dimension))
        diagonal = np.arange(dimension)
        full[:, diagonal, :, diagonal] = np.where(self._pairs, self.blocks, 0)
        full = full.reshape(k * dimension, k * dimension)
        if self.shares is not None:
            jacobian = np.eye(k * dimension)
            jacobian[:dimension, :dimension] -= self.shares
            full = jacobian.T @ full @ jacobian
        return full

    def _masked(self, x: NDArray) -> NDArray:
        return np.where(self.used, self.likelihood.output_scores(self, x), 0.0)

    @property
    def _pairs(self) -> NDArray:
        return self.used.T[:, :, None] & self.used.T[:, None, :]

    @cached_property
    def _whiteners(self) -> NDArray:
        """Generalised inverse square roots of the blocks, [D, k, k]."""
        values, vectors = np.linalg.eigh(np.where(self._pairs, self.blocks, 0))
        positive = values > _NULL * np.maximum(values[:, -1:], np.finfo(float).tiny)
        roots = np.where(positive, 1 / np.sqrt(np.where(positive, values, 1)), 0)
        return np.einsum("djk,dk,dlk->djl", vectors, roots, vectors)

    @cached_property
    def _fixed_direction(self) -> NDArray:
        """The whitened direction, of unit length, in which the sum of the means would change, [P]."""
        direction = (self._whiteners[:, :, 0] * self.shares[:, None]).T.ravel()
        return direction / np.linalg.norm(direction)
