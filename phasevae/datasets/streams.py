"""Samples of any kind as blocks of rows: arrays, tensors, tables, loaders, files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phasevae.datasets.base import Dataset, SampleStream, row_slices
from phasevae.datasets.reading import Origin
from phasevae.datasets.registry import dataset_from_path
from phasevae.errors import InputError

_KEYS = ("data", "x", "image", "images", "input", "inputs")
"""Under which of these keys a batch that is a mapping keeps its samples."""


def sample_stream(data: Any, most_rows: int | None = None) -> SampleStream:
    """Return a stream of the rows of any data. At most one block or batch is in memory.

    Parameters
    ----------
    data : object
        A `SampleStream`, numpy array or memory map, torch tensor, pandas table, `Dataset`, the path of anything that
        `phasevae spectrum` reads, an iterable of batches that can be iterated repeatedly (a torch DataLoader, a list of
        arrays), or a torch data set of single samples. A batch is an array or tensor, the first item of a tuple or
        list, or the item `data`, `x`, `image` or `input` of a mapping. Axes after the first are flattened.
    most_rows : int, optional
        The most rows of a block.

    Raises
    ------
    InputError
        For anything else, for values that are not real numbers, and for batches of unequal width.
    """
    if isinstance(data, SampleStream):
        return data
    if isinstance(data, str | Path):
        data = dataset_from_path(data)
    if isinstance(data, Dataset):
        return replace(_of_array(data.x, data.name or "data", most_rows), reading=data.reading)
    if hasattr(data, "to_numpy") and hasattr(data, "columns"):
        rows = _of_array(_table(data), "data", most_rows)
        return replace(rows, origin=replace(rows.origin, columns=tuple(map(str, data.columns))))
    if isinstance(data, np.ndarray) or _is_tensor(data):
        return _of_array(data, "data", most_rows)
    if isinstance(data, Iterator) or not _is_iterable(data):
        raise InputError(
            f"data: a {type(data).__name__}, must be an array, tensor, table, path or something that gives its batches "
            f"anew each time it is iterated"
        )
    return _of_batches(_singles(data) if _is_map_style(data) else data, most_rows)


def _of_array(x: Any, label: str, most_rows: int | None) -> SampleStream:
    if x.ndim < 2 or 0 in x.shape:
        raise InputError(f"{label}: shape {tuple(x.shape)}, must be [samples, features]")
    dimension = int(np.prod(x.shape[1:]))

    def read() -> Iterator[NDArray]:
        for rows in row_slices(x.shape[0], dimension, most_rows):
            yield _block(x[rows], label)

    return SampleStream(read, dimension, label, Origin(tuple(map(int, x.shape[1:]))))


def _of_batches(batches: Iterable[Any], most_rows: int | None) -> SampleStream:
    first = next((_numpy(samples_in(batch)) for batch in batches), None)
    if first is None:
        raise InputError("data: has no batches")
    dimension = _block(first, "data").shape[1]

    def read() -> Iterator[NDArray]:
        for number, batch in enumerate(batches):
            block = _block(samples_in(batch), f"data: batch {number}")
            if block.shape[1] != dimension:
                raise InputError(
                    f"data: batch {number} has {block.shape[1]} features, must have {dimension} as the first"
                )
            for rows in row_slices(*block.shape, most_rows):
                yield block[rows]

    return SampleStream(read, dimension, origin=Origin(first.shape[1:]))


def _singles(dataset: Any, size: int = 256) -> Iterable[list[NDArray]]:
    """Batches of a data set of single samples."""

    class Batches:
        def __iter__(self) -> Iterator[NDArray]:
            for start in range(0, len(dataset), size):
                items = (dataset[i] for i in range(start, min(start + size, len(dataset))))
                yield np.stack([np.atleast_1d(_numpy(samples_in(item))) for item in items])

    return Batches()


def samples_in(batch: Any) -> Any:
    """Return the samples in a batch of a loader. Raises InputError for a mapping without a known key."""
    if isinstance(batch, Mapping):
        for key in _KEYS:
            if key in batch:
                return batch[key]
        raise InputError(f"data: batches have {', '.join(map(str, batch))}, must have one of {', '.join(_KEYS)}")
    return batch[0] if isinstance(batch, tuple | list) else batch


def _block(values: Any, label: str) -> NDArray[np.float64]:
    array = _numpy(values)
    if array.dtype.kind not in "fiub":
        raise InputError(f"{label}: holds values of type {array.dtype}, must be real numbers")
    if array.ndim < 2:
        raise InputError(f"{label}: shape {array.shape}, must be [samples, features]")
    return array.reshape(array.shape[0], -1).astype(np.float64)


def _numpy(values: Any) -> NDArray:
    return np.asarray(values.detach().cpu() if _is_tensor(values) else values)


def _table(table: Any) -> NDArray:
    import pandas as pd

    for name, column in table.items():
        if not pd.api.types.is_numeric_dtype(column) or pd.api.types.is_complex_dtype(column):
            raise InputError(f"data: column '{name}' holds values of type {column.dtype}, must hold numbers only")
    return table.to_numpy(dtype=np.float64, na_value=np.nan)


def _is_tensor(values: Any) -> bool:
    return hasattr(values, "detach") and hasattr(values, "cpu")


def _is_map_style(data: Any) -> bool:
    """Whether `data` is a torch data set, which gives samples by number, and no list of batches and no loader."""
    return hasattr(data, "__getitem__") and hasattr(data, "__len__") and not isinstance(data, Sequence | Mapping)


def _is_iterable(data: Any) -> bool:
    return isinstance(data, Iterable) or _is_map_style(data)
