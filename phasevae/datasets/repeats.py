"""Rows that are exact copies of others, counted in one pass and bounded memory."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MOST_HASHES = 2**20
"""Most different rows that are counted. If there are more, only rows with a small hash are. These are a random part of
the different rows, and each is counted with all its copies."""

PAIRS, PAIR_VALUES = 4096, 2**22
"""Pairs of rows of which the features are compared, and the most values of these pairs."""

CACHED_VALUES = 2**14
"""Values that are mixed at once, in the cache of a processor."""

MANY_TIMES = 100
"""Copies are no chance where there are this many times as many as independent features would give."""


class RowCounter:
    """How often each row comes, in one pass.

    Two rows are copies if their hashes of 64 bits are equal. Where there are too many rows, all copies of a row are
    kept or none of them, so that the number of copies is that of a random part of the different rows.
    """

    def __init__(self, dimension: int):
        rng = np.random.default_rng(0)
        self._factors = rng.integers(2**63, size=dimension, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
        self._limit = np.uint64(2**64 - 1)
        self._hashes, self._counts = np.empty(0, np.uint64), np.empty(0, np.int64)
        self._pending: list[NDArray[np.uint64]] = []
        self._pairs, self._equal = 0, np.zeros(dimension)

    def add(self, block: NDArray[np.float64]) -> None:
        """Count the rows of a block [b, D]."""
        hashes = self._hashed(block)
        self._pending.append(hashes[hashes <= self._limit])
        if sum(map(len, self._pending)) > MOST_HASHES:
            self._merge()
        if (left := min(PAIRS, PAIR_VALUES // block.shape[1] + 1) - self._pairs) > 0:
            # Neighbours may be alike, so a row is compared with any other.
            other = np.random.default_rng(0).permutation(len(block))[:left]
            self._equal += (block[other] == block[np.roll(other, 1)]).sum(0) if len(other) > 1 else 0
            self._pairs += len(other) if len(other) > 1 else 0

    def effective_samples(self, n_samples: int) -> float | None:
        """Return the number of different samples that all samples are worth, n^2 / sum m^2 for m copies of each.

        None where no row repeats, and where features of so few values, if they are independent, give a comparable
        number of copies by chance.
        """
        self._merge()
        copies = self._counts.astype(np.float64)
        kept = float(copies.sum())
        pairs = float((copies * (copies - 1)).sum()) / 2
        chance = float(np.prod((self._equal + 1) / (self._pairs + 1)))
        if pairs == 0 or pairs <= MANY_TIMES * chance * kept * n_samples / 2:
            return None
        return n_samples * kept / float(np.square(copies).sum())

    def _hashed(self, block: NDArray[np.float64]) -> NDArray[np.uint64]:
        hashes = np.empty(len(block), np.uint64)
        step = max(1, CACHED_VALUES // block.shape[1])
        for start in range(0, len(block), step):
            mixed = (block[start : start + step] + 0.0).view(np.uint64)  # -0 is 0
            mixed *= np.uint64(0x9E3779B97F4A7C15)
            mixed ^= mixed >> np.uint64(32)
            mixed *= self._factors
            hashes[start : start + step] = mixed.sum(1, dtype=np.uint64)
        hashes *= np.uint64(0xD6E8FEB86659FD93)
        return hashes ^ (hashes >> np.uint64(32))

    def _merge(self) -> None:
        """Add the pending hashes to the counts, and keep a smaller part of the rows if they are too many."""
        hashes = np.concatenate([self._hashes, *self._pending])
        weights = np.concatenate([self._counts, np.ones(len(hashes) - len(self._counts), np.int64)])
        self._pending = []
        self._hashes, place = np.unique(hashes, return_inverse=True)
        self._counts = np.bincount(place, weights, len(self._hashes)).astype(np.int64)
        while len(self._hashes) > MOST_HASHES:
            self._limit >>= np.uint64(1)
            kept = self._hashes <= self._limit
            self._hashes, self._counts = self._hashes[kept], self._counts[kept]
