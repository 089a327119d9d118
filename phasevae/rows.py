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
