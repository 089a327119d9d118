"""Reconstruction terms of counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from phasevae.kernels.family import Family


class Counts(Family):
    """What families of counts share: the encoder sees logarithms, because counts scatter widely."""

    def seen(self, x: Tensor) -> Tensor:
        return x.log1p()


class Poisson(Counts):
    """Counts; the outputs are log rates [D]."""

    def _energy(self, statistics: Tensor, outputs: Tensor) -> Tensor:
        return (outputs.exp() - statistics * outputs).sum(-1)

    def _constant(self, x: Tensor) -> Tensor:
        return torch.lgamma(x.double() + 1).sum(-1)

    def means(self, outputs: Tensor) -> Tensor:
        return outputs.exp()

    def _drawn(self, outputs: NDArray, rng: np.random.Generator) -> NDArray:
        return rng.poisson(np.exp(outputs))


class Multinomial(Counts):
    """Counts of a row, given their sum; the outputs are logits [D].

    The means are those of a row with the mean number of counts.
    """

    def _energy(self, statistics: Tensor, outputs: Tensor) -> Tensor:
        return statistics.sum(-1) * outputs.logsumexp(-1) - (statistics * outputs).sum(-1)

    def _constant(self, x: Tensor) -> Tensor:
        x = x.double()
        return torch.lgamma(x + 1).sum(-1) - torch.lgamma(x.sum(-1) + 1)

    def means(self, outputs: Tensor) -> Tensor:
        return self._tensors["mean_total"] * outputs.softmax(-1)

    def _drawn(self, outputs: NDArray, rng: np.random.Generator) -> NDArray:
        from scipy.special import softmax

        return rng.multinomial(round(self._tensors["mean_total"].item()), softmax(outputs, -1))


class NegativeBinomial(Counts):
    """Counts with mean m and variance m + m^2 / r; the outputs are log means [D], and r is fixed.

    With m = e^f, minus the log likelihood is (x + r) ln(1 + m / r) - x f, and a term free of f: linear in x.
    """

    def _energy(self, statistics: Tensor, outputs: Tensor) -> Tensor:
        r = self._tensors["dispersion"]
        return ((statistics + r) * functional.softplus(outputs - r.log()) - statistics * outputs).sum(-1)

    def _constant(self, x: Tensor) -> Tensor:
        x, r = x.double(), self._tensors["dispersion"].double()
        return (torch.lgamma(x + 1) + torch.lgamma(r) - torch.lgamma(x + r) + x * r.log()).sum(-1)

    def means(self, outputs: Tensor) -> Tensor:
        return outputs.exp()

    def _drawn(self, outputs: NDArray, rng: np.random.Generator) -> NDArray:
        r, mean = self._parameter("dispersion"), np.exp(outputs)
        return rng.poisson(rng.gamma(r, mean / r))


class ZeroInflated(NegativeBinomial):
    """Counts that are zero with the chance sigmoid(d), and negative binomial otherwise; the outputs are [f, d], [2 D].

    A zero and a positive count have different terms, so the statistics are the counts and whether they are zero.
    """

    def statistics(self, x: Tensor) -> Tensor:
        return torch.cat((x, (x == 0).to(x.dtype)), -1)

    def _energy(self, statistics: Tensor, outputs: Tensor) -> Tensor:
        x, zero = statistics.chunk(2, -1)
        log_mean, logit = outputs.chunk(2, -1)
        t, of_zero = self._zero(log_mean)
        terms = zero * -torch.logaddexp(logit, -of_zero) + (1 - zero) * of_zero + x * (t - log_mean)
        return (functional.softplus(logit) + terms).sum(-1)

    def means(self, outputs: Tensor) -> Tensor:
        log_mean, logit = outputs.chunk(2, -1)
        kept = (-logit).sigmoid()
        return torch.cat((kept * log_mean.exp(), 1 - kept + kept * (-self._zero(log_mean)[1]).exp()), -1)

    def _drawn(self, outputs: NDArray, rng: np.random.Generator) -> NDArray:
        from scipy.special import expit

        log_mean, logit = np.split(outputs, 2, -1)
        return np.where(rng.random(logit.shape) < expit(logit), 0, super()._drawn(log_mean, rng))

    def _zero(self, log_mean: Tensor) -> tuple[Tensor, Tensor]:
        """Return ln(1 + m / r), and r times it: minus the log likelihood of zero without dropout."""
        r = self._tensors["dispersion"]
        t = functional.softplus(log_mean - r.log())
        return t, r * t


class SizedNegativeBinomial(Counts):
    """Counts with mean l e^f for rows of size factor l, which is the last column or the sum of the row.

    The energy is no linear function of statistics, because l stands in a logarithm beside the outputs. With
    the option `normalised` the means are a softmax over the features. Outputs beyond the log means are dropout logits.
    """

    is_linear = False

    def __init__(self, arrays: Mapping[str, NDArray], options: Mapping[str, Any]):
        super().__init__(arrays, options)
        self._last_column = options["size_factors"] == "last-column"
        self._normalised = bool(options["normalised"])
        self._dimension = self._tensors["dispersion"].numel()

    def _energy(self, statistics: Tensor, outputs: Tensor) -> Tensor:
        x, log_size = self._split(statistics)
        r = self._tensors["dispersion"]
        log_mean, logit = outputs[..., : self._dimension], outputs[..., self._dimension :]
        if self._normalised:
            log_mean = log_mean.log_softmax(-1) + self._tensors["mean_total"].log()
        t = functional.softplus(log_mean + log_size - r.log())
        terms = (x + r) * t - x * log_mean
        if logit.shape[-1]:
            terms = functional.softplus(logit) + torch.where(x == 0, -torch.logaddexp(logit, -r * t), terms)
        return terms.sum(-1)

    def _constant(self, x: Tensor) -> Tensor:
        x, log_size = self._split(x.double())
        r = self._tensors["dispersion"].double()
        combinations = torch.lgamma(x + 1) + torch.lgamma(r) - torch.lgamma(x + r)
        return (combinations + x * r.log() - torch.where(x > 0, x * log_size, 0.0)).sum(-1)

    def _split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the counts, and the logarithm of the size factor of each row as a column."""
        if self._last_column:
            return x[..., :-1], x[..., -1:].log()
        return x, (x.sum(-1, keepdim=True) / self._tensors["mean_total"].to(x.dtype)).log()
