"""Means over rows with standard errors, from blocks of rows, in bounded memory."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

_PAGE = 2**20
"""Rows whose numbers are kept until they are averaged."""


class RowMeans:
    """Means of several numbers per row.

    The rows of a page are averaged at once, and pages are joined by their means and sums of squared deviations, so the
    variance of numbers far from zero keeps its digits. A page is one block of memory from the start: small tensors kept
    between the large ones of a measurement would leave the heap in pieces.

    Parameters
    ----------
    names : sequence of str
        The numbers of a row.
    n_rows : int
        How many rows will be added.
    device : torch.device
    """

    def __init__(self, names: Sequence[str], n_rows: int, device: torch.device | str = "cpu"):
        self.n_rows = 0
        self._names = list(names)
        self._page = torch.empty(len(self._names), min(n_rows, _PAGE), dtype=torch.float64, device=device)
        self._filled = 0
        self._means = dict.fromkeys(names, 0.0)
        self._squares = dict.fromkeys(names, 0.0)

    def add(self, **numbers: Tensor) -> None:
        """Add the numbers [R] of a block of rows, by name."""
        start, size = 0, len(numbers[self._names[0]])
        while start < size:
            count = min(size - start, self._page.shape[1] - self._filled)
            for kept, name in zip(self._page, self._names, strict=True):
                kept[self._filled : self._filled + count] = numbers[name][start : start + count]
            self._filled += count
            start += count
            if self._filled == self._page.shape[1]:
                self._close_page()

    def mean(self, name: str) -> float:
        """Return the mean of a number over all rows."""
        self._close_page()
        return self._means[name]

    def standard_error(self, name: str) -> float:
        """Return the standard error of the mean over all rows, NaN for a single row."""
        self._close_page()
        if self.n_rows < 2:
            return math.nan
        return math.sqrt(self._squares[name] / (self.n_rows - 1) / self.n_rows)

    def _close_page(self) -> None:
        n, self._filled = self._filled, 0
        if n == 0:
            return
        before, self.n_rows = self.n_rows, self.n_rows + n
        for name, values in zip(self._names, self._page[:, :n], strict=True):
            mean = float(values.mean())
            step = mean - self._means[name]
            square = float((values - mean).square().sum())
            self._means[name] = mean if before == 0 else self._means[name] + step * n / self.n_rows
            self._squares[name] += square + step**2 * before * n / self.n_rows
