"""Samples of any kind as blocks of rows: arrays, tensors, tables, loaders, files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Set
from contextlib import contextmanager
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phasevae.datasets.base import Dataset, SampleStream, row_slices
from phasevae.datasets.entries import chosen_entry, is_mapping
from phasevae.datasets.feature_statistics import LARGEST_DIMENSION
from phasevae.datasets.left_out import Drop, checked_drop
from phasevae.datasets.loaders import GROUP, ItemStream, item_stream
from phasevae.datasets.memory import held_samples
from phasevae.datasets.reading import Origin, RawSamples
from phasevae.datasets.registry import dataset_from_path
from phasevae.datasets.row_file import RowFile
from phasevae.datasets.values import as_numbers, cause, is_image, is_number
from phasevae.errors import InputError

_TABLE_LIBRARIES = ("pandas", "polars", "pyarrow")


def sample_stream(
    data: Any,
    most_rows: int | None = None,
    *,
    key: str | None = None,
    drop: Drop = None,
    label: str = "data",
    numbers: bool = False,
) -> SampleStream:
    """Return a stream of the rows of any data. At most one block or batch is in memory.

    Axes after the first are flattened; `origin.shape` of the stream is that of one sample.

    Parameters
    ----------
    data : object
        A `SampleStream`, a `Dataset`, or the path of anything that `phasevae spectrum` reads; samples that are held as
        a whole (`memory.held_samples`): arrays, tensors, tables, sparse matrices, AnnData, xarray, mappings of them; or
        samples that come item by item (`loaders.item_stream`): loaders, data sets, lists.
    most_rows : int, optional
        The most rows of a block.
    key : str, optional
        Which entry of a mapping, of a file, or of items that are mappings; without it the one with a usual name.
    drop : names or numbers of columns, optional
        Columns of a table or matrix to leave out. By default columns that look like ids are refused; an empty list
        keeps them.
    label : str
        Name of the data in messages.
    numbers : bool
        Whether a sample may be a single number, so that an array may have one axis.

    Raises
    ------
    InputError
        For anything else, for values that are not real numbers, and for batches of unequal width.
    """
    if key is not None and not isinstance(key, str):
        raise InputError(f"key: {key!r}, must be a name")
    options = {name: value for name, value in (("key", key), ("drop", checked_drop(drop))) if value is not None}
    if isinstance(data, str | os.PathLike):
        return _of_dataset(dataset_from_path(os.fspath(data), **options), most_rows, label)
    if isinstance(data, SampleStream | Dataset):
        for name, value in options.items():
            raise InputError(f"{name}: {value!r}, must be left out for a {type(data).__name__}")
        return _of_dataset(data, most_rows, label) if isinstance(data, Dataset) else data
    what = f"{label}: a {type(data).__name__} that cannot be read"
    with _one_line(what):
        stream = _of_object(data, most_rows, key, drop, label, numbers)

    def read() -> Iterator[NDArray]:
        with _one_line(what):
            yield from stream.read()

    return replace(stream, read=read)


@contextmanager
def _one_line(what: str) -> Iterator[None]:
    """Turn whatever an object of an unknown class raises, such as an array of a closed file, into one line."""
    try:
        yield
    except (InputError, MemoryError):
        raise
    except Exception as error:
        raise InputError(f"{what} ({cause(error)})") from error


def _of_object(
    data: Any, most_rows: int | None, key: str | None, drop: Drop, label: str, numbers: bool
) -> SampleStream:
    _check_usable(data, label)
    held = held_samples(data, key, label, drop)
    if held is not None:
        return _of_held(held, most_rows, numbers)
    if type(data).__module__.partition(".")[0] in _TABLE_LIBRARIES:
        raise _unusable(data, label)  # a grouping or a window, whose items are parts of a table that may overlap
    if is_mapping(data):
        name, entry, rest = chosen_entry(data, key, label)
        place = f"{label}[{name!r}]"
        stream = sample_stream(entry, most_rows, key=rest, drop=drop, label=place, numbers=numbers)
        return _without(stream, [other for other in data.keys() if other != name], label)  # noqa: SIM118 - no iterator
    items = item_stream(data, key, label, numbers, drop)
    if items is None:
        raise _unusable(data, label)
    return _of_items(items, most_rows, label)


def _check_usable(data: Any, label: str) -> None:
    """Raise InputError for objects that have rows by accident, or can be read only once."""
    if data is None or isinstance(data, type | ModuleType | Set | Iterator) or is_number(data):
        raise _unusable(data, label)
    if isinstance(data, list | tuple) and data and all(isinstance(item, str | os.PathLike) for item in data):
        raise InputError(
            f"{label}: a {type(data).__name__} of paths or texts, must be one path: of a folder of the files, or give "
            f"build_dataset('array', path=[...]) of phasevae.datasets.registry"
        )
    if is_image(data):
        raise InputError(f"{label}: one image, must be several samples")


def _unusable(data: Any, label: str) -> InputError:
    kind = f"the class {data.__name__}" if isinstance(data, type) else f"a {type(data).__name__}"
    return InputError(
        f"{label}: {'None' if data is None else kind}, must be an array, tensor, table, path or something that gives "
        f"its batches anew each time it is iterated"
    )


def _of_dataset(dataset: Dataset, most_rows: int | None, label: str) -> SampleStream:
    stream = _of_held(RawSamples(dataset.x, dataset.name or label), most_rows, False)
    stream, known = replace(stream, condition=dataset.condition), dataset.reading
    if known is None:
        return stream
    origin = Origin(known.shape, known.columns, known.parts, known.preparation, known.left_out, stream.origin.dtype)
    return replace(stream, origin=origin, reading=known)


def _without(stream: SampleStream, others: list[Any], label: str) -> SampleStream:
    """The stream of one entry of a mapping, which says what was left out."""
    if stream.origin is None or stream.reading is not None:
        return stream
    origin = replace(stream.origin, left_out=(*stream.origin.left_out, *(f"entry {other}" for other in others)))
    return replace(stream, label=label, origin=origin)


def _of_held(raw: RawSamples, most_rows: int | None, numbers: bool) -> SampleStream:
    x, label = raw.x, raw.label
    shape = tuple(x.shape)
    if len(shape) < (1 if numbers else 2) or 0 in shape:
        raise InputError(f"{label}: shape {shape}, must be [samples, features]")
    dimension = int(np.prod(shape[1:]))
    file = RowFile.of(x)

    def read() -> Iterator[NDArray]:
        for rows in row_slices(shape[0], dimension, most_rows):
            with _one_line(f"{label}: rows {rows.start} to {rows.stop - 1} cannot be read"):
                part = x[rows] if file is None else file.read(rows.start, rows.stop)
                block = _block(as_numbers(part, label))
            yield block

    if dimension <= LARGEST_DIMENSION:
        as_numbers(x[0:1], label)
    return SampleStream(read, dimension, label, raw.origin)


def _of_items(items: ItemStream, most_rows: int | None, label: str) -> SampleStream:
    dimension = int(np.prod(items.origin.shape))
    group = next(row_slices(GROUP, dimension, most_rows)).stop

    def read() -> Iterator[NDArray]:
        for array in items.blocks(group):
            for rows in row_slices(len(array), dimension, most_rows):
                yield _block(array[rows])

    return SampleStream(read, dimension, label, items.origin)


def _block(array: NDArray) -> NDArray[np.float64]:
    return array.reshape(array.shape[0], -1).astype(np.float64)
