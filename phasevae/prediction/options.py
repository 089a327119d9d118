"""What the options of `predict` mean: the loss, the weight of KL and the limits of the encoder that they describe."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from phasevae.errors import InputError
from phasevae.likelihoods.base import check_positive
from phasevae.prediction.libraries import find_loss
from phasevae.prediction.losses import Loss, fixed_variance_loss
from phasevae.prediction.optimum import PredictionWarning
from phasevae.prediction.schedules import KlSchedule, parse_schedule
from phasevae.theory.limited_encoder import LARGEST_NOISE_SCALE, EncoderLimits

_LARGEST_LOGVAR = 50


def chosen_loss(
    sigma2: float | None,
    beta: float | None,
    loss: str | None,
    library: str | None,
    kl_weight: float | None,
    options: Mapping[str, Any] | None,
    *,
    takes_function: bool = False,
) -> tuple[Loss, float]:
    """Return the loss and the weight of KL that the options of `predict` describe.

    Parameters
    ----------
    sigma2, beta, loss, library, kl_weight, options : optional
        As in `predict`; `options` are its `loss_options`.
    takes_function : bool
        Whether the user could have given a function of their own instead, which the message then says.

    Raises
    ------
    InputError
        For options that do not go together, and for a name or a value that cannot be used.
    """
    if sum(option is not None for option in (loss, library)) + (sigma2 is not None or beta is not None) != 1 and not (
        loss == "gaussian-nll" and beta is None and library is None
    ):
        ways = "sigma2, beta, loss, library and loss-function (a function of your own, in Python loss=)"
        ways = ways if takes_function else "sigma2, beta, loss and library"
        raise InputError(f"loss: give one of {ways}; sigma2 and beta go together")
    if beta is not None and kl_weight is not None:
        raise InputError(f"kl_weight: {kl_weight}, cannot be given together with beta, which is the weight of KL")
    if sigma2 is not None:
        chosen = fixed_variance_loss(positive("sigma2", sigma2))
    else:
        chosen = find_loss("half-sse", None, options) if beta is not None else find_loss(loss, library, options)
    weight = beta if beta is not None else kl_weight
    key = "beta" if beta is not None else "kl_weight"
    return chosen, chosen.kl_weight if weight is None else positive(key, weight)


def scheduled_weight(
    kl_schedule: str | KlSchedule, training_length: float | None
) -> tuple[float, tuple[PredictionWarning, ...]]:
    """Return the weight of KL at the end of a training, and a warning if that is not the one the schedule leads to.

    Parameters
    ----------
    kl_schedule : str or KlSchedule
    training_length : float, optional
        In the units of the schedule.

    Raises
    ------
    InputError
        For a schedule that cannot be read, and for a weight of zero at the end.
    """
    schedule = parse_schedule(kl_schedule)
    length = None if training_length is None else positive("training_length", training_length)
    weight = schedule.final_weight(length)
    if weight == 0:
        raise InputError(
            f"training_length: {training_length:g}, ends at a KL weight of 0, at which no latent can collapse"
        )
    if length is None or weight == schedule.end:
        return weight, ()
    text = f"the training ends at {length:g} with the KL weight {weight:.4g}, not with {schedule.end:g}"
    if not schedule.reached_by(length):
        text += ": the schedule is not over"
    return weight, (PredictionWarning("schedule", text),)


def encoder_limits(posterior_std: float | None, least_logvar: float | None, noise_scale: float) -> EncoderLimits:
    """Return the limits of the encoder that the options of `predict` describe. Raises InputError for wrong values."""
    std = None if posterior_std is None else positive("posterior_std", posterior_std)
    scale = positive("noise_scale", noise_scale)
    if scale > LARGEST_NOISE_SCALE:
        raise InputError(f"noise_scale: {noise_scale!r}, must be at most {LARGEST_NOISE_SCALE}")
    if least_logvar is None:
        return EncoderLimits(std, 0.0, scale)
    if std is not None:
        raise InputError(f"least_logvar: {least_logvar!r}, cannot be given together with posterior_std")
    number = isinstance(least_logvar, int | float | np.number) and not isinstance(least_logvar, bool)
    if not number or not -_LARGEST_LOGVAR <= least_logvar <= _LARGEST_LOGVAR:
        raise InputError(f"least_logvar: {least_logvar!r}, must be a number of at most {_LARGEST_LOGVAR} in magnitude")
    return EncoderLimits(None, float(np.exp(least_logvar)), scale)


def positive(key: str, value: Any) -> float:
    """Return a value as a float if it is a positive number. Raises InputError that names the option `key`."""
    check_positive(key, value)
    return float(value)


def whole_number(key: str, value: Any) -> int:
    """Return a value as an int if it is a whole number, 1 or more. Raises InputError that names the option `key`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise InputError(f"{key}: {value!r}, must be a whole number, 1 or more")
    return int(value)


def at_least_zero(key: str, value: Any) -> float:
    """Return a value as a float if it is a number, 0 or more. Raises InputError that names the option `key`."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not 0 <= value < np.inf:
        raise InputError(f"{key}: {value!r}, must be a number, 0 or more")
    return float(value)


def checked_kl_weight(kl_weight: Any) -> float:
    """Return a number, or a tensor or array of one number, as a weight of KL. Raises InputError for anything else."""
    try:
        weight = math.nan if isinstance(kl_weight, str) else float(kl_weight)
    except (TypeError, ValueError, RuntimeError):
        weight = math.nan
    if not 0 <= weight < math.inf:
        raise InputError(f"kl_weight: {kl_weight!r}, must be a number, 0 or more")
    return weight
