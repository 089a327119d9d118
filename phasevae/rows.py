"""The rows of a data set as a training and its measurement see them.

The rows are centred. The optimum does not depend on the mean of the data, but on wide data far from zero a training
does not reach it: a step of Adam moves the units of the first layer in all samples alike, and latents die.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from phasevae.datasets.base import block_rows
from phasevae.datasets.row_file import RowFile, row_blocks


class Batch(NamedTuple):
    """Some rows for each of S streams.

    Attributes
    ----------
    inputs : Tensor [S, B, E]
        What the encoder sees.
    x : Tensor [S, B, D]
        What is reconstructed.
    condition : Tensor [S, B, C] or None
        What the decoder sees besides the latents.
    """

    inputs: Tensor
    x: Tensor
    condition: Tensor | None = None

    def each(self, stream: Tensor) -> Batch:
        """Return the rows of the streams with these numbers [M]."""
        return Batch(*(None if part is None else part[stream] for part in self))


@dataclass(frozen=True)
class Rows:
    """The rows of a data set, on the device to train on and in the type to train with.

    Attributes
    ----------
    x : Tensor [N, D]
        What is reconstructed. Of a Gaussian decoder, the centred rows.
    mean : array [D]
        What was subtracted from the data.
    inputs : Tensor [N, E], optional
        What the encoder sees; x by default.
    condition : Tensor [N, C], optional
        What the decoder sees besides the latents.
    """

    x: Tensor
    mean: np.ndarray
    inputs: Tensor | None = None
    condition: Tensor | None = None

    @classmethod
    def of(
        cls,
        x: np.ndarray | Tensor | AnyRows,
        device: torch.device | str = "cpu",
        inputs: Callable[[Tensor], Tensor] | None = None,
    ) -> AnyRows:
        """Copy an array [N, D] to the device, less the mean of each feature.

        With `inputs`, what the encoder sees of rows, the copy is not centred. A tensor is taken as centred rows on
        their device, in its own type. Rows are returned as they are.
        """
        if not isinstance(x, np.ndarray | Tensor):
            return x
        if isinstance(x, Tensor):
            return cls(x, np.zeros(x.shape[1], dtype=np.float32))
        file = RowFile.of(x)
        rows = np.array(x, dtype=np.float32, order="C") if file is None else file.read(0, len(file))
        if inputs is not None:
            copy = torch.from_numpy(rows).to(device)
            return cls(copy, np.zeros(x.shape[1], np.float32), inputs(copy))
        mean = mean_of_rows(rows)
        rows -= mean
        return cls(torch.from_numpy(rows).to(device), mean)

    def __len__(self) -> int:
        return self.x.shape[0]

    @property
    def device(self) -> torch.device:
        """Where the rows are computed with."""
        return self.x.device

    @property
    def dtype(self) -> torch.dtype:
        return self.x.dtype

    @property
    def order_device(self) -> torch.device:
        """Where the numbers of rows to gather should be."""
        return self.x.device

    @property
    def n_features(self) -> int:
        """D, the numbers of a row that are reconstructed."""
        return self.x.shape[1]

    @property
    def n_inputs(self) -> int:
        """E, the numbers of a row that the encoder sees."""
        return self.x.shape[1] if self.inputs is None else self.inputs.shape[1]

    @property
    def n_condition(self) -> int:
        """C, the numbers of a row that the decoder sees besides the latents."""
        return 0 if self.condition is None else self.condition.shape[1]

    def seen(self, rows: Tensor) -> Tensor:
        """Return what the encoder sees of the rows with these numbers [n], [n, E], on their device."""
        return self.x[rows] if self.inputs is None else self.inputs[rows]

    def gather(self, rows: Tensor) -> Batch:
        """Return the rows with these numbers [S, B]."""
        x = self.x[rows]
        inputs = x if self.inputs is None else self.inputs[rows]
        return Batch(inputs, x, None if self.condition is None else self.condition[rows])

    def blocks(self, size: int) -> Iterator[tuple[int, Batch]]:
        """Yield all rows in order, as one stream, in blocks of at most `size`, each with the number of its first."""
        for start in range(0, len(self), size):
            part = slice(start, start + size)
            x = self.x[None, part]
            inputs = x if self.inputs is None else self.inputs[None, part]
            yield start, Batch(inputs, x, None if self.condition is None else self.condition[None, part])


class AnyRows(Protocol):
    """What `Rows` and `phasevae.file_rows.FileRows` have in common; see there."""

    mean: np.ndarray

    @property
    def device(self) -> torch.device: ...
    @property
    def dtype(self) -> torch.dtype: ...
    @property
    def order_device(self) -> torch.device: ...
    @property
    def n_features(self) -> int: ...
    @property
    def n_inputs(self) -> int: ...
    @property
    def n_condition(self) -> int: ...
    def __len__(self) -> int: ...
    def seen(self, rows: Tensor) -> Tensor: ...
    def gather(self, rows: Tensor) -> Batch: ...
    def blocks(self, size: int) -> Iterator[tuple[int, Batch]]: ...


def mean_of_rows(x: np.ndarray | RowFile) -> np.ndarray:
    """Return the mean [D] of rows [N, D], summed in float64 block by block and stored as float32, as the rows are."""
    total = sum(block.sum(0, dtype=np.float64) for block in row_blocks(x))
    return (total / len(x)).astype(np.float32)


def mean_over(rows: AnyRows, function: Callable[[Tensor], Tensor], left_out: Tensor) -> Tensor:
    """Average a function of the rows.

    Parameters
    ----------
    rows : Rows or FileRows
    function : callable
        Of some rows x [n, D]; returns [n, S].
    left_out : Tensor
        int64, the numbers of the rows that do not count, ascending.

    Returns
    -------
    Tensor [S]
        Summed in float64, in the type of the rows.
    """
    total = 0.0
    for start, batch in rows.blocks(block_rows(rows.n_features)):
        x = batch.x[0]
        if left_out.numel():
            kept = torch.ones(len(x), dtype=torch.bool)
            kept[part_of(left_out, start, len(x))] = False
            x = x[kept.to(x.device)]
        total = total + function(x).sum(0, dtype=torch.float64)
    return (total / (len(rows) - left_out.numel())).to(rows.dtype)


def part_of(numbers: Tensor, start: int, size: int) -> Tensor:
    """Return which of the row numbers, ascending, are in a block of `size` rows from `start` on, as places in it."""
    first, last = torch.searchsorted(numbers, numbers.new_tensor([start, start + size])).tolist()
    return numbers[first:last] - start
