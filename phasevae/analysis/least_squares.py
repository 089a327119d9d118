"""TODO."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from phasevae.analysis.sweep_table import Points


def solve_bounded(points: Points, columns: NDArray, free: bool) -> tuple[NDArray, NDArray]:
    """Weighted least squares of `columns` [..., k, n] and a floor; the first coefficient and the floor are >= 0, a
    second column's is `free`. Returns coefficients [..., k + 1] (floor last) and chi2 [...].

    The constrained minimum is the best feasible one of the problems with some constrained coefficients left out.
    """
    ones = np.ones((*columns.shape[:-2], 1, columns.shape[-1]))
    design = points.weight * np.concatenate([columns, ones], axis=-2)
    target = points.weight * points.kl
    norm = np.sqrt(np.square(design).sum(-1))
    norm = np.where(norm > 0, norm, 1.0)
    unit = design / norm[..., None]
    k = columns.shape[-2]
    constrained = [0, k] if free else [*range(k), k]
    best = np.zeros(design.shape[:-1])
    lowest = np.full(design.shape[:-2], np.square(target).sum())
    for kept in _subsets(k + 1, constrained):
        part = unit[..., kept, :]
        gram = part @ np.swapaxes(part, -1, -2) + 1e-12 * np.eye(len(kept))
        solved = np.linalg.solve(gram, (part @ target)[..., None])[..., 0]
        chi2 = np.square((solved[..., None, :] @ part)[..., 0, :] - target).sum(-1)
        bound = [i for i, column in enumerate(kept) if column in constrained]
        better = (chi2 < lowest) & np.all(solved[..., bound] >= 0, axis=-1)
        lowest = np.where(better, chi2, lowest)
        full = np.zeros_like(best)
        full[..., kept] = solved
        best = np.where(better[..., None], full, best)
    return best / norm, lowest


def _subsets(n: int, constrained: list[int]) -> list[list[int]]:
    """Sets of columns to keep: all free ones and any of the constrained; none empty."""
    kept = []
    for left_out in itertools.chain.from_iterable(
        itertools.combinations(constrained, r) for r in range(len(constrained) + 1)
    ):
        columns = [column for column in range(n) if column not in left_out]
        if columns:
            kept.append(columns)
    return kept


def solve_unconstrained(design: NDArray, target: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """Least squares for designs [B, k, n]: coefficients [B, k], chi2 [B], inverse of the normal matrix [B, k, k]."""
    norm = np.sqrt(np.square(design).sum(-1))
    norm = np.where(norm > 0, norm, 1.0)
    unit = design / norm[..., None]
    inverse = np.linalg.inv(unit @ np.swapaxes(unit, -1, -2) + 1e-12 * np.eye(design.shape[1]))
    solved = (inverse @ (unit @ target)[..., None])[..., 0]
    chi2 = np.square((solved[:, None, :] @ unit)[:, 0] - target).sum(-1)
    return solved / norm, chi2, inverse / norm[:, :, None] / norm[:, None, :]
