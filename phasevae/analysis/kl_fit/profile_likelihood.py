"""Profiles of chi2 over one parameter of a form: minimum, 95 % interval, information criterion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phasevae.analysis.kl_fit.forms import Fits, Profile
from phasevae.analysis.sweep_table import Points

LEVEL = 0.95
_ROUNDS = 3


def minimise(profile: Profile, low: float, high: float, n_coarse: int) -> Fits:
    """Fits on a coarse geometric grid over (low, high] and on three finer ones about the minimum, ascending in c."""
    fits = profile(np.geomspace(low, high, n_coarse + 1)[1:])
    for _ in range(_ROUNDS):
        at = int(np.argmin(fits.chi2))
        left, right = fits.c[max(at - 1, 0)], fits.c[min(at + 1, fits.c.size - 1)]
        fits = _joined(fits, profile(np.linspace(left, right, 9)[1:-1]))
    return fits


def profile_interval(profile: Profile, fits: Fits, dof: int) -> list[float | None]:
    """Outermost edges of {c: chi2 <= bound}, None on a side where the grid of `fits` ends inside the set."""
    limit = chi2_bound(fits.chi2.min(), dof)
    inside = np.flatnonzero(fits.chi2 <= limit)

    def edge(i: int, j: int) -> float | None:
        if not 0 <= j < fits.c.size:
            return None
        within, beyond = fits.c[i], fits.c[j]
        for _ in range(_ROUNDS):
            grid = np.linspace(within, beyond, 11)
            out = np.flatnonzero(profile(grid[1:-1]).chi2 > limit)
            first = out[0] + 1 if out.size else 10
            within, beyond = grid[first - 1], grid[first]
        return float((within + beyond) / 2)

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
    limit = chi2_bound(_floor_chi2(points, slope * shape).min(), points.x.size - 3)  # less amplitude, c, floor
    low, high = 0.0, 4 * slope
    for _ in range(_ROUNDS):
        slopes = np.unique(np.append(np.linspace(low, high, 101), slope))
        profile = np.array([_floor_chi2(points, value * shape).min() for value in slopes])
        inside = np.flatnonzero(profile <= limit)
        low, high = slopes[max(inside[0] - 1, 0)], slopes[min(inside[-1] + 1, slopes.size - 1)]
    low, high = (crossing(slopes, profile, limit, inside[end], step) for end, step in ((0, -1), (-1, 1)))
    return {"value": -slope, "ci95": [None if high is None else -high, None if low is None else -low]}


def aicc(chi2: float, n: int, n_parameters: int) -> float:
    """Akaike's criterion at the noise level that the weights stand for, with the correction for `n` trained models;
    infinite without enough of them."""
    k = n_parameters
    return float(chi2 + 2 * k + 2 * k * (k + 1) / (n - k - 1)) if n > k + 1 else float("inf")


def chi2_bound(minimum: float, dof: int) -> float:
    """chi2 at the edge of the interval: with the noise level of the residuals (F distribution) or with the one that the
    weights stand for (chi squared), whichever is wider. Neighbouring residuals share the errors of training, so a
    smooth curve may fit better than it is."""
    from scipy.stats import chi2, f

    return minimum + max(minimum / dof * f.ppf(LEVEL, 1, dof), chi2.ppf(LEVEL, 1))


def crossing(grid: NDArray, profile: NDArray, limit: float, i: int, step: int) -> float | None:
    """Where the profile crosses the limit between grid[i] (inside) and its neighbour; None at the grid's end."""
    j = i + step
    if not 0 <= j < grid.size:
        return None
    return float(grid[i] + (grid[j] - grid[i]) * (limit - profile[i]) / (profile[j] - profile[i]))


def _joined(first: Fits, second: Fits) -> Fits:
    """Both sets of fits, ascending in c."""
    c = np.concatenate([first.c, second.c])
    order = np.argsort(c, kind="stable")
    names = first.parameters
    parameters = {n: np.concatenate([first.parameters[n], second.parameters[n]])[order] for n in names}
    return Fits(c[order], np.concatenate([first.chi2, second.chi2])[order], parameters)


def _floor_chi2(points: Points, kl: NDArray) -> NDArray:
    """chi2 of the curves `kl` [..., n] plus their best floor >= 0. Shape [...]."""
    weight = points.weight**2
    rest = points.kl - kl
    floor = np.maximum((weight * rest).sum(-1, keepdims=True) / weight.sum(), 0.0)
    return (weight * (rest - floor) ** 2).sum(-1)
