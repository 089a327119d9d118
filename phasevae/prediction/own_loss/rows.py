"""Samples in the shape and type in which a loss function takes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from phasevae.datasets.base import SampleStream
from phasevae.datasets.samples import read_samples
from phasevae.datasets.streams import samples_in
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
    found = None
    array = _mapped(data)
    if getattr(array, "ndim", None) == 1 and hasattr(array, "reshape"):
        data, array, found = array.reshape(-1, 1), array.reshape(-1, 1), ()
    stream = read_samples(data, **options)
    first, batched = _first(array)
    if found is None:
        found = tuple(first.shape[batched:]) if first is not None else (stream.dimension,)
    whole = first is not None and str(first.dtype).removeprefix("torch.") in ("int16", "int32", "int64")
    whole = whole and "standardize" not in options
    if shape is not None and int(np.prod(shape)) != stream.dimension:
        sizes = " x ".join(map(str, shape))
        raise InputError(f"{name}: {stream.dimension} values a sample, must be {sizes} as the given shape says")
    return Rows(stream, found if shape is None else tuple(shape), whole)


def _mapped(data: Any) -> Any:
    """A .npy file as the array it holds, whose shape and type count; anything else as it is."""
    if not isinstance(data, str | Path) or Path(data).suffix.lower() != ".npy":
        return data
    try:
        return np.load(data, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError):  # `read_samples` says what is wrong with the file
        return data


def _first(data: Any) -> tuple[Any, int]:
    """The first batch or sample of data that are not flat yet, and its number of axes before those of a sample."""
    if hasattr(data, "shape") and hasattr(data, "dtype"):
        return data, 1
    if hasattr(data, "x") and hasattr(data, "preprocessing"):  # a Dataset
        return data.x, 1
    if isinstance(data, str) or hasattr(data, "__fspath__") or hasattr(data, "columns") or hasattr(data, "read"):
        return None, 1
    single = hasattr(data, "__getitem__") and not isinstance(data, list | tuple | Mapping)
    item = data[0] if single else next(iter(data))
    item = samples_in(item)
    return (item, 0 if single else 1) if hasattr(item, "shape") else (None, 1)
