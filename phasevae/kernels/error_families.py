"""Reconstruction terms of errors: Gaussian with a variance of its own, absolute errors, heavy tails."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from phasevae.kernels.family import Family


class GaussianVariance(Family):
    """A Gaussian whose mean and log variance are outputs, [2 D]; the statistics are the deviations from the collapsed
    mean, and their squares. Constant features are left out."""

    def statistics(self, x: Tensor) -> Tensor:
        deviation = x - self.offset[: x.shape[-1]]
        return torch.cat((deviation, deviation.square()), -1)

    def _energy(self, statistics: Tensor, outputs: Tensor) -> Tensor:
        first, second = statistics.chunk(2, -1)
        mean, log_variance = self._moments(outputs)
        squares = second - 2 * mean * first + mean.square()
        return 0.5 * (self._tensors["used"] * (squares * (-log_variance).exp() + log_variance)).sum(-1)

    def _constant(self, x: Tensor) -> Tensor:
        value = 0.5 * math.log(2 * math.pi) * float(self._tensors["used"].sum())
        return x.new_full(x.shape[:-1], value, dtype=torch.float64)

    def means(self, outputs: Tensor) -> Tensor:
        mean, log_variance = self._moments(outputs)
        return torch.cat((mean, mean.square() + log_variance.exp()), -1)

    def _drawn(self, outputs: NDArray, rng: np.random.Generator) -> NDArray:
        mean, log_variance = np.split(outputs, 2, -1)
        return mean + self._parameter("used") * np.exp(log_variance / 2) * rng.standard_normal(mean.shape)

    def _moments(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean, relative to the collapsed one, and the log variance."""
        mean, log_variance = outputs.chunk(2, -1)
        return mean - self.offset.chunk(2)[0], log_variance


class Laplace(Family):
    """Absolute errors in units of a fixed scale; the outputs are medians [D]."""

    is_linear = False

    def __init__(self, arrays: Mapping[str, NDArray], options: Mapping[str, Any]):
        super().__init__(arrays, options)
        self._scale = float(options["scale"])

    def _energy(self, statistics: Tensor, outputs: Tensor) -> Tensor:
        return (statistics - outputs).abs().sum(-1) / self._scale

    def _constant(self, x: Tensor) -> Tensor:
        value = x.shape[-1] * math.log(2 * self._scale)
        return x.new_full(x.shape[:-1], value, dtype=torch.float64)

    def _drawn(self, outputs: NDArray, rng: np.random.Generator) -> NDArray:
        return rng.laplace(outputs, self._scale)


class StudentT(Family):
    """Student's t of fixed degrees of freedom and scales; the outputs are locations [D]. Features without a scale are
    left out."""

    is_linear = False

    def __init__(self, arrays: Mapping[str, NDArray], options: Mapping[str, Any]):
        super().__init__(arrays, options)
        self._df = float(options["df"])

    def _energy(self, statistics: Tensor, outputs: Tensor) -> Tensor:
        scale = self._tensors["scale"]
        used = scale > 0
        y = torch.where(used, (statistics - outputs) / torch.where(used, scale, 1.0), 0.0)
        return 0.5 * (self._df + 1) * torch.log1p(y.square() / self._df).sum(-1)

    def _constant(self, x: Tensor) -> Tensor:
        df, scale = self._df, self._tensors["scale"].double()
        norm = math.lgamma(df / 2) - math.lgamma((df + 1) / 2) + 0.5 * math.log(df * math.pi)
        used = scale > 0
        value = float(used.sum()) * norm + float(scale[used].log().sum())
        return x.new_full(x.shape[:-1], value, dtype=torch.float64)

    def _drawn(self, outputs: NDArray, rng: np.random.Generator) -> NDArray:
        return outputs + self._parameter("scale") * rng.standard_t(self._df, outputs.shape)
