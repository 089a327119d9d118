"""What an item of a loader or a list is: a batch of samples, or one sample."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from phasevae.datasets.values import as_numbers, is_image, is_number, is_sparse, sides
from phasevae.errors import InputError

BATCH, SAMPLE, ITEM = "batch", "sample", "item"
"""What an item is; it is called an item where that is not known yet."""

_FEW = 4
"""A label of up to this many numbers may belong to an image of as many channels."""

_ROUNDING = 1e-2
"""Probabilities in half precision may add up to 1 with this error."""

_FEWEST = 8
"""Nobody trains on so few samples: a list of so few long arrays [b, D] is one of batches."""


def convention(data: Any) -> tuple[str | None, str]:
    """Return what the items of an object are by its class, and the remedy where that is not known.

    None instead for an object without items.
    """
    kind, remedy = None, ""
    names = {(base.__module__.partition(".")[0], base.__name__) for base in type(data).__mro__}
    if hasattr(data, "batch_sampler") and hasattr(data, "dataset"):  # a DataLoader
        kind = BATCH if data.batch_sampler is not None else ITEM
        remedy = "give it a batch_size if each is a sample, or np.concatenate(list(data)) as data if each is a batch"
    elif names & {("keras", "Sequence"), ("keras", "PyDataset")}:
        kind = BATCH
    elif _is_iterable_dataset(data) or is_indexed(data) or ("datasets", "Column") in names:
        kind = SAMPLE
    elif isinstance(data, Sequence | deque):
        kind, remedy = ITEM, "give np.stack(data) if each is a sample, np.concatenate(data) if each is a batch"
    elif isinstance(data, Iterable):
        kind = ITEM
        remedy = "give each as x[None] if it is a sample, or the object an attribute batch_size if it is a batch"
    return kind, remedy


def _is_iterable_dataset(data: Any) -> bool:
    return any(base.__name__ == "IterableDataset" for base in type(data).__mro__)


def is_indexed(data: Any) -> bool:
    """Return whether items are read by number: data sets of torch need not end their own iteration."""
    by_number = hasattr(data, "__getitem__") and hasattr(data, "__len__")
    return by_number and not isinstance(data, Sequence) and not _is_iterable_dataset(data)


def is_labelled(data: Any) -> bool:
    """Return whether a tuple or list is an array of samples with their labels, rather than a list of batches."""
    if not isinstance(data, tuple | list) or len(data) < 2:
        return False
    first, *labels = [getattr(item, "shape", ()) for item in data if item is not None] or [()]
    return len(first) > 1 and all(tuple(shape) == (first[0],) for shape in labels)


def is_uncollated(batch: Any, loader: Any) -> bool:
    """Return whether a batch of a DataLoader is a list of items that were not collated."""
    if not isinstance(batch, list) or not batch:
        return False
    if all(isinstance(item, tuple) or is_image(item) for item in batch):
        return True
    rows = [len(item) if getattr(item, "shape", ()) else None for item in batch]
    of_arrays = all(hasattr(item, "shape") and item.shape == batch[0].shape for item in batch)
    each = isinstance(batch[0], Mapping) or of_arrays
    return each and len(batch) == getattr(loader, "batch_size", None) and len(batch) not in rows


def checked_kind(kind: str, samples: Any, shape: tuple[int, ...], companions: list[Any], data: Any, place: str) -> str:
    """Return what the items of an object are, by convention and by the first one.

    Parameters
    ----------
    kind : str
        What they are by convention; ITEM where there is none.
    samples : object
        The samples in the first item.
    shape : tuple of int
        Their shape.
    companions : list
        What comes with them.
    data : object
        The object itself.
    place : str
        Name of the first item in messages.

    Raises
    ------
    InputError
        Where the first item contradicts the convention.
    """
    by_labels = None if is_image(samples) else _by_companions(shape, companions)
    if kind == SAMPLE and by_labels == BATCH:
        raise InputError(
            f"{place}: {sides(shape)} with {shape[0]} labels looks like a batch, must be one sample (give "
            f"DataLoader(data, batch_size=None) if each item is a batch, with a batch_size if each is a sample)"
        )
    if kind != ITEM:
        return kind
    if is_table(samples) or is_image(samples) or len(shape) < 2:
        return BATCH if is_table(samples) else SAMPLE
    # An image of a list may have as many rows as there are classes, and a sequence a label for each step.
    if by_labels == SAMPLE or (by_labels == BATCH and not isinstance(data, Sequence | deque)):
        return by_labels
    if shape[0] == 1:  # either way the values are the same
        return BATCH if len(shape) == 2 else SAMPLE
    says_so = getattr(data, "batch_size", None) == shape[0]
    return BATCH if len(shape) > 3 or says_so or _is_few_batches(shape, data) else ITEM


def _is_few_batches(shape: tuple[int, ...], data: Any) -> bool:
    """Whether a list would hold a handful of samples only if its tables of many rows were no batches."""
    return isinstance(data, list) and len(shape) == 2 and len(data) <= _FEWEST and shape[0] >= 10 * len(data)


def _by_companions(shape: tuple[int, ...], companions: list[Any]) -> str | None:
    """What the labels of an item say: a vector of as many as it has rows belongs to a batch, single ones to a sample.

    Companions of more axes say nothing: they may be masks of an image or one-hot labels of a batch. Nor does a vector
    of probabilities, which may be the one-hot label of an image with as many rows as there are classes.
    """
    found = [shape_of for shape_of in map(_shape_of_label, companions) if shape_of is not None]
    if len(shape) < 2 or not found:
        return None
    if not any(found):
        return SAMPLE
    if any(map(_is_distribution, companions)):
        return None
    return BATCH if shape[0] > _FEW and all(each in ((), shape[:1]) for each in found) else None


def _is_distribution(label: Any) -> bool:
    """Whether a label is a vector of probabilities."""
    shape = _shape_of_label(label)
    if shape is None or len(shape) != 1:
        return False
    try:
        values = as_numbers(label, "labels").astype(float)
    except InputError:
        return False
    return bool((values >= 0).all() and abs(values.sum() - 1) < _ROUNDING)


def _shape_of_label(label: Any) -> tuple[int, ...] | None:
    """The shape of a label, () for a number or a text; None for anything else."""
    if is_number(label) or isinstance(label, str):
        return ()
    if isinstance(label, list | tuple):
        return (len(label),)
    shape = getattr(label, "shape", None)
    return None if shape is None else tuple(shape)


def is_table(value: Any) -> bool:
    """Return whether a value holds several samples by its kind: a table or a sparse matrix, which is no image."""
    return hasattr(value, "columns") or hasattr(value, "schema") or (is_sparse(value) and value.ndim == 2)
