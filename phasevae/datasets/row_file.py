"""The rows of a .npy file, read without keeping them in memory.

A memory-mapped array would keep every page that was once read in the memory of the process, and page faults read one
page at a time. Here rows are read with one request each, several at a time.
"""

from __future__ import annotations

import mmap
import os
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from phasevae.datasets.base import row_slices
from phasevae.errors import InputError

_READERS = 4
_ROWS_OF_A_READER = 2048


class RowFile:
    """The rows of a memory-mapped array as its file has them.

    Parameters
    ----------
    x : memmap [N, D]
        A whole array, float32 and C-contiguous, as `numpy.load` maps it.

    Attributes
    ----------
    shape : (int, int)
    nbytes : int
    """

    def __init__(self, x: np.memmap):
        self.shape = x.shape
        self.nbytes = x.nbytes
        self._path = x.filename
        self._row_bytes = x.strides[0]
        self._offset = x.offset
        # The file is kept open: if it is replaced, the rows are still those of the old one.
        self._descriptor = os.open(x.filename, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        weakref.finalize(self, os.close, self._descriptor)
        self._lock = threading.Lock()

    @classmethod
    def of(cls, x: NDArray) -> RowFile | None:
        """Return the file of a memory-mapped array; None for arrays in memory, and for parts of others."""
        if not isinstance(x, np.memmap) or not isinstance(x.base, mmap.mmap) or x.filename is None:
            return None
        plain = x.ndim == 2 and x.dtype == np.float32 and x.flags.c_contiguous and not x.flags.writeable
        return cls(x) if plain else None

    def __len__(self) -> int:
        return self.shape[0]

    def read(self, start: int, stop: int) -> NDArray:
        """Return the rows from `start` to `stop`, [n, D]. Raises InputError if the file is shorter than it was."""
        block = np.empty((stop - start, self.shape[1]), np.float32)
        self._fill(block, start)
        return block

    def gather(self, rows: NDArray, out: NDArray) -> None:
        """Read rows.

        Parameters
        ----------
        rows : array [n]
            Row numbers, ascending, so that the file is read from front to back.
        out : array [n, D]
            What is filled; float32, C-contiguous.

        Raises
        ------
        InputError
            If the file is shorter than it was.
        """

        def fill(part: slice) -> None:
            for place, row in enumerate(rows[part].tolist(), part.start):
                self._fill(out[place : place + 1], row)

        parts = [slice(start, start + _ROWS_OF_A_READER) for start in range(0, len(rows), _ROWS_OF_A_READER)]
        with ThreadPoolExecutor(_READERS) as readers:
            for _ in readers.map(fill, parts):
                pass

    def _fill(self, block: NDArray, first: int) -> None:
        view = memoryview(block).cast("B") if block.size else memoryview(b"")
        offset = self._offset + first * self._row_bytes
        while view:
            count = self._read_at(view, offset)
            if not count:
                raise InputError(f"{self._path}: ends before row {first + len(block)}, has it been changed?")
            view, offset = view[count:], offset + count

    def _read_at(self, view: memoryview, offset: int) -> int:
        if hasattr(os, "preadv"):
            return os.preadv(self._descriptor, [view], offset)
        with self._lock:
            os.lseek(self._descriptor, offset, os.SEEK_SET)
            read = os.read(self._descriptor, len(view))
        view[: len(read)] = read
        return len(read)


def row_blocks(x: NDArray | RowFile) -> Iterator[NDArray]:
    """Yield all rows of an array [N, D] in order, in blocks of at most 64 MiB in float64, if possible from its file."""
    file = x if isinstance(x, RowFile) else RowFile.of(x)
    for rows in row_slices(*x.shape):
        yield x[rows] if file is None else file.read(rows.start, rows.stop)
