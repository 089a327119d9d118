"""Weights of a sweep in Python: checked, or by default around the predicted thresholds and evenly between."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from phasevae.artifacts.table_schemas import PLANNED
from phasevae.errors import InputError

AROUND = (0.85, 0.92, 0.96, 0.98, 1.02, 1.04, 1.08, 1.15)
"""Multiples of a threshold. None is closer than 2 %: there relaxation is critically slow, and a point says little."""

MOST_THRESHOLDS = 4
"""Thresholds with weights of their own, the largest first."""

_LOWEST, _LARGEST_RATIO, _SAME = 0.6, 1.2, 0.015


def default_weights(thresholds: Sequence[float]) -> list[float]:
    """Return weights for a sweep over the largest thresholds.

    Parameters
    ----------
    thresholds : sequence of float
        Predicted weights at which latents die, in descending order.

    Returns
    -------
    list of float
        Ascending, with four digits. They reach from below the smallest of these thresholds to above the largest.
        Neighbours differ by 1.5 % at least and by a fifth at most; thresholds closer than that share their weights.
    """
    chosen = list(thresholds[:MOST_THRESHOLDS])
    marks = sorted({_LOWEST * chosen[-1]} | {factor * value for value in chosen for factor in AROUND})
    kept: list[float] = []
    for mark in marks:
        if kept and mark < (1 + _SAME) * kept[-1]:
            continue
        while kept and mark > _LARGEST_RATIO * kept[-1]:
            kept.append(_LARGEST_RATIO * kept[-1])
            if mark < (1 + _SAME) * kept[-1]:
                break
        else:
            kept.append(mark)
    return [float(f"{value:.4g}") for value in kept]


def checked_weights(weights: Sequence[float]) -> list[float]:
    """Return the weights that a user gives in ascending order. Raises InputError that names the wrong one."""
    try:
        values = sorted(float(weight) for weight in weights)
    except (TypeError, ValueError):
        raise InputError(f"weights: {weights!r}, must be a list of numbers") from None
    if not values:
        raise InputError("weights: [], must not be empty")
    for value in values:
        if not 0 < value < math.inf:
            raise InputError(f"weights: {value:g}, must be above 0 and finite")
    for value, following in itertools.pairwise(values):
        if value == following:
            raise InputError(f"weights: {value} is given twice; remove one")
    return values


def check_range(weights: Sequence[float], unit: float) -> None:
    """Check that a sweep over these weights can be planned.

    Parameters
    ----------
    weights : sequence of float
    unit : float
        What a weight of 1 is as beta * sigma2.

    Raises
    ------
    InputError
        For a weight out of range. It names the weight.
    """
    low, high = (limit / unit for limit in PLANNED)
    for weight in weights:
        if not low <= weight <= high:
            raise InputError(f"weights: {weight:g}, must be {low:.3g} to {high:.3g}")
