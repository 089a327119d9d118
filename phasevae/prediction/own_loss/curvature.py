"""Scores and second derivative of a loss at a constant output, streamed over the rows.

All derivatives are those of one sample's part in the loss as it is printed for a batch of the size that training uses:
the loss is the mean of these parts over the batch, or their sum where everything is summed over the batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from phasevae.likelihoods.kinks import KINK_WIDTH, WIDTHS
from phasevae.prediction.own_loss.function import LossFunction
from phasevae.prediction.own_loss.probes import Scaling

_WIDE = 3.0
"""The mean gradient over a width of an output changes by at most this many standard deviations of its scores."""

_NARROWINGS = 20
"""Steps in which widths are made narrower."""

_KINKED = 0.1
"""A second derivative counts as that of a kinked loss when it is off by this part of a finite difference."""

DENSE = 1024
"""The second derivative of a loss that couples more outputs is not computed as a matrix."""

_VALUES = 2**22
"""A batch holds at most this number of outputs, if a row does not hold more."""

_WORK = 5e8
"""The second derivative of blocks of several outputs is computed on rows that hold about this number of its entries."""

_INSIDE = 1e-12
"""Probabilities and rates stay this far from the ends of their domain."""

_SAME = 1e-6
"""The curvature does not depend on the sample where that of two samples differs by less than this part."""


@dataclass(frozen=True)
class Derivatives:
    """A loss function on all rows of its target."""

    loss: LossFunction
    scaling: Scaling
    batch_size: int
    unit: float  # the batch size where the loss is a mean over the batch, 1 where it is a sum
    blocks: NDArray  # [blocks, k], the outputs that are coupled with each other
    widths: NDArray  # [P], of the outputs, for finite differences
    held: NDArray  # [P], whether the output stays at its start: its feature never varies, and may have no optimum
    domain: tuple[NDArray, NDArray]  # [P] each, the least and the largest outputs that the loss takes

    def gradients(self, constant: NDArray, rows: NDArray) -> NDArray:
        """Return the gradient of each of some rows by the outputs, [b, P]."""
        return self.loss.gradient_at(constant, rows) * self.factor(len(rows))

    def mean_gradient(self, constant: NDArray, rows: NDArray | None = None) -> NDArray:
        """Return the mean gradient [P] over some rows, by default over all of the data."""
        total, n = np.zeros(self.loss.n_outputs), 0
        for block in self._blocks_of(rows):
            total += self.gradients(constant, block).sum(0)
            n += len(block)
        return total / n

    def curvature(self, constant: NDArray, rows: NDArray | None = None) -> NDArray:
        """Return the mean second derivative in blocks [blocks, k, k], over some rows or all of the data."""
        k = self.blocks.shape[1]
        directions = np.zeros((self.loss.n_outputs, k))
        for column in range(k):
            directions[self.blocks[:, column], column] = 1
        return self._in_blocks(self.products(constant, directions, rows))

    def products(self, constant: NDArray, directions: NDArray, rows: NDArray | None = None) -> NDArray:
        """Return products of the mean second derivative with directions [P, k], over some rows or all of the data."""
        total, n, k = np.zeros(directions.shape), 0, directions.shape[1]
        for block in self._blocks_of(rows, k):
            total += self.loss.hessian_at(constant, block, directions) * self.factor(k * len(block))
            n += len(block)
        return total / n

    def smoothed_curvature(self, constant: NDArray, part: float = KINK_WIDTH, rows: NDArray | None = None) -> NDArray:
        """Return the curvature by finite differences of the mean gradient over a part of each output's width."""
        columns, spans = [], np.zeros(self.loss.n_outputs)
        for column in range(self.blocks.shape[1]):
            change = np.zeros(self.loss.n_outputs)
            numbers = self.blocks[:, column]
            change[numbers] = part * self.widths[numbers]
            low, high = self.around(constant, change)
            spans += high - low
            columns.append(self.mean_gradient(high, rows) - self.mean_gradient(low, rows))
        found = self._in_blocks(np.stack(columns, 1))
        found /= spans[self.blocks][:, None, :]
        return 0.5 * (found + found.transpose(0, 2, 1))

    def with_narrower_widths(self, constant: NDArray, rows: NDArray) -> Derivatives:
        """Return the same with widths that suit the outputs.

        Outputs of squared and absolute errors are as wide as the data. Log rates, logits and log variances are not: a
        difference over the width of the data would miss their curvature. Over the width of an output the mean gradient
        changes about as much as the scores of the samples differ.
        """
        scores = self.gradients(constant, rows).std(0)
        found, part, wide = self, WIDTHS[0], np.zeros(scores.size, dtype=bool)
        for _ in range(_NARROWINGS):
            change = np.abs(found.gradient_change(constant, part * found._some_direction(), rows))
            wide = (scores > 0) & (change > _WIDE * part * scores)
            if not wide.any():
                break
            factor = np.where(wide, part * scores / np.where(wide, change, 1.0), 1.0)
            found = replace(found, widths=found.widths * np.maximum(factor, 0.1))
        # What changes as much over any width is a jump.
        return replace(found, widths=np.where(wide, self.widths, found.widths))

    def gradient_change(self, constant: NDArray, change: NDArray, rows: NDArray) -> NDArray:
        """Return how much the mean gradient changes over a change [P] of the outputs around a constant one, [P]."""
        low, high = self.around(constant, change)
        with np.errstate(invalid="ignore"):  # far from the optimum gradients may be infinite
            return self.mean_gradient(high, rows) - self.mean_gradient(low, rows)

    def around(self, constant: NDArray, change: NDArray) -> tuple[NDArray, NDArray]:
        """Return the outputs half a change [P] below and above a constant one, within the domain."""
        half = 0.5 * change
        return tuple(
            np.where(change == 0, constant, np.clip(outputs, *self.domain))
            for outputs in (constant - half, constant + half)
        )

    def _some_direction(self) -> NDArray:
        """A change of every output by about its width, [P]."""
        return self.widths * np.random.default_rng(0).uniform(0.5, 1.5, self.widths.size)

    def has_kinks(self, constant: NDArray, rows: NDArray) -> bool:
        """Return whether the second derivative misses what a finite difference of the gradient shows."""
        low, high = self.around(constant, WIDTHS[0] * self._some_direction())
        smooth = self.gradient_change(constant, WIDTHS[0] * self._some_direction(), rows)
        exact = self.products(constant, (high - low)[:, None], rows)[:, 0]
        size = np.maximum(np.abs(exact), np.abs(smooth))
        # Where outputs are coupled, terms cancel in some of them.
        least = (0.1 if self.blocks.shape[1] > 1 else 1e-9) * size.max()
        off = np.abs(exact - smooth) > _KINKED * np.maximum(size, least)
        # Outputs with the same score in every sample do not count.
        varying = np.ptp(self.gradients(constant, rows), axis=0) > 0
        return bool(varying.any() and np.mean(off[varying]) > 0.05)

    def curvature_rows(self, constant: NDArray, few: NDArray) -> NDArray | None:
        """Return the rows on which to compute the curvature, or None for all.

        One row is enough where the curvature does not depend on the sample. Large blocks are costly, and are computed
        on a part of the rows.
        """
        k = self.blocks.shape[1]
        if k <= 2:
            return None
        direction = np.random.default_rng(1).standard_normal((self.loss.n_outputs, 1))
        one, other = (self.products(constant, direction, few[[i]]) for i in (0, -1))
        if np.abs(one - other).max() <= (1e-3 if self.loss.single else _SAME) * np.abs(one).max():
            return few[:1]
        return self.loss.target.thinned(max(64, int(_WORK / (k * self.loss.n_outputs))))

    def _in_blocks(self, columns: NDArray) -> NDArray:
        """Products [P, k] with the k-th output of every block, as [blocks, k, k]."""
        return columns[self.blocks]

    def factor(self, rows: int) -> float:
        """What turns derivatives of a batch of some rows into those of a sample's part."""
        return self.scaling.reconstruction_factor(rows, self.batch_size) * self.unit

    def chunks(self) -> Iterator[NDArray]:
        """Yield all rows of the target in blocks for differentiation."""
        return self._blocks_of(None)

    def _blocks_of(self, rows: NDArray | None, copies: int = 1) -> Iterator[NDArray]:
        size = max(1, _VALUES // (copies * self.loss.n_outputs))
        for block in self.loss.target.stream.read() if rows is None else (rows,):
            for start in range(0, len(block), size):
                yield block[start : start + size]


def domain_of(loss: LossFunction, start: NDArray, rows: NDArray) -> tuple[NDArray, NDArray]:
    """Return the least and the largest outputs that a loss takes, [P] each, of every head by itself.

    Heads are probabilities, positive numbers or any numbers.

    Parameters
    ----------
    loss : LossFunction
    start : array [P]
        An output at which the loss is finite.
    rows : array [b, D]
        A few rows of the target.
    """
    low, high = np.full(loss.n_outputs, -np.inf), np.full(loss.n_outputs, np.inf)
    first = 0
    for size in loss.sizes:
        head = slice(first, first + size)
        for bounds, outside, inside in ((low, -1.0, _INSIDE), (high, 2.0, 1 - _INSIDE)):
            moved = start.copy()
            moved[head] = outside
            if not np.isfinite(loss.loss_at(moved, rows)):
                bounds[head] = inside
        first += size
    return low, high
