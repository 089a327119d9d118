"""Minimum of a likelihood of counts whose means add up to a given sum."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from phasevae.errors import InputError
from phasevae.likelihoods.count_objective import CountObjective
from phasevae.likelihoods.newton import (
    DECREASE,
    LARGEST_STEP,
    MOST_PASSES,
    ROUNDING,
    SHORTEST,
    TOLERABLE,
    held,
    positive_inverses,
)


def minimise_normalised(
    objective: CountObjective, start: NDArray, low: NDArray, high: NDArray, total: float, what: str
) -> tuple[NDArray, NDArray, NDArray, float]:
    """Minimise the likelihood by Newton steps of all features together, under a constraint on the sum of the means.

    Parameters
    ----------
    objective : CountObjective
        With the first guess of the pressure on the means, the Lagrange multiplier of the constraint.
    start : array [k, D]
    low, high : arrays [k]
        Bounds of the parameters.
    total : float
        The sum of the means.
    what : str
        Name of the data and the likelihood, for the message.

    Returns
    -------
    parameters : array [k, D]
    hessian : array [D, k, k]
        Of the Lagrangian.
    bound : boolean array [k, D]
        Parameters that are held at a bound.
    pressure : float

    Raises
    ------
    InputError
        If it does not converge.
    """
    low, high = low[:, None], high[:, None]
    theta = _with_sum(objective, np.clip(start, low, high), total)
    everyone = np.arange(theta.shape[1])
    step, fraction, best, gain = np.zeros_like(theta), 1.0, np.inf, np.inf
    hessian, bound = np.zeros((theta.shape[1], len(theta), len(theta))), np.zeros(theta.shape, dtype=bool)
    for _ in range(MOST_PASSES):
        trial = _with_sum(objective, np.clip(theta + fraction * step, low, high), total)
        value, gradient, new_hessian = objective(trial, everyone)
        loss = value.sum() - objective.pressure * total
        if np.isfinite(best) and loss > best + ROUNDING * max(1, abs(best)):
            fraction /= 4
            if fraction * np.abs(step).max() < SHORTEST:
                break
            continue
        theta, best, hessian = trial, loss, new_hessian
        step, bound, gains, change = _step(objective, theta, gradient, hessian, low, high)
        gain = gains.sum()
        if (gains <= DECREASE * np.maximum(1, np.abs(value))).all():
            theta = _with_sum(objective, np.clip(theta + step, low, high), total)
            return theta, hessian, bound, objective.pressure + change
        fraction = min(1, LARGEST_STEP / np.abs(step).max())
        objective = replace(objective, pressure=objective.pressure + change)
    if gain > TOLERABLE:
        raise InputError(f"{what}: means that add up to the size factor did not settle in {MOST_PASSES} passes")
    return theta, hessian, bound, objective.pressure


def _with_sum(objective: CountObjective, theta: NDArray, total: float) -> NDArray:
    """Return the parameters with all means multiplied such that they add up to `total`."""
    theta = theta.copy()
    theta[0] += np.log(total / np.exp(objective.log_mean(theta)).sum())
    return theta


def _step(
    objective: CountObjective, theta: NDArray, gradient: NDArray, hessian: NDArray, low: NDArray, high: NDArray
) -> tuple[NDArray, NDArray, NDArray, float]:
    """Return the step that keeps the sum of the means to first order, and the change of the pressure.

    Returns
    -------
    step : array [k, D]
    bound : boolean array [k, D]
        Parameters that are held at a bound.
    gains : array [D]
        The expected decrease of the value.
    change : float
    """
    bound = held(theta, gradient, low, high)
    inverses = positive_inverses(hessian, ~bound.T)
    means = np.exp(objective.log_mean(theta)) * objective.log_mean_slope(theta)  # derivatives of the means, [k, D]
    by_pressure = np.einsum("djk,kd->jd", inverses, means)
    by_gradient = np.einsum("djk,dk->jd", inverses, np.where(bound.T, 0, gradient))
    change = -float((means * by_gradient).sum() / (means * by_pressure).sum())
    step = -(by_gradient + change * by_pressure)
    gains = -np.einsum("jd,jd->d", step, np.where(bound, 0, gradient.T + change * means))
    return step, bound, gains, change
