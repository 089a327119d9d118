"""Samples that come item by item: loaders of batches, data sets of single samples, lists of either."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phasevae.datasets.entries import samples_of_item
from phasevae.datasets.id_columns import EndColumns
from phasevae.datasets.item_kinds import (
    BATCH,
    ITEM,
    SAMPLE,
    checked_kind,
    convention,
    is_indexed,
    is_labelled,
    is_table,
    is_uncollated,
)
from phasevae.datasets.left_out import Drop, dropped_columns, keeps_all, listed
from phasevae.datasets.memory import held_samples
from phasevae.datasets.reading import Origin
from phasevae.datasets.values import as_numbers, cause, is_image, largest_pixel, sides
from phasevae.errors import InputError
from phasevae.wording import counted

GROUP = 256
"""Single samples that are read together."""


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
    stored: tuple[int, ...]  # shape of a sample with all its columns
    kept: list[int] | None  # the columns to take, None for all
    origin: Origin
    key: str | None
    drop: Drop
    remedy: str  # what to do where nothing says whether an item is a batch

    def blocks(self, most_rows: int) -> Iterator[NDArray]:
        """Yield arrays [b, *shape] of stored numbers, in single samples at most `most_rows` together."""
        group: list[NDArray] = []
        first_pass = self.items.count is None and len(self.origin.shape) == 1 and not keeps_all(self.drop)
        ends = EndColumns(*self.origin.shape) if first_pass else None
        seen: set[int] = set()
        for number, item in enumerate(self.items):
            place = f"{self.items.label}: {self.kind} {number}"
            array = item_array(samples_of_item(item, self.key, place)[0], place, self.drop)
            if not self._fits(array.shape):
                raise InputError(self._unequal(place, array.shape))
            if self.kind != SAMPLE:
                seen.add(len(array))
                yield self._kept(array.reshape(len(array), *self.stored), ends)
                continue
            group.append(array)
            if len(group) >= most_rows:
                yield self._kept(np.stack(group), ends)
                group = []
        if group:
            yield self._kept(np.stack(group), ends)
        if self.kind == ITEM and self.items.count > 1 and len(seen) == 1:
            each = f"{self.items.count} items of {sides((seen.pop(), *self.stored))}"
            raise InputError(f"{self.items.label}: {each}, each may be a batch or one sample: {self.remedy}")
        if ends is not None:
            ends.check(self.items.label)

    def _kept(self, block: NDArray, ends: EndColumns | None) -> NDArray:
        """The columns to take of a block of samples."""
        block = block if self.kept is None else block[:, self.kept]
        if ends is not None:
            ends.add(block)
        return block

    def _fits(self, shape: tuple[int, ...]) -> bool:
        """Whether an item has the shape of the first, or is a batch of as many features."""
        if self.kind == SAMPLE:
            return shape == self.stored
        return bool(shape) and _size(shape[1:]) == _size(self.stored)

    def _unequal(self, place: str, shape: tuple[int, ...]) -> str:
        if self.kind == SAMPLE:
            return f"{place} is {sides(shape)}, must be {sides(self.stored)} as the first"
        if not shape:
            return f"{place} is one number, must be [samples, features]"
        return f"{place} has {counted(_size(shape[1:]), 'feature')}, must have {_size(self.stored)} as the first"


def item_stream(data: Any, key: str | None, label: str, numbers: bool = False, drop: Drop = None) -> ItemStream | None:
    """Return the stream of an object that is iterated or indexed, or None for any other object.

    Torch's conventions hold: a data set gives single samples, whether it is indexed or iterated, and a DataLoader gives
    batches unless its batch size is None. The items of any other object are batches or samples by what they look like:
    a vector is a sample, and so is an image of Pillow or an array with one label; a table is a batch, and so is an
    array of four axes or more; arrays whose numbers of rows differ are batches, and so are those of a list of few long
    ones. An array with a vector of as many labels as it has rows is a batch, but not in a list, whose images may have
    as many rows as there are classes; a one-hot label is no proof anywhere. Other arrays of the same two or three axes
    may be either, and the first complete pass ends with an error.

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
        Columns to leave out of vectors and of items that are tables. By default columns of ids are refused at the end
        of the first pass.

    Raises
    ------
    InputError
        For data without items and for a first item that is neither a batch nor a sample.
    """
    kind, remedy = convention(data)
    if kind is None:
        return None
    if is_labelled(data):
        data, kind = [data], BATCH
    items = Items(_source(data), kind, label)
    first = items.first()
    if kind == BATCH and is_uncollated(first, data):
        items = Items(_flattened(data), SAMPLE, label)
        kind, first = SAMPLE, items.first()
    place = f"{label}: {kind} 0"
    samples, companions, left_out = samples_of_item(first, key, place)
    array = item_array(samples, place, drop)
    kind = items.unit = checked_kind(kind, samples, array.shape, companions, data, place)
    shape = array.shape if kind == SAMPLE else array.shape[1:]
    if not numbers and not (array.ndim if kind == SAMPLE else array.ndim > 1):
        needed = "must be [samples, features]" if kind == BATCH else "must have at least one axis"
        needed += " (of a tuple the first item counts)" if isinstance(first, tuple | list) else ""
        raise InputError(f"{place}: shape {array.shape}, {needed}")
    if 0 in array.shape:
        raise InputError(f"{place}: shape {array.shape}, must not be empty")
    left_out = tuple(f"{said} of the items" if said.startswith("key") else said for said in left_out)
    image = samples[0] if isinstance(samples, list) else samples
    largest = largest_pixel(image) if is_image(image) else None
    changes = () if largest is None else (f"divided by {largest}",)
    kept = None if is_table(samples) else _kept_columns(shape, drop, label)
    if is_table(samples):
        left_out += held_samples(samples, None, place, drop).left_out
    elif kept is not None:
        left_out += tuple(f"column {number}" for number in range(*shape) if number not in kept)
    origin = Origin(shape if kept is None else (len(kept),), changes=changes, left_out=left_out, dtype=str(array.dtype))
    return ItemStream(items, kind, shape, kept, origin, key, drop, remedy)


def _kept_columns(shape: tuple[int, ...], drop: Drop, label: str) -> list[int] | None:
    """The columns to take of samples of a shape; None for all."""
    if not listed(drop):
        return None
    if len(shape) != 1:
        raise InputError(f"drop: {drop!r}, must be left out for samples of shape {shape}")
    dropped = dropped_columns(list(map(str, range(*shape))), drop, label)
    return [number for number in range(*shape) if number not in dropped] if dropped else None


def item_array(value: Any, place: str, drop: Drop = None) -> NDArray:
    """Return the samples of an item as an array; a table, or whatever else holds several samples, as [b, ...]."""
    if is_table(value):
        raw = held_samples(value, None, place, drop)
        return as_numbers(raw.x[0 : len(raw.x)], place)
    return as_numbers(value, place)


def _source(data: Any) -> Callable[[], Iterator[Any]]:
    """A function that opens the items anew."""
    return (lambda: _indexed(data)) if is_indexed(data) else (lambda: iter(data))


def _indexed(dataset: Any) -> Iterator[Any]:
    size = len(dataset)
    for start in range(0, size, GROUP):
        numbers = range(start, min(start + GROUP, size))
        if hasattr(dataset, "__getitems__"):  # torch's protocol for several items at once
            yield from dataset.__getitems__(list(numbers))
        else:
            yield from (dataset[number] for number in numbers)


def _flattened(loader: Any) -> Callable[[], Iterator[Any]]:
    return lambda: (item for batch in loader for item in batch)


def _size(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape))


def _plural(unit: str) -> str:
    return {BATCH: "batches", SAMPLE: "samples", ITEM: "items"}[unit]


def _chained(item: Any, iterator: Iterator[Any]) -> Iterator[Any]:
    yield item
    yield from iterator
