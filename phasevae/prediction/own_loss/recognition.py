"""Losses that are the squared error or cross entropy, however they are written: today's formulas answer for these."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from phasevae.prediction.losses import BERNOULLI, FIXED, LEARNED, PER_FEATURE
from phasevae.prediction.own_loss.curvature import Derivatives
from phasevae.prediction.own_loss.parameters import fit_parameters, restored

Slope = Callable[[NDArray, NDArray], NDArray]
"""The derivative of a known loss by outputs [D], for rows [b, D]."""

_TOLERANCE = {False: 1e-9, True: 1e-3}
_NEAR = 1e-3
"""Rows whose error is below this part of the largest have a quotient of rounding errors."""


@dataclass(frozen=True)
class Recognised:
    """A known reconstruction loss.

    `weight` is that of the squared error, half that of the cross entropy, or that of the negative log likelihood.
    """

    decoder: str  # FIXED, BERNOULLI, LEARNED or PER_FEATURE
    weight: float
    logits: bool = False  # of a Bernoulli decoder: whether the outputs are logits, not probabilities

    def constant(self, rows: NDArray) -> NDArray:
        """Return the best constant output for some rows [b, D], [D]."""
        mean = rows.mean(0)
        if self.decoder != BERNOULLI:
            return mean
        within = np.clip(mean, 1e-12, 1 - 1e-12)
        return np.log(within / (1 - within)) if self.logits else within


def recognise(
    derivatives: Derivatives, constant: NDArray, rows: NDArray, parameters: list[Tensor]
) -> Recognised | None:
    """Return what the reconstruction part of a loss is, or None if it is not among the known ones.

    Parameters
    ----------
    derivatives : Derivatives
    constant : array [P]
        An output at which the loss is finite.
    rows : array [b, D]
        Rows of the target.
    parameters : list of tensors
        Trainable parameters of the loss.
    """
    loss = derivatives.loss
    if derivatives.blocks.shape[1] > 1 or loss.n_outputs != rows.shape[1] or loss.target.whole:
        return None
    if parameters:
        return _learned(derivatives, rows, parameters)
    if (weight := _common(derivatives, constant, rows, _squared)) is not None:
        return Recognised(FIXED, 0.5 * weight)
    if rows.min() >= 0 and rows.max() <= 1:
        within = np.clip(constant, 0.1, 0.9)
        for slope, logits in ((_from_probability, False), (_from_logit, True)):
            if (weight := _common(derivatives, within, rows, slope)) is not None:
                return Recognised(BERNOULLI, 0.5 * weight, logits)
    return None


def _squared(outputs: NDArray, x: NDArray) -> NDArray:
    return outputs - x


def _from_probability(outputs: NDArray, x: NDArray) -> NDArray:
    return (outputs - x) / (outputs * (1 - outputs))


def _from_logit(outputs: NDArray, x: NDArray) -> NDArray:
    return 1 / (1 + np.exp(-outputs)) - x


def _common(derivatives: Derivatives, constant: NDArray, rows: NDArray, slope: Slope) -> float | None:
    """The one factor between the gradient of the loss and a known slope, at two outputs; None if there is none."""
    factors = [_factors(derivatives, at, rows, slope) for at in (constant, 0.9 * constant + 0.03)]
    both = np.concatenate(factors)
    if both.size == 0 or not np.isfinite(both).all():
        return None
    middle = float(np.median(both))
    limit = _TOLERANCE[derivatives.loss.single]
    return middle if middle > 0 and np.abs(both - middle).max() <= limit * middle else None


def _factors(derivatives: Derivatives, constant: NDArray, rows: NDArray, slope: Slope) -> NDArray:
    known = slope(constant, rows)
    gradient = derivatives.gradients(constant, rows)
    clear = np.abs(known) > _NEAR * np.abs(known).max()
    return gradient[clear] / known[clear]


def _learned(derivatives: Derivatives, rows: NDArray, parameters: list[Tensor]) -> Recognised | None:
    """A squared error whose learned variance, one or one per feature, settles at the mean squared error."""
    loss = derivatives.loss
    if len(parameters) != 1 or parameters[0].numel() not in (1, rows.shape[1]):
        return None
    alone = parameters[0].numel() == 1
    mean, width = rows.mean(0), rows.std(0)
    varies = width > 0
    weights = []
    # A constant feature gets an error, too: its variance would shrink to zero without one.
    first = np.where(varies, mean, mean + max(width.max(), 1.0))
    for constant in (first, first + width):
        with restored(parameters):
            fit_parameters(loss, parameters, constant, rows)
            error = np.square(constant - rows).mean(0)
            gradient = derivatives.gradients(constant, rows)[:, varies]
            known = _squared(constant, rows)[:, varies]
            slopes = (gradient * known).sum(0) / np.square(known).sum(0)
            if not np.allclose(gradient, slopes * known, rtol=0, atol=1e-3 * np.abs(gradient).max()):
                return None
            weights.append(np.mean(slopes) * error.mean() if alone else slopes * error[varies])
    both = np.concatenate([np.atleast_1d(weight) for weight in weights])
    middle = float(np.median(both))
    if not np.abs(both - middle).max() <= 1e-3 * middle:
        return None
    return Recognised(LEARNED if alone else PER_FEATURE, middle)
