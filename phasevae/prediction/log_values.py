"""What a training prints: the expected values of the loss and its two parts, in the units of the loss."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from phasevae.prediction.losses import FIXED, LEARNED, PER_FEATURE
from phasevae.prediction.optimum import Optimum, Setting, kl_and_error


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
    return _values(optimum.setting, optimum.kl, optimum.mse)


def collapsed_log(optimum: Optimum) -> LogValues:
    """Return what a training prints when every latent is collapsed.

    Parameters
    ----------
    optimum : Optimum
    """
    setting = replace(optimum.setting, kl_weight=2 * optimum.critical_kl_weight)
    return _values(setting, 0.0, kl_and_error(setting)[2])


def _values(setting: Setting, kl: float, error: float) -> LogValues:
    term = setting.weights[1] * kl * (setting.loss.scale if setting.loss.decoder in (LEARNED, PER_FEATURE) else 1.0)
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
