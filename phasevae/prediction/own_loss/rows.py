"""Samples in the shape and type in which a loss function takes them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from phasevae.datasets.base import SampleStream
from phasevae.datasets.reading import Origin
from phasevae.datasets.samples import read_samples
from phasevae.errors import InputError

if TYPE_CHECKING:
    import torch

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Rows:
    """A stream of flattened samples, and what they look like to the loss function."""

    stream: SampleStream
    shape: Shape  # of one sample
    whole: bool  # whether the samples are whole numbers, such as classes or tokens

    def tensor(self, block: NDArray, dtype: torch.dtype) -> torch.Tensor:
        """Return a block [b, D] as the loss function sees it: [b, *shape], whole numbers as int64.

        Parameters
        ----------
        block : array [b, D]
        dtype : torch.dtype
            Type of numbers that are not whole.
        """
        import torch

        kind = torch.int64 if self.whole else dtype
        return torch.as_tensor(block).to(kind).reshape(len(block), *self.shape)

    def thinned(self, most: int) -> NDArray:
        """Return at most this number of rows, evenly spread over the stream, [rows, D]."""
        return self.stream.thinned(most)


def rows_of(data: Any, shape: Shape | None = None, name: str = "data", **options: Any) -> Rows:
    """Return samples of any kind with the shape and type that they have.

    Parameters
    ----------
    data : object
        Anything that `phasevae.datasets.samples.read_samples` reads. An array of one axis is one number a sample.
    shape : tuple of int, optional
        Shape of one sample, where the data are flattened.
    name : str
        Name of the argument, for messages.
    **options
        Those of the reader.

    Raises
    ------
    InputError
        For data that cannot be read, and for a shape with another number of values.
    """
    array = _mapped(data)
    one_axis = getattr(array, "ndim", None) == 1
    stream = read_samples(array if one_axis else data, label=name, numbers=True, **options)
    origin = stream.origin or Origin((stream.dimension,))
    dtype = origin.dtype if array is data else str(array.dtype)
    if shape is not None and int(np.prod(shape)) != stream.dimension:
        sizes = " x ".join(map(str, shape))
        raise InputError(f"{name}: {stream.dimension} values a sample, must be {sizes} as the given shape says")
    whole = dtype in ("int16", "int32", "int64") and "standardize" not in options
    return Rows(stream, origin.shape if shape is None else tuple(shape), whole)


def _mapped(data: Any) -> Any:
    """A .npy file as the array it holds, whose type counts; anything else as it is."""
    if not isinstance(data, str | Path) or Path(data).suffix.lower() != ".npy":
        return data
    try:
        return np.load(data, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError):  # `read_samples` says what is wrong with the file
        return data
