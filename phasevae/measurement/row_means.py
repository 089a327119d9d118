"""Means over rows with standard errors, from blocks of rows, in bounded memory."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

_PAGE = 2**20
"""Rows whose numbers are kept until they are averaged."""


class RowMeans:
    """Means of several numbers per row.

    The rows of a page are averaged at once, and pages are joined by their means and sums of squared deviations, so the
    variance of numbers far from zero keeps its digits.
    """

    def __init__(self) -> None:
        self.n_rows = 0
        self._page: list[Mapping[str, Tensor]] = []
        self._waiting = 0
        self._means: dict[str, float] = {}
        self._squares: dict[str, float] = {}

    def add(self, numbers: Mapping[str, Tensor]) -> None:
        """Add the numbers [R] of a block of rows, by name; every block has the same names."""
        self._page.append(numbers)
        self._waiting += len(next(iter(numbers.values())))
        if self._waiting >= _PAGE:
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
        page, n, self._page, self._waiting = self._page, self._waiting, [], 0
        if n == 0:
            return
        before, self.n_rows = self.n_rows, self.n_rows + n
        for name in page[0]:
            values = torch.cat([block[name] for block in page])
            mean = float(values.mean())
            step = mean - self._means.get(name, 0.0)
            square = float((values - mean).square().sum())
            if before == 0:
                self._means[name], self._squares[name] = mean, square
                continue
            self._means[name] += step * n / self.n_rows
            self._squares[name] += square + step**2 * before * n / self.n_rows
