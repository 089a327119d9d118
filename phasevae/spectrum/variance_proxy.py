"""The sub-Gaussian variance proxy of the data, up to which an active state can survive.

P = sup_t 2 ln E exp(t . (x - mean)) / |t|^2 is at least lambda_1. For beta * sigma2 >= P the collapsed state is the
global optimum. P = lambda_1 for Gaussian, uniform and symmetric two-point data, whose collapse can only be continuous.
If P > lambda_1, active and collapsed state may coexist for beta * sigma2 between lambda_1 and P.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

COEXISTENCE_RATIO = 1.05
"""Collapsed and active states may coexist if the variance proxy exceeds lambda_1 by this factor. The proxy is an
estimate, and a smaller excess may be its error."""

N_COMPONENTS = 8
MOST_ROWS = 65_536
"""More rows than this are thinned. One half of the rows chooses t, the other half gives the value."""

_DIRECTIONS = 24
_RADII = np.geomspace(0.05, 30.0, 60)
_REFINED = 4


def variance_proxy_ratio(y: NDArray) -> float:
    """Estimate P / lambda_1, at least 1, from principal components y [N, k]; the leading N_COMPONENTS are used.

    t is chosen on every other row, and P and lambda_1 are those of the remaining rows, so that t does not fit a few
    extreme rows. The estimate is a lower bound up to the sampling error. It is 1 for less than four or constant rows.
    """
    y = np.asarray(y, dtype=float)[:: max(1, -(-len(y) // MOST_ROWS)), :N_COMPONENTS]
    if len(y) < 4:
        return 1.0
    chosen, rest = (half - half.mean(0) for half in (y[::2], y[1::2]))
    variance, of_rest = (float(np.linalg.eigvalsh(half.T @ half / len(half))[-1]) for half in (chosen, rest))
    if variance <= 0 or of_rest <= 0:
        return 1.0
    return max(1.0, max(proxy_at(rest, t) for t in _candidates(chosen, variance)) / of_rest)


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
