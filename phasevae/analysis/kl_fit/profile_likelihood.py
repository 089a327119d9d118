"""Profiles of chi2 over one parameter of a form: minimum, 95 % interval, information criterion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phasevae.analysis.kl_fit.forms import Fits, Profile
from phasevae.analysis.records import Estimate, Interval
from phasevae.analysis.sweep_table import Points

LEVEL = 0.95
_ROUNDS = 3


def minimise(profile: Profile, low: float, high: float, n_coarse: int) -> Fits:
    """Fit on a coarse geometric grid over (low, high], and on three finer ones about the edges of the minimum.

    It is flat where the points do not tell critical points apart.

    Parameters
    ----------
    profile
        Best fits at given critical points.
    low, high
        Range of the critical point.
    n_coarse
        Points of the coarse grid.

    Returns
    -------
    Fits
        Of all grids, ascending in c.
    """
    fits = profile(np.geomspace(low, high, n_coarse + 1)[1:])
    for _ in range(_ROUNDS):
        first, last = fits.ties()
        left, right = fits.c[max(first - 1, 0)], fits.c[min(last + 1, fits.c.size - 1)]
        edges = [np.linspace(left, fits.c[first], 6)[1:-1], np.linspace(fits.c[last], right, 6)[1:-1]]
        fits = _joined(fits, profile(np.concatenate([*edges, [(fits.c[first] + fits.c[last]) / 2]])))
    return fits


def profile_interval(profile: Profile, fits: Fits, dof: int) -> Interval:
    """Find the outermost edges of {c: chi2 <= bound}.

    Parameters
    ----------
    profile
        Best fits at given critical points.
    fits
        Fits on a grid about the minimum; an edge is None where this grid ends inside the set.
    dof
        Degrees of freedom.
    """
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


def slope_below(points: Points, parameters: Mapping[str, Any], ci95: Interval) -> Estimate:
    """Estimate dKL/dx at c from below, -a / c of a fitted log form, with its profile interval over c and the floor.

    Parameters
    ----------
    points
        Points of the form's window.
    parameters
        Fitted parameters of the log form.
    ci95
        Interval of its critical point.
    """
    left, right = ci95
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
    return Estimate(-slope, [None if high is None else -high, None if low is None else -low])


def aicc(chi2: float, n: int, n_parameters: int) -> float:
    """Return Akaike's information criterion at the noise level of the weights, corrected for small samples.

    Parameters
    ----------
    chi2
        Weighted sum of squares.
    n
        Number of trained models; the criterion is infinite for too few.
    n_parameters
        Number of fitted parameters.
    """
    k = n_parameters
    return float(chi2 + 2 * k + 2 * k * (k + 1) / (n - k - 1)) if n > k + 1 else float("inf")


def chi2_bound(minimum: float, dof: int) -> float:
    """Return chi2 at the edge of the 95 % interval.

    The noise level is that of the residuals (F distribution) or that of the weights (chi squared), whichever gives
    the wider interval: neighbouring residuals share errors of training, so the fit of a smooth curve looks too good.

    Parameters
    ----------
    minimum
        Smallest chi2.
    dof
        Degrees of freedom.
    """
    from scipy.stats import chi2, f

    return minimum + max(minimum / dof * f.ppf(LEVEL, 1, dof), chi2.ppf(LEVEL, 1))


def crossing(grid: NDArray, profile: NDArray, limit: float, i: int, step: int) -> float | None:
    """Interpolate where a profile crosses the limit between grid[i], which is inside, and grid[i + step].

    Parameters
    ----------
    grid
        Values of the parameter.
    profile
        The chi2 at these values.
    limit
        The chi2 at the edge of the interval.
    i
        Index of the last value inside.
    step
        1 upwards, -1 downwards.

    Returns
    -------
    float or None
        None if the grid ends at grid[i].
    """
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
