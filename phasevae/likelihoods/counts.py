"""Counts of rows with size factors, summed so that likelihoods of counts take few passes over the rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from phasevae.datasets.base import SampleStream
from phasevae.errors import InputError
from phasevae.likelihoods.base import COUNT, check_whole

NONE, TOTAL, LAST_COLUMN = "none", "total", "last-column"
SIZE_FACTORS = (NONE, TOTAL, LAST_COLUMN)

TABLE = 256
"""Up to this count a table holds how often each one occurs. Larger counts take a pass over the rows each time, in which
asymptotic series serve."""

_BINS_PER_OCTAVE = 8

Block = tuple[NDArray, NDArray, NDArray, NDArray]
"""Rows or groups of rows: counts [B, A], zeros among them [B, A], size factor [B, 1] and number of rows [B]."""


@dataclass(frozen=True)
class SizeFactors:
    """Where the size factor of a row comes from."""

    kind: str
    mean_total: float = 1.0  # mean sum of a row, for "total"

    def split(self, block: NDArray) -> tuple[NDArray, NDArray]:
        """Return the counts [B, D] and the size factors [B, 1] of rows."""
        if self.kind == LAST_COLUMN:
            return block[:, :-1], block[:, -1:]
        if self.kind == TOTAL:
            return block, block.sum(1, keepdims=True) / self.mean_total
        return block, np.ones((len(block), 1))


@dataclass(frozen=True)
class CountSummary:
    """What is known about the counts of some features after one pass. Arrays are ordered as `columns` [D]."""

    rows: SampleStream
    factors: SizeFactors
    columns: NDArray
    n: int
    total: NDArray  # [D] sums of counts
    squares: NDArray  # [D] sums of their squares
    products: NDArray  # [D] sums of counts times size factors
    size_sums: tuple[float, float]  # of the size factors and of their squares
    exceeding: NDArray  # [D, TABLE] number of rows with a count above 0, 1, 2, ...
    groups: Block  # rows with nearly the same size factor, summed
    has_tail: NDArray[np.bool_]  # [D] whether counts are above the table

    @property
    def groups_are_exact(self) -> bool:
        return self.factors.kind == NONE

    def blocks(self, columns: NDArray) -> Iterator[Block]:
        """Yield the rows in blocks, for the features of these numbers."""
        chosen = self.columns[columns]
        for block in self.rows.read():
            x, size = self.factors.split(block)
            x = x if chosen.size == x.shape[1] else x[:, chosen]
            yield x, (x == 0).astype(float), size, np.ones(len(x))

    def grouped(self, columns: NDArray) -> Block:
        """Return the groups of rows, for the features of these numbers."""
        x, zeros, size, n = self.groups
        return x[:, columns], zeros[:, columns], size, n

    def rising(self, r: NDArray, columns: NDArray) -> NDArray:
        """Sum ln(1 + j / r) over j below each count, over the rows.

        Parameters
        ----------
        r : array [A]
            Inverse dispersions.
        columns : array [A]
            Numbers of the features.

        Returns
        -------
        array [3, A]
            The sum, and minus its first and second derivative by ln r.
        """
        j = np.arange(TABLE)
        n, ratio = self.exceeding[columns], j / (r[:, None] + j)
        logs = np.log1p(j / r[:, None])
        sums = np.stack([(n * term).sum(1) for term in (logs, ratio, ratio * (1 - ratio))])
        tailed = np.flatnonzero(self.has_tail[columns])
        if tailed.size:
            for block in self.rows.read():
                x = self.factors.split(block)[0][:, self.columns[columns[tailed]]]
                row, column = np.nonzero(x > TABLE)
                terms = _rising_from_table(x[row, column], r[tailed[column]])
                sums[:, tailed] += [np.bincount(column, term, tailed.size) for term in terms]
        return sums


def summarise(rows: SampleStream, factors: SizeFactors, columns: NDArray) -> CountSummary:
    """Sum counts in one pass over the rows.

    Parameters
    ----------
    rows : SampleStream
    factors : SizeFactors
    columns : array [D]
        The features to sum; each must have a count.

    Returns
    -------
    CountSummary

    Raises
    ------
    InputError
        For values that are no counts and for size factors that are not positive.
    """
    n, size_sums, sums = 0, np.zeros(2), np.zeros((3, columns.size))
    histogram = np.zeros((TABLE + 2) * columns.size, dtype=np.int64)
    offsets = (TABLE + 2) * np.arange(columns.size)
    groups: dict[int, list[NDArray]] = {}
    for block in rows.read():
        counts, size = factors.split(block)
        check_whole(counts, n, rows.label, COUNT)
        if factors.kind == LAST_COLUMN:
            _check_positive_sizes(size, n, rows)
        x = counts[:, columns]
        # The largest number of the table stands for all counts above it.
        numbers = np.minimum(x, TABLE + 1).astype(np.int64)
        numbers += offsets
        histogram += np.bincount(numbers.ravel(), minlength=histogram.size)
        sums += x.sum(0), np.einsum("bd,bd->d", x, x), size[:, 0] @ x
        size_sums += size.sum(), np.square(size).sum()
        n += len(x)
        for number, part in _parts(x, size):
            groups[number] = (
                [old + new for old, new in zip(groups[number], part, strict=True)] if number in groups else part
            )
    histogram = histogram.reshape(columns.size, TABLE + 2)
    exceeding = np.cumsum(histogram[:, :0:-1], axis=1)[:, ::-1][:, :TABLE]
    return CountSummary(
        rows=rows,
        factors=factors,
        columns=columns,
        n=n,
        total=sums[0],
        squares=sums[1],
        products=sums[2],
        size_sums=(float(size_sums[0]), float(size_sums[1])),
        exceeding=exceeding.astype(float),
        groups=_stacked(list(groups.values())),
        has_tail=histogram[:, -1] > 0,
    )


def _check_positive_sizes(size: NDArray, first_row: int, rows: SampleStream) -> None:
    if not (size > 0).all():
        row = int(np.argmax(~(size[:, 0] > 0)))
        raise InputError(
            f"{rows.label}: value {size[row, 0]:g} at row {first_row + row}, column {rows.dimension - 1} (counted from "
            f"0), must be a positive size factor"
        )


def _parts(x: NDArray, size: NDArray) -> Iterator[tuple[int, list[NDArray]]]:
    """Yield the number of each group and its sums: counts, zeros, size factors, rows."""
    with np.errstate(divide="ignore"):
        numbers = np.rint(_BINS_PER_OCTAVE * np.log2(np.maximum(size[:, 0], 1e-300))).astype(int)
    present, place = np.unique(numbers, return_inverse=True)
    members = np.zeros((present.size, len(x)))
    members[place, np.arange(len(x))] = 1
    sums = (members @ x, members @ (x == 0).astype(float), members @ size, members.sum(1))
    for i, number in enumerate(present):
        yield int(number), [values[i] for values in sums]


def _stacked(groups: list[list[NDArray]]) -> Block:
    x, zeros, size, n = (np.stack(values) for values in zip(*groups, strict=True))
    return x, zeros, size / n[:, None], n


def _rising_from_table(x: NDArray, r: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """Sum as `CountSummary.rising` over j from TABLE to x, by Stirling's series, for counts [n] above TABLE."""
    steps, z0, z1 = x - TABLE, TABLE + r, x + r
    log = np.log1p(steps / z0)
    logs = (z1 - 0.5) * log - steps + steps * np.log(z0 / r) + _series(z1, z0, 1, 1 / 12) - _series(z1, z0, 3, 1 / 360)
    digamma = log - _series(z1, z0, 1, 0.5) - _series(z1, z0, 2, 1 / 12) + _series(z1, z0, 4, 1 / 120)
    trigamma = _series(z1, z0, 1, 1) + _series(z1, z0, 2, 0.5) + _series(z1, z0, 3, 1 / 6) - _series(z1, z0, 5, 1 / 30)
    return logs, steps - r * digamma, r * digamma + r**2 * trigamma


def _series(z1: NDArray, z0: NDArray, power: int, factor: float) -> NDArray:
    return factor * (z1**-power - z0**-power)
