"""Refinement of a finished sweep: further grid points around each transition of its fit.

A transition is an eigenvalue threshold of the fit: the critical variance with its interval, or a smaller eigenvalue of
the cascade. The new points are multiples of a round step (1, 2 or 5 times a power of ten). They have at most four
digits, and most of them stay where they are when the estimate moves by less than a step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phasevae.errors import InputError

STEPS = 3
"""Points on either side of a transition."""

WINDOW = 0.03
"""Smallest half width of the refined range, relative to the transition. Within it relaxation is critically slow: the
measured KL rounds the corner, and a single point says little."""

FINEST_STEP = 1e-3
"""Smallest step relative to the transition: a third of the accuracy to which trained networks locate it."""

SAME = 0.25
"""A new point that is closer to another point than this part of a step repeats it."""


@dataclass(frozen=True)
class Transition:
    """A threshold in the fit's abscissa beta * sigma2, and half its 95 % interval where the fit has one."""

    x: float
    half_width: float | None


def transitions(fit: Mapping[str, Any], limit: int) -> list[Transition]:
    """Return the largest thresholds of a fit in descending order.

    There are none if the fit has no critical variance, or if its interval is open on both sides: its points do not
    determine it, and points around it could miss the transition.

    Eigenvalues of the cascade that lie in the interval of the critical variance, or within FINEST_STEP of the threshold
    above them, are the same transition.

    Parameters
    ----------
    fit : content of fit.json
    limit : largest number of thresholds

    Raises
    ------
    InputError when the fit lacks a key.
    """
    for key in ("critical_variance", "ci95", "models"):
        if key not in fit:
            raise InputError(f"fit: key '{key}' is missing")
    if fit["critical_variance"] is None:
        return []
    critical = float(fit["critical_variance"])
    edges = [abs(edge - critical) for edge in fit["ci95"] if edge is not None]
    if not edges:
        return []
    thresholds = [Transition(critical, max(edges))]
    lowest = critical - max(edges)
    for eigenvalue in sorted(_smaller_eigenvalues(fit), reverse=True):
        if eigenvalue < lowest * (1 - FINEST_STEP):
            thresholds.append(Transition(eigenvalue, None))
            lowest = eigenvalue
    return thresholds[:limit]


def refined_values(thresholds: Sequence[Transition], grid: ArrayLike, unit: float = 1.0) -> list[float]:
    """Return new grid values around the transitions, in ascending order; none repeats another value.

    Only transitions strictly between the ends of the grid count, and no new value lies outside of it.

    Parameters
    ----------
    thresholds : transitions of the fit
    grid : values of the sweep
    unit : abscissa beta * sigma2 of the grid value 1: beta for a grid of sigma2, beta times the largest eigenvalue for
        a grid of ratios
    """
    coarse = np.unique(np.asarray(grid, dtype=float))
    new: list[float] = []
    for transition in thresholds:
        at = transition.x / unit
        if not coarse[0] < at < coarse[-1]:
            continue
        half_width = None if transition.half_width is None else transition.half_width / unit
        step, decimals = _round_step(_step(at, half_width, coarse))
        for value in _multiples(at, step, decimals):
            taken = np.append(coarse, new)
            if coarse[0] < value < coarse[-1] and np.abs(taken - value).min() > SAME * step:
                new.append(value)
    return sorted(new)


def _smaller_eigenvalues(fit: Mapping[str, Any]) -> list[float]:
    """Eigenvalues after the first of the fitted cascade."""
    parameters = (fit["models"].get("cascade") or {}).get("parameters")
    return [float(value) for value in parameters["eigenvalues"][1:]] if parameters else []


def _step(at: float, half_width: float | None, coarse: NDArray) -> float:
    """Distance of new points.

    STEPS of them span the uncertainty, and they are at least twice as close as the two grid values around the
    transition. Without an interval, half that gap is the uncertainty.
    """
    above = int(np.searchsorted(coarse, at))
    gap = float(coarse[above] - coarse[above - 1])
    uncertainty = gap / 2 if half_width is None else half_width
    span = max(uncertainty, WINDOW * at)
    return max(min(span / STEPS, gap / 2), FINEST_STEP * at)


def _round_step(step: float) -> tuple[float, int]:
    """The nearest (in ratio) of 1, 2, 5 times a power of ten, and the decimals of its multiples."""
    power = int(np.floor(np.log10(step)))
    mantissa = min((1, 2, 5, 10), key=lambda choice: abs(np.log(choice * 10.0**power / step)))
    if mantissa == 10:
        mantissa, power = 1, power + 1
    return round(mantissa * 10.0**power, max(0, -power)), max(0, -power)


def _multiples(at: float, step: float, decimals: int) -> list[float]:
    """2 STEPS + 1 multiples of `step` around `at`, rounded so that each is the shortest decimal of its value."""
    middle = round(at / step)
    return [round(k * step, decimals) for k in range(middle - STEPS, middle + STEPS + 1)]
