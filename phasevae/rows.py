"""The rows of a data set as a training and its measurement see them.

The rows are centred. The optimum does not depend on the mean of the data, but on wide data far from zero a training
does not reach it: a step of Adam moves the units of the first layer in all samples alike, and latents die.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from phasevae.datasets.base import block_rows
from phasevae.datasets.conditions import Coding, Condition, offsets
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
        inputs, x, condition = self
        of_each = x[stream]
        seen = of_each if inputs is x else inputs[stream]
        return Batch(seen, of_each, None if condition is None else condition[stream])


@dataclass(frozen=True)
class Conditioning:
    """What a condition changes about rows.

    What the encoder sees of rows has offsets in common with their condition, for classes the means. They are subtracted
    where it sees the condition; an encoder that does not see it could tell the rows from the rest with the offsets
    alone. A Gaussian decoder fits the rest of the rows, because that of a collapsed model gives the offsets. The other
    families have offsets of their own (`Family.with_classes`) and fit the rows as they are.

    Attributes
    ----------
    coding : Coding
        How values of the condition become its columns.
    offsets : Tensor [C, E]
        The columns of a condition times these are the offset of what the encoder sees of their row.
    encoder_sees : bool
        Whether the encoder sees the condition.
    """

    coding: Coding
    offsets: Tensor
    encoder_sees: bool

    @property
    def has_classes(self) -> bool:
        """Whether rows may share a condition."""
        return self.coding.kind == "classes"

    @property
    def n_inputs(self) -> int:
        """E, the numbers of a row that the encoder sees."""
        n_columns, dimension = self.offsets.shape
        return dimension + (n_columns if self.encoder_sees else 0)

    def batch(self, x: Tensor, seen: Tensor | None, columns: Tensor) -> Batch:
        """Return rows with their condition.

        Parameters
        ----------
        x : Tensor [..., D]
        seen : Tensor [..., E], optional
            What the encoder sees of the rows; by default these are the rows of a Gaussian decoder.
        columns : Tensor [..., C]
            Their condition.
        """
        given = x if seen is None else seen
        rest = given - columns @ self.offsets
        inputs = torch.cat((rest, columns), -1) if self.encoder_sees else given
        return Batch(inputs, rest if seen is None else x, columns)

    def rest(self, batch: Batch) -> Tensor:
        """Return what the encoder sees of a batch, without the condition and less its offsets, [..., E]."""
        if self.encoder_sees:
            return batch.inputs[..., : self.offsets.shape[1]]
        return batch.inputs - batch.condition @ self.offsets


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
    conditioning : Conditioning, optional
        What that changes about the rows.
    """

    x: Tensor
    mean: np.ndarray
    inputs: Tensor | None = None
    condition: Tensor | None = None
    conditioning: Conditioning | None = None

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
        if self.conditioning is not None:
            return self.conditioning.n_inputs
        return self.x.shape[1] if self.inputs is None else self.inputs.shape[1]

    @property
    def n_condition(self) -> int:
        """C, the numbers of a row that the decoder sees besides the latents."""
        return 0 if self.condition is None else self.condition.shape[1]

    @property
    def classes(self) -> Tensor | None:
        """int64 [N], the class of each row, where the condition is one of classes."""
        return classes_of(self)

    def conditioned(self, columns: Tensor, conditioning: Conditioning) -> Rows:
        """Return the rows with a condition [N, C]."""
        return replace(self, condition=columns.to(self.device), conditioning=conditioning)

    def seen(self, rows: Tensor) -> Tensor:
        """Return what the encoder sees of the rows with these numbers [n], without their condition, [n, E], on their
        device."""
        batch = self._batch(rows)
        return batch.inputs if self.conditioning is None else self.conditioning.rest(batch)

    def gather(self, rows: Tensor) -> Batch:
        """Return the rows with these numbers [S, B]."""
        return self._batch(rows)

    def blocks(self, size: int) -> Iterator[tuple[int, Batch]]:
        """Yield all rows in order, as one stream, in blocks of at most `size`, each with the number of its first."""
        for start in range(0, len(self), size):
            yield start, self._batch((None, slice(start, start + size)))

    def _batch(self, rows: Tensor | tuple[None, slice]) -> Batch:
        x, condition = self.x[rows], None if self.condition is None else self.condition[rows]
        seen = None if self.inputs is None else self.inputs[rows]
        if self.conditioning is not None:
            return self.conditioning.batch(x, seen, condition)
        return Batch(x if seen is None else seen, x, condition)


class AnyRows(Protocol):
    """What `Rows` and `phasevae.file_rows.FileRows` have in common; see there."""

    mean: np.ndarray
    condition: Tensor | None
    conditioning: Conditioning | None

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
    @property
    def classes(self) -> Tensor | None: ...
    def __len__(self) -> int: ...
    def conditioned(self, columns: Tensor, conditioning: Conditioning) -> AnyRows: ...
    def seen(self, rows: Tensor) -> Tensor: ...
    def gather(self, rows: Tensor) -> Batch: ...
    def blocks(self, size: int) -> Iterator[tuple[int, Batch]]: ...


def given_condition(rows: AnyRows, condition: Condition, encoder_sees: bool = True) -> AnyRows:
    """Return rows with their condition.

    Parameters
    ----------
    rows : Rows or FileRows
        Without a condition.
    condition : Condition
    encoder_sees : bool
        Whether the encoder sees the condition.
    """
    centred = (batch.inputs[0].double().cpu().numpy() for _, batch in rows.blocks(block_rows(rows.n_features)))
    found = torch.from_numpy(offsets(condition, centred)).to(rows.device, rows.dtype)
    columns = torch.from_numpy(condition.columns()).to(rows.dtype)
    return rows.conditioned(columns, Conditioning(condition.coding, found, encoder_sees))


def classes_of(rows: AnyRows) -> Tensor | None:
    """Return the class of each row [N], int64; None where the condition is not one of classes."""
    return rows.condition.argmax(1) if has_classes(rows) else None


def has_classes(rows: AnyRows) -> bool:
    """Whether the rows have a condition of classes."""
    return rows.conditioning is not None and rows.conditioning.has_classes


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
    Tensor [S], or [C, S] where the rows have classes
        Summed in float64, in the type of the rows.
    """
    with_classes = has_classes(rows)
    total, counts = 0.0, 0.0
    for start, batch in rows.blocks(block_rows(rows.n_features)):
        x, columns = batch.x[0], batch.condition[0] if with_classes else None
        if left_out.numel():
            kept = torch.ones(len(x), dtype=torch.bool)
            kept[part_of(left_out, start, len(x))] = False
            x, columns = (part if part is None else part[kept.to(x.device)] for part in (x, columns))
        if columns is None:
            total = total + function(x).sum(0, dtype=torch.float64)
        else:
            total = total + columns.double().mT @ function(x).double()
            counts = counts + columns.sum(0, dtype=torch.float64)
    if with_classes:
        return (total / counts[:, None].clamp(min=1)).to(rows.dtype)
    return (total / (len(rows) - left_out.numel())).to(rows.dtype)


def part_of(numbers: Tensor, start: int, size: int) -> Tensor:
    """Return which of the row numbers, ascending, are in a block of `size` rows from `start` on, as places in it."""
    first, last = torch.searchsorted(numbers, numbers.new_tensor([start, start + size])).tolist()
    return numbers[first:last] - start
