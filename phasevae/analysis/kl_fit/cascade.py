"""Least squares of the ``cascade``, floor + sum_j 1/2 [ln(lambda_j / x)]_+, many problems at once.

In u = ln x the cascade is piecewise linear with kinks at ln lambda_j, so Gauss-Newton steps are exact between kinks.
The sum of squares has local minima, where an eigenvalue stays in the wrong gap between points; every fit therefore
runs from several starts, all of them as one batch.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phasevae.analysis.kl_fit.forms import Fits, Profile
from phasevae.analysis.sweep_table import Points

_STEPS = np.array([1.0, 0.5, 0.2, 0.05])
_ITERATIONS = 40
_DAMPING = 1e-9


def cascade_start(points: Points, n_modes: int, starts: Iterable[ArrayLike] = ()) -> Fits:
    """Fit the ``cascade`` with every eigenvalue free, from `starts` and from even spacings in ln lambda.

    Parameters
    ----------
    points
        Points to fit.
    n_modes
        Number of eigenvalues.
    starts
        Guesses of all eigenvalues.
    """
    tops = np.log(np.quantile(points.x[points.kl > points.kl.max() / 100], [0.5, 1.0]))
    guesses = [np.log(np.asarray(start, dtype=float)) for start in starts]
    guesses += [_even_spacing(points, top, n_modes) for top in tops]
    upper = np.full(len(guesses), np.log(points.x.max()))
    return descend(points, points.kl, np.array(guesses), upper, n_fixed=0)


def cascade_profile(points: Points, n_modes: int, starts: Iterable[ArrayLike]) -> Profile:
    """Return the profile of the ``cascade``: bounded least squares in lambda_2..lambda_m <= c at given c = lambda_1.

    Each critical point also starts from the solutions of its neighbours, and of the nearest two solved before.

    Parameters
    ----------
    points
        Points to fit.
    n_modes
        Number of eigenvalues m.
    starts
        Guesses of all eigenvalues.
    """
    guesses = [np.log(np.asarray(start, dtype=float)) for start in starts]
    solved = np.empty((0, n_modes))

    def solve(c: NDArray) -> Fits:
        nonlocal solved
        top = np.log(np.asarray(c, dtype=float))
        rows = [np.tile(guess, (top.size, 1)) for guess in guesses]
        if len(solved):
            nearest = np.abs(solved[:, 0] - top[:, None]).argsort(1)[:, :2]
            rows += [solved[nearest[:, k]] for k in range(nearest.shape[1])]
        logs = np.log(_best_of(points, top, rows).parameters["eigenvalues"])
        fits = _best_of(points, top, [np.roll(logs, 1, 0), logs, np.roll(logs, -1, 0)])
        solved = np.concatenate([solved, np.log(fits.parameters["eigenvalues"])])
        return fits

    return solve


def descend(points: Points, kl: NDArray, logs: NDArray, upper: NDArray, n_fixed: int) -> Fits:
    """Fit B cascades by damped Gauss-Newton steps, with bounds on ln lambda and floor >= 0.

    Parameters
    ----------
    points
        Abscissae and weights of n points.
    kl
        KL to fit, shape [n] or [B, n].
    logs
        Starting values of ln lambda, shape [B, m].
    upper
        Upper bounds of ln lambda, shape [B].
    n_fixed
        Number of leading eigenvalues that stay fixed.
    """
    u, weight = np.log(points.x), points.weight
    low = u.min()
    free = np.arange(logs.shape[1]) >= n_fixed
    logs = np.where(free, np.clip(logs, low, upper[:, None]), logs)
    parameters = np.concatenate([logs, np.full((len(logs), 1), max(points.kl.min(), 1e-6))], axis=1)
    top = np.concatenate([np.broadcast_to(upper[:, None], logs.shape), np.full((len(logs), 1), np.inf)], axis=1)
    bottom = np.append(np.full(logs.shape[1], low), 0.0)
    movable = np.append(free, True)

    def residuals(p: NDArray) -> NDArray:
        return weight * (kl - p[..., -1:] - 0.5 * np.maximum(p[..., :-1, None] - u, 0.0).sum(-2))

    r = residuals(parameters)
    chi2 = np.square(r).sum(-1)
    for _ in range(_ITERATIONS):
        jacobian = 0.5 * weight * (parameters[:, :-1, None] > u)
        jacobian = np.concatenate([jacobian, np.broadcast_to(weight, (len(logs), 1, u.size))], axis=1)
        gradient = (jacobian @ r[..., None])[..., 0]
        # A parameter at its bound does not take part in a step that would cross the bound.
        stuck = ((parameters >= top) & (gradient > 0)) | ((parameters <= bottom) & (gradient < 0)) | ~movable
        jacobian = np.where(stuck[..., None], 0.0, jacobian)
        gram = jacobian @ np.swapaxes(jacobian, -1, -2)
        scale = np.maximum(np.trace(gram, axis1=-2, axis2=-1), 1.0)[:, None, None]
        gradient = np.where(stuck, 0.0, gradient)
        step = np.linalg.solve(gram + _DAMPING * scale * np.eye(parameters.shape[1]), gradient[..., None])[..., 0]
        trial = np.clip(parameters[:, None] + _STEPS[:, None] * step[:, None], bottom, top[:, None])
        trial = np.where(movable, trial, parameters[:, None])
        tried = np.square(residuals(trial) if kl.ndim == 1 else _each(residuals, trial)).sum(-1)
        best = tried.argmin(1)
        rows = np.arange(len(logs))
        better = tried[rows, best] < chi2 * (1 - 1e-10)
        if not better.any():
            break
        parameters = np.where(better[:, None], trial[rows, best], parameters)
        r = residuals(parameters)
        chi2 = np.square(r).sum(-1)
    eigenvalues = np.sort(np.exp(parameters[:, :-1]), axis=1)[:, ::-1]
    return Fits(eigenvalues[:, 0], chi2, {"eigenvalues": eigenvalues, "floor": parameters[:, -1]})


def _each(residuals, trial: NDArray) -> NDArray:
    """Residuals of trials [B, S, p] against measured values [B, n]: one call per step size. [B, S, n]."""
    return np.stack([residuals(trial[:, s]) for s in range(trial.shape[1])], axis=1)


def _best_of(points: Points, top: NDArray, starts: list[NDArray]) -> Fits:
    """The best fits at ln c = `top` [B] of those from each of the `starts` (lists of [B, m])."""
    logs = np.concatenate(starts)
    logs[:, 0] = np.tile(top, len(starts))
    fits = descend(points, points.kl, logs, np.tile(top, len(starts)), n_fixed=1)
    best = fits.chi2.reshape(len(starts), -1).argmin(0) * top.size + np.arange(top.size)
    return Fits(np.exp(top), fits.chi2[best], {name: values[best] for name, values in fits.parameters.items()})


def _even_spacing(points: Points, top: float, n_modes: int) -> NDArray:
    """ln lambda at equal spacing below `top` that gives the KL at the smallest x. Shape [n_modes]."""
    bottom = np.argmin(points.x)
    depth = top - np.log(points.x[bottom])
    spacing = 2 * (depth - 2 * points.kl[bottom] / n_modes) / max(n_modes - 1, 1)
    return top - np.arange(n_modes) * max(spacing, 0.0)
