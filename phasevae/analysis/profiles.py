"""Profiles of chi2 over one parameter of a form: minimum, 95 % interval, information criterion."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phasevae.analysis.forms import Points, Profile, Solution

LEVEL = 0.95


def minimise(profile: Profile, low: float, high: float, n_coarse: int) -> dict[float, Solution]:
    """Solutions on a coarse geometric grid over (low, high] and on three finer ones about the minimum."""
    grid = np.geomspace(low, high, n_coarse + 1)[1:]
    solutions = {float(c): profile(float(c)) for c in grid}
    for _ in range(3):
        known = np.array(sorted(solutions))
        at = int(np.argmin([solutions[c].chi2 for c in known]))
        left, right = known[max(at - 1, 0)], known[min(at + 1, known.size - 1)]
        solutions |= {float(c): profile(float(c)) for c in np.linspace(left, right, 9)[1:-1]}
    return solutions


def interval(
    chi2: Callable[[float], float], solutions: Mapping[float, Solution], minimum: float, dof: int
) -> list[float | None]:
    """Outermost edges of {chi2 <= bound}, None on a side where the grid ends inside the set."""
    from scipy.optimize import brentq

    bound = _bound(minimum, dof)
    grid = sorted(solutions)
    inside = [i for i, c in enumerate(grid) if solutions[c].chi2 <= bound]

    def edge(i: int, j: int) -> float | None:
        if not 0 <= j < len(grid):
            return None
        # The two ends straddle the bound on the grid; a refit from other starts may put one across.
        ends = [chi2(grid[k]) - bound for k in (i, j)]
        if ends[0] * ends[1] >= 0:
            return grid[i]
        return float(brentq(lambda c: chi2(c) - bound, grid[i], grid[j], xtol=1e-6 * grid[i]))

    return [edge(inside[0], inside[0] - 1), edge(inside[-1], inside[-1] + 1)]


def slope_below(points: Points, model: Mapping[str, Any]) -> dict[str, Any]:
    """dKL/dx at c from below, -a / c of a fitted log form, with its profile interval over c and the floor."""
    parameters, (left, right) = model["parameters"], model["ci95"]
    slope = float(parameters["amplitude"]) / parameters["critical_variance"]
    # The 95 % set of (c, slope) lies over the interval of c, so the profile needs no c beyond it.
    left = points.x.min() if left is None else left
    right = points.x.max() if right is None else right
    c = np.append(np.linspace(left, right, 200), parameters["critical_variance"])[:, None]
    shape = c * np.log(np.maximum(c / points.x, 1.0))
    bound = _bound(_floor_chi2(points, slope * shape).min(), points.x.size - 3)  # less amplitude, c, floor
    low, high = 0.0, 4 * slope
    for _ in range(3):
        slopes = np.unique(np.append(np.linspace(low, high, 101), slope))
        profile = np.array([_floor_chi2(points, value * shape).min() for value in slopes])
        inside = np.flatnonzero(profile <= bound)
        low, high = slopes[max(inside[0] - 1, 0)], slopes[min(inside[-1] + 1, slopes.size - 1)]
    low, high = (_crossing(slopes, profile, bound, inside[end], step) for end, step in ((0, -1), (-1, 1)))
    return {"value": -slope, "ci95": [None if high is None else -high, None if low is None else -low]}


def aicc(chi2: float, n: int, n_parameters: int) -> float:
    """Small-sample Akaike criterion with the noise level free; infinite without enough points."""
    k = n_parameters + 1
    if n <= k + 1:
        return float("inf")
    return float(n * np.log(max(chi2, 1e-9) / n) + 2 * k + 2 * k * (k + 1) / (n - k - 1))


def _crossing(grid: NDArray, profile: NDArray, bound: float, i: int, step: int) -> float | None:
    """Where the profile crosses the bound between grid[i] (inside) and its neighbour; None at the grid's end."""
    j = i + step
    if not 0 <= j < grid.size:
        return None
    return float(grid[i] + (grid[j] - grid[i]) * (bound - profile[i]) / (profile[j] - profile[i]))


def _floor_chi2(points: Points, kl: NDArray) -> NDArray:
    """chi2 of the curves `kl` [..., n] plus their best floor >= 0. Shape [...]."""
    weight = points.weight**2
    rest = points.kl - kl
    floor = np.maximum((weight * rest).sum(-1, keepdims=True) / weight.sum(), 0.0)
    return (weight * (rest - floor) ** 2).sum(-1)


def _bound(minimum: float, dof: int) -> float:
    """chi2 at the edge of the interval. The noise level is that of the residuals, but never below the scatter that the
    weights stand for: neighbouring residuals share the errors of training, so a smooth curve fits better than it is."""
    from scipy.stats import f

    return minimum + max(minimum / dof, 1.0) * f.ppf(LEVEL, 1, dof)
