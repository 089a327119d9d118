"""Minimum of one function for each feature, by damped Newton steps of all features together."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from phasevae.errors import InputError

Objective = Callable[[NDArray, NDArray], tuple[NDArray, NDArray, NDArray]]
"""Takes parameters [k, A] of the features whose numbers are [A]. Returns value [A], gradient [A, k], Hessian [A, k, k].
"""

MOST_PASSES = 300
LARGEST_STEP = 2.0
ROUNDING = 1e-12
"""A value that is larger by this fraction counts as equal."""

DECREASE = 1e-18
"""A step that would lower the value by less than this (relative if the value is above 1) is the last one. Its error is
of second order."""

TOLERABLE = 1e-9
"""A feature that would gain less than this (nats per sample) by another step counts as converged at the end."""

SHORTEST = 1e-13


def minimise(
    objective: Objective, start: NDArray, low: NDArray, high: NDArray, what: str
) -> tuple[NDArray, NDArray, NDArray]:
    """Minimise a function for each feature within bounds.

    Parameters
    ----------
    objective : Objective
        Usually a pass over the rows. Only the features that have not converged are asked for.
    start : array [k, D]
    low, high : arrays [k]
        Bounds of the parameters.
    what : str
        Name of the data and the likelihood, for the message.

    Returns
    -------
    parameters : array [k, D]
    hessian : array [D, k, k]
    bound : boolean array [k, D]
        Parameters that are held at a bound.

    Raises
    ------
    InputError
        If a feature does not converge.
    """
    low, high = low[:, None], high[:, None]
    theta = np.clip(start, low, high)
    k, dimension = theta.shape
    value, step = np.full(dimension, np.inf), np.zeros((k, dimension))
    hessian, bound = np.zeros((dimension, k, k)), np.zeros((k, dimension), dtype=bool)
    active, gain = np.arange(dimension), np.full(dimension, np.inf)
    for _ in range(MOST_PASSES):
        trial = np.clip(theta[:, active] + step[:, active], low, high)
        new_value, gradient, new_hessian = objective(trial, active)
        old = value[active]
        better = new_value <= np.where(np.isfinite(old), old + ROUNDING * np.maximum(1, np.abs(old)), np.inf)
        stuck = ~better & (np.abs(step[:, active]).max(0) < SHORTEST)
        step[:, active[~better]] /= 4
        taken = active[better]
        theta[:, taken], value[taken], hessian[taken] = trial[:, better], new_value[better], new_hessian[better]
        step[:, taken], bound[:, taken], gain[taken] = _newton_step(
            theta[:, taken], gradient[better], hessian[taken], low, high
        )
        done = np.zeros(active.size, dtype=bool)
        done[better] = gain[taken] <= DECREASE * np.maximum(1, np.abs(value[taken]))
        last = active[done]
        theta[:, last] = np.clip(theta[:, last] + step[:, last], low, high)
        active = active[~(done | stuck)]
        if active.size == 0:
            return theta, hessian, bound
    if (gain[active] <= TOLERABLE).all():
        return theta, hessian, bound
    column = active[gain[active].argmax()]
    raise InputError(f"{what}: the optimum of feature {column} did not settle in {MOST_PASSES} passes")


def _newton_step(
    theta: NDArray, gradient: NDArray, hessian: NDArray, low: NDArray, high: NDArray
) -> tuple[NDArray, NDArray, NDArray]:
    """Return step [k, A], parameters held at a bound [k, A] and the decrease of the value that is expected [A]."""
    bound = held(theta, gradient, low, high)
    gradient = np.where(bound.T, 0, gradient)
    step = -np.einsum("djk,dk->jd", positive_inverses(hessian, ~bound.T), gradient)
    decrease = -np.einsum("jd,dj->d", step, gradient)
    return step * np.minimum(1, LARGEST_STEP / np.maximum(np.abs(step).max(0), 1e-300)), bound, decrease


def held(theta: NDArray, gradient: NDArray, low: NDArray, high: NDArray) -> NDArray:
    """Return which parameters [k, A] are at a bound that the value decreases towards, for a gradient [A, k]."""
    return ((theta <= low) & (gradient.T > 0)) | ((theta >= high) & (gradient.T < 0))


def positive_inverses(hessian: NDArray, free: NDArray) -> NDArray:
    """Return inverses of Hessians among the free parameters, for steps that lead downwards.

    Parameters
    ----------
    hessian : array [A, k, k]
    free : boolean array [A, k]

    Returns
    -------
    array [A, k, k]
        Negative curvature is turned around. Rows and columns of parameters that are not free are zero.
    """
    pairs = free[:, :, None] & free[:, None, :]
    values, vectors = np.linalg.eigh(np.where(pairs, hessian, 0))
    size = np.abs(values)
    size = np.maximum(size, np.maximum(1e-14 * size.max(1, keepdims=True), np.finfo(float).tiny))
    return np.where(pairs, (vectors / size[:, None, :]) @ vectors.transpose(0, 2, 1), 0)
