"""The rows of a data set as a training and its measurement see them.

The rows are centred. The optimum does not depend on the mean of the data, but on wide data far from zero a training
does not reach it: a step of Adam moves the units of the first layer in all samples alike, and latents die.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from phasevae.datasets.conditions import Coding, Condition, offsets

_OFFSET_ROWS = 65_536
"""Rows that are copied to float64 at once."""


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
        What the encoder sees; x by default, with the condition.
    condition : Tensor [N, C], optional
        What the decoder sees besides the latents.
    offsets : array [C, D], optional
        What was subtracted besides the mean: these times the condition of each row.
    coding : Coding, optional
        How values of the condition become its columns.
    """

    x: Tensor
    mean: np.ndarray
    inputs: Tensor | None = None
    condition: Tensor | None = None
    offsets: np.ndarray | None = None
    coding: Coding | None = None

    @classmethod
    def conditional(
        cls, x: np.ndarray, condition: Condition, device: torch.device | str = "cpu", encoder_sees: bool = True
    ) -> Rows:
        """Copy an array [N, D] to the device, less what its rows have in common with their condition.

        These offsets, for classes the means of the classes, are what the decoder of a collapsed model gives. An encoder
        that does not see the condition sees rows less the mean of all, as it could tell the offsets from others.

        Parameters
        ----------
        x : array [N, D]
        condition : Condition
        device : torch.device or str
        encoder_sees : bool
            Whether the encoder sees the condition.
        """
        centred = cls.of(x)
        columns = condition.columns()
        blocks = (block.double().numpy() for block in centred.x.split(_OFFSET_ROWS))
        found = offsets(condition, blocks).astype(np.float32)
        rest = centred.x - torch.from_numpy(columns) @ torch.from_numpy(found)
        inputs = None if encoder_sees else centred.x.to(device)
        seen = torch.from_numpy(columns).to(device)
        return cls(rest.to(device), centred.mean, inputs, seen, found, condition.coding)

    @property
    def encoder_sees_condition(self) -> bool:
        return self.condition is not None and self.inputs is None

    @property
    def has_classes(self) -> bool:
        """Whether rows may share a condition."""
        return self.coding is not None and self.coding.kind == "classes"

    @classmethod
    def of(cls, x: np.ndarray | Tensor | Rows, device: torch.device | str = "cpu") -> Rows:
        """Copy an array [N, D] to the device, less the mean of each feature.

        The mean is summed in float64 and stored as float32, as the rows are. A tensor is taken as centred rows on their
        device, in its own type.
        """
        if isinstance(x, Rows):
            return x
        if isinstance(x, Tensor):
            return cls(x, np.zeros(x.shape[1], dtype=np.float32))
        rows = np.array(x, dtype=np.float32)
        mean = rows.mean(0, dtype=np.float64).astype(np.float32)
        rows -= mean
        return cls(torch.from_numpy(rows).to(device), mean)

    def __len__(self) -> int:
        return self.x.shape[0]

    def gather(self, rows: Tensor) -> Batch:
        """Return the rows with these numbers [S, B]."""
        return self._batch(rows)

    def blocks(self, size: int) -> Iterator[tuple[int, Batch]]:
        """Yield all rows in order, as one stream, in blocks of at most `size`, each with the number of its first."""
        for start in range(0, len(self), size):
            yield start, self._batch((None, slice(start, start + size)))

    def _batch(self, rows: Tensor | tuple[None, slice]) -> Batch:
        x, condition = self.x[rows], None if self.condition is None else self.condition[rows]
        if self.inputs is not None:
            return Batch(self.inputs[rows], x, condition)
        return Batch(x if condition is None else torch.cat((x, condition), -1), x, condition)
