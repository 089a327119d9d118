"""Which rows are trained with, and in which parts: what makes the order of any number of rows fit in bounded memory.

A permutation of all rows, and the features that balance it (`training.row_order`), take memory in proportion to the
number of rows. Data of more than MOST_ROWS rows are therefore divided into chapters: random samples of the data, of
about CHAPTER_ROWS rows each, which are shuffled and balanced one by one. A chapter's rows are computed, not stored.
"""

from __future__ import annotations

import torch
from torch import Tensor

from phasevae.errors import InputError
from phasevae.kernels import noise

MOST_ROWS = noise.LARGEST_PERMUTATION
"""Data of up to this number of rows are one chapter."""

CHAPTER_ROWS = 2**18
"""The rows of a chapter where there are several: its sampling noise, 1 / sqrt(CHAPTER_ROWS), is 0.2 %."""


class Chapters:
    """The chapters of the rows to train with. They depend on the number of rows and the held-out rows alone.

    Of any C consecutive rows of the data that begin at a multiple of C, each of the C chapters has one, at random. So a
    chapter is spread evenly over data that are sorted, and is no regular sample of data that repeat.

    Parameters
    ----------
    n_samples : int
        Rows of the data.
    held_out : Tensor
        int64, the rows that are not trained with, ascending.

    Attributes
    ----------
    sizes : Tensor [C]
        int64, the rows of each chapter.
    """

    def __init__(self, n_samples: int, held_out: Tensor | None = None):
        self._n_samples = n_samples
        self._count = 1 if n_samples <= MOST_ROWS else -(-n_samples // CHAPTER_ROWS)
        strips = -(-n_samples // self._count)
        self._turns = self._drawn_turns(strips)
        self._trained = None
        self.sizes = torch.full((self._count,), strips)
        missing = torch.arange(n_samples, strips * self._count)
        if held_out is not None and held_out.numel():
            self._trained = torch.ones(n_samples, dtype=torch.bool)
            self._trained[held_out] = False
            missing = torch.cat((missing, held_out))
        self.sizes -= torch.bincount(self._chapter_of(missing), minlength=self._count)

    def _drawn_turns(self, strips: int) -> Tensor:
        if self._count == 1:
            return torch.zeros(strips, dtype=torch.int64)
        keys = torch.tensor([noise.key("order", "chapters")])
        return noise.words(keys, torch.zeros(1, dtype=torch.int64), strips, 0)[0, 0] % self._count

    def _chapter_of(self, rows: Tensor) -> Tensor:
        strip = rows // self._count
        return (rows - strip * self._count - self._turns[strip]) % self._count

    def __len__(self) -> int:
        return self._count

    @property
    def n_rows(self) -> int:
        """The number of rows to train with."""
        return int(self.sizes.sum())

    def rows(self, chapter: int) -> Tensor:
        """Return the row numbers of a chapter, int64, ascending."""
        strips = torch.arange(len(self._turns))
        rows = strips * self._count + (self._turns + chapter) % self._count
        rows = rows[rows < self._n_samples]
        return rows if self._trained is None else rows[self._trained[rows]]


def held_out_rows(n_samples: int, holdout: float) -> Tensor:
    """Choose the rows to hold out. The choice depends on the size of the data alone.

    Parameters
    ----------
    n_samples : int
        Rows of the data.
    holdout : float
        The fraction to hold out.

    Returns
    -------
    Tensor
        int64, ascending.

    Raises
    ------
    InputError
        If a side that must have rows would have none.
    """
    n_held = round(holdout * n_samples)
    if holdout > 0 and not 0 < n_held < n_samples:
        raise InputError(f"holdout: {holdout} of {n_samples} samples is {n_held} rows, must leave rows on both sides")
    if n_held == 0:
        return torch.empty(0, dtype=torch.int64)
    stream, held = noise.key("order", "holdout"), []
    # Part by part, because a permutation takes 120 bytes a row.
    for part, start in enumerate(range(0, n_samples, MOST_ROWS)):
        end = min(start + MOST_ROWS, n_samples)
        count = end * n_held // n_samples - start * n_held // n_samples
        held.append(start + noise.permutation(stream, part, end - start)[:count].sort().values)
    return torch.cat(held)
