"""Losses with kinks: their curvature is a finite difference, and the criterion depends on its width.

An absolute error has a second derivative of zero almost everywhere. Its mean over the samples is smooth where the data
have a density, and its curvature is a difference of the mean gradient over some width. The right width is how far the
outputs of a network spread around the best constant one, which grows from zero as a latent comes to life. Where
densities change little over a standard deviation, no width matters.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

KINK_WIDTH = 0.1
"""Where a loss has a kink, its curvature is a finite difference over this part of a standard deviation."""

WIDTHS = (0.03, KINK_WIDTH, 0.3, 1.0)
"""The criterion is evaluated for these parts of a standard deviation."""

LARGEST_SPREAD = 1.2
"""The criterion does not decide where it changes by more than this factor between `WIDTHS`."""

FEWEST = 100
"""A width is left out where fewer samples than this have their kink within it. The slope would be known to no better
than 10 %; that of the next width takes its place."""

MOST_ROWS = 2048
"""The dependence on the width is measured on this number of rows, evenly spread."""

_MOST_VALUES = 2**24
"""They hold at most this number of scores."""


def rows_for_widths(n_scores: int) -> int:
    """Return on how many rows to measure how the criterion depends on the width."""
    return max(64, min(MOST_ROWS, _MOST_VALUES // n_scores))


def filled(slopes: NDArray, counts: NDArray) -> NDArray:
    """Return slopes over WIDTHS with those that are known from too few samples replaced by that of the next width.

    Parameters
    ----------
    slopes : array [W, P]
    counts : array [W, P]
        Number of samples that have their kink within the width.
    """
    found = slopes.copy()
    for narrow in range(len(found) - 2, -1, -1):
        found[narrow] = np.where(counts[narrow] >= FEWEST, found[narrow], found[narrow + 1])
    return found


def relative_range(whitened: NDArray, units: NDArray) -> tuple[float, float]:
    """Return the smallest and the largest critical weight over the widths, relative to the predicted one.

    Parameters
    ----------
    whitened : array [n, P]
        Centred scores, in units of the curvature of the prediction.
    units : array [W, P]
        What they are to be multiplied with for the curvature over each of WIDTHS.
    """
    ratios = np.array([_largest(whitened * unit) for unit in units]) / _largest(whitened)
    return min(1.0, float(ratios.min())), max(1.0, float(ratios.max()))


def units_of(curvature: NDArray, over_widths: NDArray) -> NDArray:
    """Return the units [W, P] of `relative_range` from the curvatures of a prediction [P] and over WIDTHS [W, P]."""
    known = (curvature > 0) & (over_widths > 0)
    return np.sqrt(np.where(known, curvature / np.where(known, over_widths, 1.0), 1.0))


def _largest(scores: NDArray) -> float:
    """The square of the largest singular value."""
    from scipy.sparse.linalg import svds

    if min(scores.shape) <= 2:
        return float(np.linalg.norm(scores, 2) ** 2)
    return float(svds(scores, 1, return_singular_vectors=False, random_state=0)[0] ** 2)
