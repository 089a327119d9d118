"""Samples that come item by item: loaders of batches, data sets of single samples, lists of either."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phasevae.datasets.columns import Drop
from phasevae.datasets.entries import samples_of_item
from phasevae.datasets.memory import held_samples
from phasevae.datasets.reading import Origin
from phasevae.datasets.values import as_numbers, cause, is_image, is_number, is_sparse, largest_pixel, sides
from phasevae.errors import InputError

BATCH, SAMPLE, ITEM = "batch", "sample", "item"
"""What an item is; it is called an item where that is not known yet."""

GROUP = 256
"""Single samples that are read together."""

_FEW = 4
"""A label of up to this many numbers may belong to an image of as many channels."""


@dataclass
class Items:
    """Items that are read anew in each pass, the same number of them each time.

    The first pass goes on with the iterator from which `first` came: opening a loader can take long, and one that can
    be read only once must not lose an item unseen.
    """

    source: Callable[[], Iterator[Any]]
    unit: str
    label: str
    started: Iterator[Any] | None = None
    count: int | None = None

    def first(self) -> Any:
        """Return the first item and remember the iterator. Raises InputError where there is none."""
        iterator = self._guarded()
        try:
            item = next(iterator)
        except StopIteration:
            raise InputError(f"{self.label}: has no {_plural(self.unit)}") from None
        self.started = _chained(item, iterator)
        return item

    def __iter__(self) -> Iterator[Any]:
        iterator, self.started = self.started or self._guarded(), None
        count = 0
        for item in iterator:
            count += 1
            yield item
        if self.count is not None and count != self.count:
            raise InputError(
                f"{self.label}: gave {self.count} {_plural(self.unit)} at first and {count} when read again, must give "
                f"the same ones each time it is iterated"
            )
        self.count = count

    def _guarded(self) -> Iterator[Any]:
        """The items; an error in the user's code names the item at which it came."""
        number = 0
        try:
            for item in self.source():
                yield item
                number += 1
        except (InputError, MemoryError):
            raise
        except Exception as error:
            raise InputError(f"{self.label}: {self.unit} {number} cannot be read ({cause(error)})") from error


@dataclass
class ItemStream:
    """How the items of one object become blocks of samples."""

    items: Items
    kind: str  # BATCH, SAMPLE or ITEM
    origin: Origin
    key: str | None
    drop: Drop
    remedy: str  # what to do where nothing says whether an item is a batch

    def blocks(self, most_rows: int) -> Iterator[NDArray]:
        """Yield arrays [b, *shape] of stored numbers, in single samples at most `most_rows` together."""
        group: list[NDArray] = []
        seen: set[int] = set()
        for number, item in enumerate(self.items):
            place = f"{self.items.label}: {self.kind} {number}"
            array = item_array(samples_of_item(item, self.key, place)[0], place, self.drop)
            inner = array.shape if self.kind == SAMPLE else array.shape[1:]
            if inner != self.origin.shape and (
                self.kind == SAMPLE or _size(inner) != _size(self.origin.shape) or not array.ndim
            ):
                raise InputError(self._unequal(place, array.shape))
            if self.kind != SAMPLE:
                seen.add(len(array))
                yield array.reshape(len(array), *self.origin.shape)
                continue
            group.append(array)
            if len(group) >= most_rows:
                yield np.stack(group)
                group = []
        if group:
            yield np.stack(group)
        if self.kind == ITEM and self.items.count > 1 and len(seen) == 1:
            each = f"{self.items.count} items of {sides((seen.pop(), *self.origin.shape))}"
            raise InputError(f"{self.items.label}: {each}, each may be a batch or one sample: {self.remedy}")

    def _fits(self, shape: tuple[int, ...]) -> bool:
        """Whether an item has the shape of the first, or is a batch of as many features."""
        if self.kind == SAMPLE:
            return shape == self.origin.shape
        return bool(shape) and _size(shape[1:]) == _size(self.origin.shape)

    def _unequal(self, place: str, shape: tuple[int, ...]) -> str:
        if self.kind == SAMPLE:
            return f"{place} is {sides(shape)}, must be {sides(self.origin.shape)} as the first"
        if not shape:
            return f"{place} is one number, must be [samples, features]"
        return f"{place} has {_size(shape[1:])} features, must have {_size(self.origin.shape)} as the first"


def item_stream(data: Any, key: str | None, label: str, numbers: bool = False, drop: Drop = None) -> ItemStream | None:
    """Return the stream of an object that is iterated or indexed, or None for any other object.

    Torch's conventions hold: a data set gives single samples, whether it is indexed or iterated, and a DataLoader gives
    batches unless its batch size is None. The items of any other object are batches or samples by what they look like:
    a vector is a sample, an image of Pillow too; with labels as many as its rows an array is a batch, and so is one of
    four axes or more; arrays whose number of rows differs are batches. Where all have the same two or three axes,
    nothing says it, and the first complete pass ends with an error.

    Parameters
    ----------
    data : object
    key : str, optional
        Which entry of items that are mappings.
    label : str
        Name of the data in messages.
    numbers : bool
        Whether a sample may be a single number.
    drop : names or numbers of columns, optional
        Columns to leave out of items that are tables.

    Raises
    ------
    InputError
        For data without items and for a first item that is neither a batch nor a sample.
    """
    kind, remedy = _convention(data)
    if kind is None:
        return None
    if _is_labelled(data):
        data, kind = [data], BATCH
    items = Items(_source(data), kind, label)
    first = items.first()
    if kind == BATCH and _is_uncollated(first, data):
        items = Items(_flattened(data), SAMPLE, label)
        kind, first = SAMPLE, items.first()
    place = f"{label}: {kind} 0"
    samples, companions, left_out = samples_of_item(first, key, place)
    array = item_array(samples, place, drop)
    kind = items.unit = _checked_kind(kind, samples, array.shape, companions, data, place)
    shape = array.shape if kind == SAMPLE else array.shape[1:]
    if not numbers and not (array.ndim if kind == SAMPLE else array.ndim > 1):
        needed = "must have at least one axis" if kind == SAMPLE else "must be [samples, features]"
        raise InputError(f"{place}: shape {array.shape}, {needed}")
    if 0 in array.shape:
        raise InputError(f"{place}: shape {array.shape}, must not be empty")
    left_out = tuple(f"{said} of the items" if said.startswith("key") else said for said in left_out)
    image = samples[0] if isinstance(samples, list) else samples
    largest = largest_pixel(image) if is_image(image) else None
    changes = () if largest is None else (f"divided by {largest}",)
    origin = Origin(shape, changes=changes, left_out=left_out, dtype=str(array.dtype))
    return ItemStream(items, kind, origin, key, drop, remedy)


def item_array(value: Any, place: str, drop: Drop = None) -> NDArray:
    """Return the samples of an item as an array; a table, or whatever else holds several samples, as [b, ...]."""
    if _is_table(value):
        raw = held_samples(value, None, place, drop)
        return as_numbers(raw.x[0 : len(raw.x)], place)
    if drop is not None:
        raise InputError(f"drop: {drop!r}, must be left out for items that are no tables")
    return as_numbers(value, place)


def _convention(data: Any) -> tuple[str | None, str]:
    """What the items of an object are by its class, and the remedy where they are not known."""
    kind, remedy = None, ""
    names = {(base.__module__.partition(".")[0], base.__name__) for base in type(data).__mro__}
    if hasattr(data, "batch_sampler") and hasattr(data, "dataset"):  # a DataLoader
        kind = BATCH if data.batch_sampler is not None else ITEM
        remedy = "give it a batch_size if each is a sample, or np.concatenate(list(data)) as data if each is a batch"
    elif names & {("keras", "Sequence"), ("keras", "PyDataset")}:
        kind = BATCH
    elif _is_iterable_dataset(data) or _is_indexed(data) or ("datasets", "Column") in names:
        kind = SAMPLE
    elif isinstance(data, Sequence | deque):
        kind, remedy = ITEM, "give np.stack(data) if each is a sample, np.concatenate(data) if each is a batch"
    elif isinstance(data, Iterable):
        kind = ITEM
        remedy = "give each as x[None] if it is a sample, or the object an attribute batch_size if it is a batch"
    return kind, remedy


def _is_iterable_dataset(data: Any) -> bool:
    return any(base.__name__ == "IterableDataset" for base in type(data).__mro__)


def _is_indexed(data: Any) -> bool:
    """Whether items are read by number, as those of torch's data sets: these need not end their own iteration."""
    by_number = hasattr(data, "__getitem__") and hasattr(data, "__len__")
    return by_number and not isinstance(data, Sequence) and not _is_iterable_dataset(data)


def _source(data: Any) -> Callable[[], Iterator[Any]]:
    """A function that opens the items anew."""
    return (lambda: _indexed(data)) if _is_indexed(data) else (lambda: iter(data))


def _indexed(dataset: Any) -> Iterator[Any]:
    size = len(dataset)
    for start in range(0, size, GROUP):
        numbers = range(start, min(start + GROUP, size))
        if hasattr(dataset, "__getitems__"):  # torch's protocol for several items at once
            yield from dataset.__getitems__(list(numbers))
        else:
            yield from (dataset[number] for number in numbers)


def _is_labelled(data: Any) -> bool:
    """Whether a tuple or list is an array of samples with their labels, rather than a list of batches."""
    if not isinstance(data, tuple | list) or len(data) < 2:
        return False
    first, *labels = [getattr(item, "shape", ()) for item in data]
    return len(first) > 1 and all(tuple(shape) == (first[0],) for shape in labels)


def _flattened(loader: Any) -> Callable[[], Iterator[Any]]:
    return lambda: (item for batch in loader for item in batch)


def _is_uncollated(batch: Any, loader: Any) -> bool:
    """Whether a batch of a DataLoader is a list of the items as they are, by a collate function of the user's."""
    if not isinstance(batch, list) or not batch:
        return False
    if all(isinstance(item, tuple) or is_image(item) for item in batch):
        return True
    rows = [len(item) if getattr(item, "shape", ()) else None for item in batch]
    of_arrays = all(hasattr(item, "shape") and item.shape == batch[0].shape for item in batch)
    each = isinstance(batch[0], Mapping) or of_arrays
    return each and len(batch) == getattr(loader, "batch_size", None) and len(batch) not in rows


def _checked_kind(kind: str, samples: Any, shape: tuple[int, ...], companions: list[Any], data: Any, place: str) -> str:
    """What the items are, by convention and by the first one. Raises InputError where these contradict each other."""
    by_labels = None if is_image(samples) else _by_companions(shape, companions)
    if kind == SAMPLE and by_labels == BATCH:
        raise InputError(
            f"{place}: {sides(shape)} with {shape[0]} labels looks like a batch, must be one sample (if each item is a "
            f"batch, give DataLoader(data, batch_size=None))"
        )
    if kind != ITEM:
        return kind
    if _is_table(samples):
        return BATCH
    if is_image(samples) or len(shape) < 2:
        return SAMPLE
    if by_labels is not None:
        return by_labels
    if shape[0] == 1:  # either way the values are the same
        return BATCH if len(shape) == 2 else SAMPLE
    return BATCH if len(shape) > 3 or getattr(data, "batch_size", None) == shape[0] else ITEM


def _by_companions(shape: tuple[int, ...], companions: list[Any]) -> str | None:
    """What the labels of an item say: as many as it has rows belong to a batch, one belongs to a sample."""
    lengths = []
    for companion in companions:
        inner = getattr(companion, "shape", None)
        if inner is None and isinstance(companion, list | tuple):
            inner = (len(companion),)
        if inner is not None or is_number(companion) or isinstance(companion, str):
            lengths.append(tuple(inner or ())[:1])
    if len(shape) < 2 or not lengths:
        return None
    if all(length != shape[:1] for length in lengths):
        return SAMPLE
    return BATCH if shape[0] > _FEW and all(length in (shape[:1], ()) for length in lengths) else None


def _is_table(value: Any) -> bool:
    """Whether a value holds several samples by its kind: a table or a sparse matrix, which is no image."""
    return hasattr(value, "columns") or hasattr(value, "schema") or (is_sparse(value) and value.ndim == 2)


def _size(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape))


def _plural(unit: str) -> str:
    return {BATCH: "batches", SAMPLE: "samples", ITEM: "items"}[unit]


def _chained(item: Any, iterator: Iterator[Any]) -> Iterator[Any]:
    yield item
    yield from iterator
