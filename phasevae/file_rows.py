"""The rows of a data set that is larger than memory: they stay in their file and are read where they are used."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from phasevae.datasets.row_file import RowFile
from phasevae.rows import Batch, Conditioning, Rows, classes_of, mean_of_rows

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
    mean : array [D], optional
        What is subtracted; by default the mean of the data.
    inputs : callable, optional
        `inputs(x, condition)` returns what the encoder sees [..., E] of rows x [..., D] and their condition [..., C] or
        None; x by default.
    condition : Tensor [N, C], optional
        What the decoder sees besides the latents, in the host's memory.
    conditioning : Conditioning, optional
        What that changes about the rows.
    """

    dtype = torch.float32
    order_device = torch.device("cpu")

    def __init__(
        self,
        file: RowFile,
        device: torch.device | str,
        window_bytes: int,
        mean: np.ndarray | None = None,
        inputs: Callable[[Tensor, Tensor | None], Tensor] | None = None,
        condition: Tensor | None = None,
        conditioning: Conditioning | None = None,
    ):
        self._file = file
        self.device = torch.device(device)
        self.window_bytes = window_bytes
        self.mean = mean_of_rows(file) if mean is None else mean
        self._inputs = inputs
        self.condition = condition
        self.conditioning = conditioning
        self.n_features = file.shape[1]
        self.n_condition = 0 if condition is None else condition.shape[1]
        nothing = torch.empty(0, self.n_features, device=self.device)
        of_nothing = None if condition is None else condition[:0].to(self.device)
        self.n_inputs = self.batch(nothing, of_nothing).inputs.shape[1]

    def __len__(self) -> int:
        return len(self._file)

    @property
    def is_plain(self) -> bool:
        """Whether the networks see the rows as they are, and no condition."""
        return self._inputs is None and self.conditioning is None

    def batch(self, x: Tensor, condition: Tensor | None) -> Batch:
        """Return rows x [..., D] with their condition [..., C] and what the encoder sees of both."""
        seen = None if self._inputs is None else self._inputs(x, condition)
        if self.conditioning is not None:
            return self.conditioning.batch(x, seen, condition)
        return Batch(x if seen is None else seen, x, condition)

    @property
    def classes(self) -> Tensor | None:
        """int64 [N], the class of each row, where the condition is one of classes."""
        return classes_of(self)

    def conditioned(self, columns: Tensor, conditioning: Conditioning) -> FileRows:
        """Return the rows with a condition [N, C]."""
        return FileRows(self._file, self.device, self.window_bytes, self.mean, self._inputs, columns, conditioning)

    def read_sorted(self, rows: Tensor, out: Tensor) -> None:
        """Fill `out` [n, D], in the host's memory, with x of the rows with these numbers [n], ascending."""
        values = out.numpy()
        self._file.gather(rows.numpy(), values)
        values -= self.mean

    def seen(self, rows: Tensor) -> Tensor:
        """Return what the encoder sees of the rows with these numbers [n], without their condition, [n, E], on their
        device."""
        batch = self.gather(rows[None])
        return (batch.inputs if self.conditioning is None else self.conditioning.rest(batch))[0].to(rows.device)

    def gather(self, rows: Tensor) -> Batch:
        """Return the rows with these numbers [S, B]."""
        numbers = rows.flatten().cpu()
        ordered, places = numbers.sort(stable=True)
        x = torch.empty(rows.numel(), self.n_features)
        self.read_sorted(ordered, x)
        x = x if torch.equal(ordered, numbers) else x[places.argsort()]
        x = x.view(*rows.shape, -1).to(self.device)
        return self.batch(x, None if self.condition is None else self.condition[rows.cpu()].to(self.device))

    def blocks(self, size: int) -> Iterator[tuple[int, Batch]]:
        """Yield all rows in order, as one stream, in blocks of at most `size`, each with the number of its first."""
        for start in range(0, len(self), size):
            part = slice(start, min(start + size, len(self)))
            block = self._file.read(part.start, part.stop)
            block -= self.mean
            condition = None if self.condition is None else self.condition[None, part].to(self.device)
            yield start, self.batch(torch.from_numpy(block)[None].to(self.device), condition)


def load_rows(
    x: np.ndarray,
    device: torch.device | str = "cpu",
    memory: int | None = None,
    inputs: Callable[[Tensor], Tensor] | None = None,
) -> Rows | FileRows:
    """Return the rows of an array: in memory if they fit, else from its file.

    Parameters
    ----------
    x : array [N, D]
        In memory or memory-mapped. Only the latter can stay in its file.
    device : torch.device or str
        Where to train.
    memory : int, optional
        Bytes that the rows may take. By default half of the machine's, and of the GPU's.
    inputs : callable, optional
        What the encoder sees [..., E] of rows [..., D], which then stay as they are. By default rows are centred.

    Returns
    -------
    Rows or FileRows
        The numbers of a training are the same with both.
    """
    file = RowFile.of(x)
    if file is None or file.nbytes <= (_half_of_memory(torch.device(device)) if memory is None else memory):
        return Rows.of(x, device, inputs)
    window = WINDOW_BYTES if memory is None else memory
    if inputs is None:
        return FileRows(file, device, window)
    return FileRows(file, device, window, np.zeros(x.shape[1], np.float32), lambda rows, _: inputs(rows))


def _half_of_memory(device: torch.device) -> int:
    """Half of the memory that the process may use, and of the device's."""
    sizes = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")] if hasattr(os, "sysconf") else []
    for path in map(Path, _CONTROL_GROUPS):
        if path.is_file() and (text := path.read_text().strip()).isdecimal():
            sizes.append(int(text))
    if device.type == "cuda":
        sizes.append(torch.cuda.mem_get_info(device)[1])
    return min(sizes, default=2**62) // 2
