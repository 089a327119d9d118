"""The sub-Gaussian variance proxy of the data, up to which an active state can survive.

P = sup_t 2 ln E exp(t . (x - mean)) / |t|^2 is at least lambda_1. For beta * sigma2 >= P the collapsed state is the
global optimum. P = lambda_1 for Gaussian, uniform and symmetric two-point data, whose collapse can only be continuous.
If P > lambda_1, active and collapsed state may coexist for beta * sigma2 between lambda_1 and P.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

COEXISTENCE_RATIO = 1.05
"""Collapsed and active states may coexist if the variance proxy exceeds lambda_1 by this factor. A smaller excess
matters little: relaxation near the transition hides it."""

STANDARD_ERRORS = 3.0
"""An excess over lambda_1 of fewer of the standard errors that it has for Gaussian rows is sampling noise."""

N_COMPONENTS = 8
MOST_ROWS = 65_536
"""More rows than this are thinned. One half of the rows chooses t, the other half gives the value."""

_DIRECTIONS = 24
_RADII = np.geomspace(0.05, 30.0, 60)
_REFINED = 4


def variance_proxy_ratio(y: NDArray) -> float:
    """Estimate P / lambda_1 from the principal components of data.

    t is chosen on every other row, and P and lambda_1 are those of the remaining rows, so that t does not fit a few
    extreme rows. The estimate is a lower bound up to the sampling error.

    Parameters
    ----------
    y : array [N, k]
        Principal components; the leading N_COMPONENTS are used.

    Returns
    -------
    float
        1, or a ratio whose excess over 1 is significant: more than STANDARD_ERRORS of the standard errors that it has
        for Gaussian rows. There is nothing in between. With less than four rows, or constant ones, it is 1.
    """
    y = np.asarray(y, dtype=float)[:: max(1, -(-len(y) // MOST_ROWS)), :N_COMPONENTS]
    if len(y) < 4:
        return 1.0
    chosen, rest = (half - half.mean(0) for half in (y[::2], y[1::2]))
    variance = float(np.linalg.eigvalsh(chosen.T @ chosen / len(chosen))[-1])
    eigenvalues, vectors = np.linalg.eigh(rest.T @ rest / len(rest))
    if variance <= 0 or eigenvalues[-1] <= 0:
        return 1.0
    leading = rest @ vectors[:, -1]
    estimates = (_ratio_and_error(rest, leading, t) for t in _candidates(chosen, variance))
    return max((ratio for ratio, error in estimates if ratio - 1 > STANDARD_ERRORS * error), default=1.0)


def _ratio_and_error(y: NDArray, leading: NDArray, t: NDArray) -> tuple[float, float]:
    """The proxy at t in units of lambda_1, and the standard error that it has for Gaussian rows.

    By the delta method: each row adds to the ratio through E exp(t . y), through the mean that was subtracted and
    through lambda_1. With the variance a of t . y, b = |t|^2 lambda_1 and the squared correlation c of t . y and the
    first component, the variance of the ratio is (4 (e^a - 1 - a) + 2 a^2 (1 - 2 c)) / (N b^2). We use the error of
    Gaussian rows because this is a test of that hypothesis; an error estimated from the rows has less power.

    Parameters
    ----------
    y : array [N, k]
        Centred rows.
    leading : array [N]
        Their first principal component.
    t : array [k]

    Returns
    -------
    ratio : float
        The proxy at t, divided by lambda_1.
    error : float
        Its standard error for Gaussian rows; infinite where e^a has no finite number.

    References
    ----------
    A. W. van der Vaart, Asymptotic Statistics, Cambridge University Press 1998, chapter 3 (the delta method).
    """
    along, largest = y @ t, float(np.square(leading).mean())
    a, b = float(np.square(along).mean()), float(t @ t) * largest
    c = float(along @ leading / len(y)) ** 2 / (a * largest) if a > 0 else 0.0
    with np.errstate(over="ignore"):
        variance = (4 * (np.expm1(a) - a) + 2 * a**2 * (1 - 2 * c)) / (len(y) * b**2)
    return proxy_at(y, t) / largest, float(np.sqrt(max(variance, 0.0)))


def proxy_at(y: NDArray, t: NDArray) -> float:
    """Return 2 ln E exp(t . y) / |t|^2.

    Parameters
    ----------
    y : array [N, k]
        Rows.
    t : array [k]
    """
    return float(_curve(y @ t, np.ones(1))[0] / (t @ t))


def _candidates(y: NDArray, variance: float) -> list[NDArray]:
    """Local maxima of the objective, from starts on the axes and in the directions of the farthest rows."""
    axes = np.eye(y.shape[1])
    far = y[np.argsort(np.square(y).sum(1))[::-1][: _DIRECTIONS * 40 : 40]]
    directions = np.concatenate([axes, -axes, far])
    norms = np.linalg.norm(directions, axis=1)
    directions = directions[norms > 0] / norms[norms > 0, None]
    radii = _RADII / np.sqrt(variance)
    starts = []
    for direction in directions:
        values = _curve(y @ direction, radii) / radii**2
        at = int(values.argmax())
        starts.append((values[at], radii[at] * direction))
    starts.sort(key=lambda item: -item[0])
    return [_climbed(y, t) for _, t in starts[:_REFINED]]


def _climbed(y: NDArray, start: NDArray) -> NDArray:
    """The local maximum that is uphill from `start`."""
    from scipy.optimize import minimize

    def negative(t: NDArray) -> tuple[float, NDArray]:
        projected = y @ t
        top = projected.max()
        weight = np.exp(projected - top)
        total = weight.sum()
        log_mean = top + np.log(total / len(y))
        squared = t @ t
        gradient = 2 * (weight @ y) / total / squared - 4 * log_mean * t / squared**2
        return -2 * log_mean / squared, -gradient

    return minimize(negative, start, jac=True, method="L-BFGS-B", options={"maxiter": 50}).x


def _curve(projected: NDArray, radii: NDArray) -> NDArray:
    """2 ln E exp(r p) of the numbers p [N] at radii r [B]."""
    scaled = radii[:, None] * projected
    top = scaled.max(1)
    return 2 * (top + np.log(np.exp(scaled - top[:, None]).mean(1)))
