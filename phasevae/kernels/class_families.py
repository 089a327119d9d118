"""Reconstruction terms of values within 0 and 1, and of classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from phasevae.kernels.elbo import bernoulli_nll, bernoulli_slopes, chances
from phasevae.kernels.family import Family
from phasevae.kernels.reconstruction import mean_over_draws


class Bernoulli(Family):
    """Cross entropy of values within 0 and 1; the outputs are logits [D]."""

    def energy(self, statistics: Tensor, outputs: Tensor, sigma2: Tensor) -> Tensor:
        return bernoulli_nll(statistics, outputs, sigma2)

    def energy_and_slopes(self, statistics: Tensor, outputs: Tensor, sigma2: Tensor) -> tuple[Tensor, Tensor]:
        mean = mean_over_draws(self.energy(statistics, outputs, sigma2))
        return mean, self.slopes(statistics, outputs, sigma2)

    def slopes(self, statistics: Tensor, outputs: Tensor, sigma2: Tensor) -> Tensor:
        return bernoulli_slopes(statistics, outputs, sigma2)

    def means(self, outputs: Tensor) -> Tensor:
        return chances(outputs)

    def _drawn(self, outputs: NDArray, rng: np.random.Generator) -> NDArray:
        from scipy.special import expit

        return rng.random(outputs.shape) < expit(outputs)


class Categorical(Family):
    """Class numbers at L positions; the outputs are logits, K for each position, and so are the statistics."""

    def __init__(self, arrays: Mapping[str, NDArray], options: Mapping[str, Any]):
        super().__init__(arrays, options)
        self._n_classes = int(options["n_classes"])

    def statistics(self, x: Tensor) -> Tensor:
        return functional.one_hot(x.long(), self._n_classes).flatten(-2).to(x.dtype)

    def seen(self, x: Tensor) -> Tensor:
        return self.statistics(x)

    def _energy(self, statistics: Tensor, outputs: Tensor) -> Tensor:
        norm = outputs.unflatten(-1, (-1, self._n_classes)).logsumexp(-1).sum(-1)
        return norm - (statistics * outputs).sum(-1)

    def means(self, outputs: Tensor) -> Tensor:
        return outputs.unflatten(-1, (-1, self._n_classes)).softmax(-1).flatten(-2)

    def _drawn(self, outputs: NDArray, rng: np.random.Generator) -> NDArray:
        logits = outputs.reshape(len(outputs), -1, self._n_classes)
        return (logits + rng.gumbel(size=logits.shape)).argmax(-1)
