"""Where a finished sweep should be looked at more closely: further grid points about each transition that it shows.

A transition is an eigenvalue threshold of the fit: the critical variance with its interval, and the smaller
eigenvalues of the cascade. About each, points are multiples of a round step (1, 2 or 5 times a power of ten), so
they have at most four digits, and an estimate that moves by less than a step leaves most of them where they were.
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
"""Least half width of the refined range, relative to the transition: where relaxation is critically slow, so that
the measured KL rounds the corner and a single point says little."""

FINEST_STEP = 1e-3
"""Least step relative to the transition: a third of what trained networks locate it to."""

SAME = 0.25
"""A new point this part of a step away from another one repeats it."""


@dataclass(frozen=True)
class Transition:
    """A threshold in the fit's abscissa beta * sigma2, and half its 95 % interval where the fit has one."""

    x: float
    half_width: float | None


def transitions(fit: Mapping[str, Any], limit: int) -> list[Transition]:
    """The `limit` largest thresholds of a fit (the content of fit.json), in descending order; none without a
    critical variance.

    Eigenvalues of the cascade that lie in the critical variance's interval, or closer to the one before than
    FINEST_STEP, are the same transition. Raises InputError when the fit lacks a key.
    """
    for key in ("critical_variance", "ci95", "models"):
        if key not in fit:
            raise InputError(f"fit: key '{key}' is missing")
    if fit["critical_variance"] is None:
        return []
    critical = float(fit["critical_variance"])
    edges = [abs(edge - critical) for edge in fit["ci95"] if edge is not None]
    found = [Transition(critical, max(edges, default=None))]
    lowest = critical - (found[0].half_width or 0.0)
    for eigenvalue in sorted(_smaller_eigenvalues(fit), reverse=True):
        if eigenvalue < lowest * (1 - FINEST_STEP):
            found.append(Transition(eigenvalue, None))
            lowest = eigenvalue
    return found[:limit]


def refined_values(found: Sequence[Transition], grid: ArrayLike, unit: float = 1.0) -> list[float]:
    """New grid values about the transitions, ascending; none repeats another or one of `grid`.

    `grid` holds the sweep's own values; `unit` is what one of them is in the transitions' abscissa (beta for a
    grid of sigma2, beta times the largest eigenvalue for one relative to it). Only transitions strictly between
    the grid's ends count, and no value lies beyond these ends: what is outside the sweep was not asked for.
    """
    coarse = np.unique(np.asarray(grid, dtype=float))
    new: list[float] = []
    for transition in found:
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
    """Distance of new points: STEPS of them span the uncertainty, and they are at least twice as close as the
    grid's two values about the transition. Without an interval, half that gap is the uncertainty."""
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
    """2 STEPS + 1 multiples of `step` about `at`, rounded so that each is the shortest decimal of its value."""
    middle = round(at / step)
    return [round(k * step, decimals) for k in range(middle - STEPS, middle + STEPS + 1)]
