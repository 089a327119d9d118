"""Weighted linear least squares of many small problems at once, with and without bounds on the coefficients."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from phasevae.analysis.sweep_table import Points

_RIDGE = 1e-12
"""Added to the diagonal of normal matrices of unit columns, so that equal columns do not make them singular."""


def solve_bounded(points: Points, columns: NDArray, free: bool) -> tuple[NDArray, NDArray]:
    """Fit measured KL by columns and a floor, where the first coefficient and the floor are at least 0.

    The constrained minimum is the best feasible solution of the problems that leave out some constrained columns.

    Parameters
    ----------
    points
        Measured points, n of them.
    columns
        Values of the k columns at the points, shape [..., k, n].
    free
        Whether the second coefficient may be negative.

    Returns
    -------
    coefficients
        Shape [..., k + 1], the floor last.
    chi2
        Weighted sums of squares, shape [...].
    """
    ones = np.ones((*columns.shape[:-2], 1, columns.shape[-1]))
    unit, norm = _normalised(points.weight * np.concatenate([columns, ones], axis=-2))
    target = points.weight * points.kl
    k = columns.shape[-2]
    constrained = [0, k] if free else [*range(k), k]
    best = np.zeros(unit.shape[:-1])
    lowest = np.full(unit.shape[:-2], np.square(target).sum())
    for kept in _subsets(k + 1, constrained):
        part = unit[..., kept, :]
        gram, moments = _normal_equations(part, target)
        solution = np.linalg.solve(gram, moments[..., None])[..., 0]
        chi2 = _chi2(part, solution, target)
        bounded = [i for i, column in enumerate(kept) if column in constrained]
        better = (chi2 < lowest) & np.all(solution[..., bounded] >= 0, axis=-1)
        lowest = np.where(better, chi2, lowest)
        full = np.zeros_like(best)
        full[..., kept] = solution
        best = np.where(better[..., None], full, best)
    return best / norm, lowest


def solve_unconstrained(design: NDArray, target: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """Solve least-squares problems that share their target.

    Parameters
    ----------
    design
        Weighted columns, shape [..., k, n].
    target
        Weighted measurements, shape [n].

    Returns
    -------
    coefficients
        Shape [..., k].
    chi2
        Weighted sums of squares, shape [...].
    inverse
        Inverse normal matrices, which are the coefficients' covariances, shape [..., k, k].
    """
    unit, norm = _normalised(design)
    gram, moments = _normal_equations(unit, target)
    inverse = np.linalg.inv(gram)
    solution = (inverse @ moments[..., None])[..., 0]
    return solution / norm, _chi2(unit, solution, target), inverse / norm[..., :, None] / norm[..., None, :]


def _normalised(design: NDArray) -> tuple[NDArray, NDArray]:
    """Columns of unit length, [..., k, n], and their lengths before, [..., k]; columns of zeros stay."""
    norm = np.sqrt(np.square(design).sum(-1))
    norm = np.where(norm > 0, norm, 1.0)
    return design / norm[..., None], norm


def _normal_equations(unit: NDArray, target: NDArray) -> tuple[NDArray, NDArray]:
    """Normal matrices [..., k, k] and right-hand sides [..., k] of unit columns [..., k, n]."""
    return unit @ np.swapaxes(unit, -1, -2) + _RIDGE * np.eye(unit.shape[-2]), unit @ target


def _chi2(unit: NDArray, solution: NDArray, target: NDArray) -> NDArray:
    """Sums of squares [...] of the residuals."""
    return np.square((solution[..., None, :] @ unit)[..., 0, :] - target).sum(-1)


def _subsets(n: int, constrained: list[int]) -> list[list[int]]:
    """Sets of columns to keep: all free ones and any of the constrained; none is empty."""
    left_out = itertools.chain.from_iterable(
        itertools.combinations(constrained, r) for r in range(len(constrained) + 1)
    )
    kept = [[column for column in range(n) if column not in columns] for columns in left_out]
    return [columns for columns in kept if columns]
