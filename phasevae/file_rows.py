"""The rows of a data set that is larger than memory: they stay in their file and are read where they are used."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from phasevae.datasets.row_file import RowFile
from phasevae.rows import Batch, Rows, mean_of_rows

WINDOW_BYTES = 2**30
"""Memory for the rows of the next steps where it is not given."""

_CONTROL_GROUPS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


class FileRows:
    """Rows with the interface of `Rows` and the same numbers, of which only those that are asked for are in memory.

    Parameters
    ----------
    file : RowFile
        The data.
    device : torch.device or str
        Where rows are needed.
    window_bytes : int
        Memory for the rows of the next steps of a training.
    """

    dtype = torch.float32
    order_device = torch.device("cpu")
    n_condition = 0

    def __init__(self, file: RowFile, device: torch.device | str, window_bytes: int):
        self._file = file
        self.device = torch.device(device)
        self.window_bytes = window_bytes
        self.mean = mean_of_rows(file)
        self.n_features = self.n_inputs = file.shape[1]

    def __len__(self) -> int:
        return len(self._file)

    def read_sorted(self, rows: Tensor, out: Tensor) -> None:
        """Fill `out` [n, D], in the host's memory, with x of the rows with these numbers [n], ascending."""
        values = out.numpy()
        self._file.gather(rows.numpy(), values)
        values -= self.mean

    def take(self, rows: Tensor) -> Tensor:
        """Return x of the rows with these numbers [n], [n, D], on the device of the numbers."""
        numbers, places = rows.cpu().sort(stable=True)
        x = torch.empty(rows.numel(), self.n_features)
        self.read_sorted(numbers, x)
        return x[places.argsort()].to(rows.device)

    def gather(self, rows: Tensor) -> Batch:
        """Return the rows with these numbers [S, B]."""
        x = self.take(rows.flatten()).view(*rows.shape, -1).to(self.device)
        return Batch(x, x)

    def blocks(self, size: int) -> Iterator[tuple[int, Batch]]:
        """Yield all rows in order, as one stream, in blocks of at most `size`, each with the number of its first."""
        for start in range(0, len(self), size):
            block = self._file.read(start, min(start + size, len(self)))
            block -= self.mean
            x = torch.from_numpy(block)[None].to(self.device)
            yield start, Batch(x, x)


def load_rows(x: np.ndarray, device: torch.device | str = "cpu", memory: int | None = None) -> Rows | FileRows:
    """Return the rows of an array: in memory if they fit, else from its file.

    Parameters
    ----------
    x : array [N, D]
        In memory or memory-mapped. Only the latter can stay in its file.
    device : torch.device or str
        Where to train.
    memory : int, optional
        Bytes that the rows may take. By default half of the machine's, and of the GPU's.

    Returns
    -------
    Rows or FileRows
        The numbers of a training are the same with both.
    """
    file = RowFile.of(x)
    if file is None or file.nbytes <= (_half_of_memory(torch.device(device)) if memory is None else memory):
        return Rows.of(x, device)
    return FileRows(file, device, WINDOW_BYTES if memory is None else memory)


def _half_of_memory(device: torch.device) -> int:
    """Half of the memory that the process may use, and of the device's."""
    sizes = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")] if hasattr(os, "sysconf") else []
    for path in map(Path, _CONTROL_GROUPS):
        if path.is_file() and (text := path.read_text().strip()).isdecimal():
            sizes.append(int(text))
    if device.type == "cuda":
        sizes.append(torch.cuda.mem_get_info(device)[1])
    return min(sizes, default=2**62) // 2
