"""The shape of a sample as convolutions take it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from phasevae.datasets.base import Dataset
from phasevae.datasets.store import DataRecord


@dataclass(frozen=True)
class SampleShape:
    """How the row of a data set becomes a sample.

    Attributes
    ----------
    shape : tuple of int
        Shape of a sample: (channels, height, width) of images, (D,) of rows without a shape of their own.
    channels_last : bool
        Whether the channel of a pixel runs fastest in the row, as in the rows of images.
    """

    shape: tuple[int, ...]
    channels_last: bool = False

    @property
    def size(self) -> int:
        """The numbers of a sample."""
        return math.prod(self.shape)


def sample_shape(data: Dataset | DataRecord) -> SampleShape:
    """Return the shape of the samples of a data set, from its record.

    Images and scikit-learn's digits are (channels, height, width). Arrays keep the shape that their samples have in the
    file. Everything else is (D,).
    """
    dimension = data.dimension if isinstance(data, DataRecord) else data.x.shape[1]
    sides = [data.preprocessing.get(key) for key in ("channels", "height", "width")]
    if None not in sides and math.prod(sides) == dimension:
        return SampleShape(tuple(sides), channels_last=True)
    stored = _stored_shape(data)
    return SampleShape(stored if math.prod(stored) == dimension else (dimension,))


def _stored_shape(data: Dataset | DataRecord) -> tuple[int, ...]:
    if isinstance(data, DataRecord):
        return tuple((data.read or {}).get("shape", (0,)))
    return (0,) if data.reading is None else tuple(data.reading.shape)
