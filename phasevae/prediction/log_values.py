"""What a training prints: the expected values of the loss and its two parts, in the units of the loss."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from phasevae.prediction.losses import FIXED, LEARNED, OWN, PER_FEATURE
from phasevae.prediction.optimum import Optimum, Setting


@dataclass(frozen=True)
class LogValues:
    """Values of one state, averaged over samples. None where they are not known from the data at hand."""

    reconstruction: float | None  # with the reductions and factors of the loss
    kl_term: float  # as it enters the loss, with its weight
    total: float | None
    kl: float  # in nats per sample


def expected_log(optimum: Optimum) -> LogValues:
    """Return what a training prints at the optimum.

    Parameters
    ----------
    optimum : Optimum

    Returns
    -------
    LogValues
        To leading order below the threshold, where the loss is not a squared error.
    """
    return _values(optimum.setting, optimum.kl_per_dim, optimum.mse)


def collapsed_log(optimum: Optimum) -> LogValues:
    """Return what a training prints when every latent is collapsed.

    Parameters
    ----------
    optimum : Optimum
    """
    setting = optimum.setting
    return _values(setting, np.zeros(setting.n_latent), setting.spectrum.trace)


def _values(setting: Setting, kl_per_dim: NDArray, error: float) -> LogValues:
    kl, loss = float(kl_per_dim.sum()), setting.loss
    own_learned = loss.name == OWN and loss.decoder in (LEARNED, PER_FEATURE)
    unit = loss.scale if own_learned else 1.0  # a learned variance is judged in units of its likelihood
    term = (
        setting.weights[1] * unit * setting.kl_term.cost(kl_per_dim, setting.n_latent)
        if math.isfinite(kl)
        else math.inf
    )
    if not setting.kl_term.mean_only:  # a variance that cannot be 1 costs every latent the same
        constant = setting.n_latent * setting.limits.collapsed_kl
        kl, term = kl + constant, term + setting.weights[1] * constant
    reconstruction = _reconstruction(setting, error)
    if not math.isfinite(kl):
        return LogValues(None, math.inf, None, math.inf)
    total = None if reconstruction is None else reconstruction + term
    return LogValues(reconstruction, term, total, kl)


def _reconstruction(setting: Setting, error: float) -> float | None:
    """The reconstruction loss where the squared error in the decoder's units is `error`."""
    loss, spectrum, collapsed = setting.loss, setting.spectrum, setting.collapsed_loss
    if loss.decoder == PER_FEATURE:
        return None
    if loss.decoder == LEARNED:
        size = spectrum.dimension
        if not error > 0:
            return None
        now, before = (0.5 * size * (1 + math.log(part / size)) for part in (error, spectrum.trace))
        return now if collapsed is None else collapsed + loss.scale * (now - before)
    weight = setting.weights[0]
    if collapsed is None:
        return weight * error if loss.decoder == FIXED else None
    return collapsed + weight * (error - spectrum.trace)
