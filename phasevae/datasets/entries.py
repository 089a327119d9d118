"""Which entry of a mapping or a file, and which item of a tuple, holds the samples."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from phasevae.datasets.files import shown_name
from phasevae.datasets.values import is_image, is_nested_numbers
from phasevae.errors import InputError, no_such_choice

USUAL_KEYS = ("data", "x", "X", "image", "images", "img", "input", "inputs", "pixel_values", "features")
"""Under one of these names a mapping or a file keeps its samples, unless a key is given."""

_MOST_LISTED = 12


def is_mapping(data: Any) -> bool:
    """Return whether an object gives its entries by name: a dict, a group of HDF5 or zarr, an .npz file."""
    if isinstance(data, type) or hasattr(data, "dtype") or hasattr(data, "columns"):  # an array or a table
        return False
    return isinstance(data, Mapping) or all(hasattr(data, name) for name in ("keys", "__getitem__", "__contains__"))


def chosen_entry(mapping: Any, key: str | None, place: str) -> tuple[str, Any, str | None]:
    """Choose the entry of a mapping that holds the samples.

    Parameters
    ----------
    mapping : mapping
    key : str, optional
        Its name; "a/b" is entry b of entry a. By default the one entry, or the one that has a usual name.
    place : str
        Name of the mapping in messages.

    Returns
    -------
    name : str
    entry : object
    rest : str or None
        The part of the key that counts within the entry.

    Raises
    ------
    InputError
        For a mapping without such an entry, and for one with several.
    """
    names = list(mapping.keys())
    if key is not None:
        if key in names:
            return key, mapping[key], None
        first, _, rest = key.partition("/")
        if rest and first in names:
            return first, mapping[first], rest
        raise InputError(f"{place}: key {key!r}, must be one of {_listed(names)}")
    if not names:
        raise InputError(f"{place}: an empty {type(mapping).__name__}, must hold samples")
    usual = _usual(names)
    if len(usual) != 1:
        several = f" ({', '.join(map(str, usual))} are usual)" if usual else ""
        raise InputError(f"{place}: a mapping with several entries, key must be one of {_listed(names)}{several}")
    return usual[0], mapping[usual[0]], None


def chosen_key(path: Path, key: str | None, keys: list[str], what: str = "array") -> tuple[str, tuple[str, ...]]:
    """Choose which of several arrays of a file to read.

    Parameters
    ----------
    path : Path
        The file, for messages.
    key : str or None
        What the user asks for; None is enough where there is one, or one with a usual name.
    keys : list of str
        What there is; "a/b" is entry b of entry a.
    what : str
        What they are called.

    Returns
    -------
    key : str
    left_out : tuple of str
        The others, in words.

    Raises
    ------
    InputError
        If there is none, `key` is none of them, or there are several and `key` is None.
    """
    if not keys:
        raise InputError(f"{path}: holds no {what}s")
    key = _usual_key(keys) if key is None else key
    if key not in keys:
        known = [*map(shown_name, keys[:20]), *(["..."] if len(keys) > 20 else [])]
        if key is None:
            raise InputError(f"{path}: holds several {what}s: key must be one of {', '.join(known)}")
        raise no_such_choice(f"{path}: key", key, known)
    return key, tuple(f"entry {shown_name(other)}" for other in keys if other != key)


def _usual(names: list[Any]) -> list[Any]:
    """The names under which a mapping probably keeps its samples."""
    return names if len(names) == 1 else [name for name in names if name in USUAL_KEYS]


def _usual_key(keys: list[str]) -> str | None:
    """The key that is chosen level by level, as in mappings of mappings; None where a level has several."""
    usual = _usual(list(dict.fromkeys(key.partition("/")[0] for key in keys)))
    if len(usual) != 1 or usual[0] in keys:
        return usual[0] if len(usual) == 1 else None
    start = f"{usual[0]}/"
    rest = _usual_key([key.removeprefix(start) for key in keys if key.startswith(start)])
    return None if rest is None else start + rest


def _listed(names: list[Any]) -> str:
    shown = list(map(str, names[:_MOST_LISTED]))
    return ", ".join(shown if len(shown) == len(names) else [*shown, "..."])


def samples_of_item(item: Any, key: str | None, place: str) -> tuple[Any, list[Any], tuple[str, ...]]:
    """Return the samples in an item of a loader or data set, and what comes with them.

    Parameters
    ----------
    item : object
        The samples themselves, a tuple or list that begins with them, a mapping, or any nesting of these.
    key : str, optional
        See `chosen_entry`.
    place : str
        Name of the item in messages.

    Returns
    -------
    samples : object
    companions : list
        Labels and whatever else the item holds.
    left_out : tuple of str
        The companions in words.

    Raises
    ------
    InputError
        For an item without samples.
    """
    companions: list[Any] = []
    left_out: list[str] = []
    while True:
        if is_mapping(item):
            name, entry, key = chosen_entry(item, key, place)
            others = [other for other in item if other != name]
            companions += [item[other] for other in others]
            left_out += [f"key {other}" for other in others]
            if _is_list_of_samples(entry):
                return entry, companions, tuple(left_out)
            item = entry
        elif isinstance(item, tuple | list) and not _is_list_of_samples(item):
            if not item:
                raise InputError(f"{place}: an empty {type(item).__name__}, must hold samples")
            companions += item[1:]
            if len(item) > 1:
                left_out.append("all but the first of each tuple" if len(item) > 2 else "the second of each pair")
            item = item[0]
        else:
            break
    if key is not None:
        raise InputError(f"key: {key!r}, must be left out where items have no names")
    return item, companions, tuple(left_out)


def _is_list_of_samples(item: Any) -> bool:
    """Whether a list holds numbers or images, and is no pair of samples and labels."""
    return isinstance(item, list) and bool(item) and (is_nested_numbers(item) or all(map(is_image, item)))
