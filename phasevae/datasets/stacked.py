"""Several arrays as one, without a copy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Stacked:
    """The rows of several arrays [n, D] one after the other, copied only as they are read."""

    parts: list[NDArray]

    @property
    def shape(self) -> tuple[int, int]:
        return sum(len(part) for part in self.parts), self.parts[0].shape[1]

    @property
    def ndim(self) -> int:
        return 2

    @property
    def dtype(self) -> np.dtype:
        return np.result_type(*self.parts)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | int) -> NDArray:
        if isinstance(rows, int):
            return self[rows : rows + 1][0]
        start, stop, step = rows.indices(len(self))
        found, first = [], 0
        for part in self.parts:
            found.append(part[max(start - first, 0) : max(stop - first, 0)])
            first += len(part)
        return np.concatenate(found, dtype=self.dtype)[::step]
