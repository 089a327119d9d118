"""Columns that the user leaves out of a table."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

import numpy as np

from phasevae.errors import InputError
from phasevae.wording import suggestion

KEEP_ALL = "none"
"""In a list of columns to leave out: all others are features, even those that look like ids."""

Drop = str | int | Sequence[str | int] | None
"""Columns to leave out: names, or numbers counted from 0. An empty list leaves out none, ids included."""


def dropped_columns(names: Sequence[str], drop: Drop, label: str) -> set[int]:
    """Return the numbers of the columns to leave out.

    Parameters
    ----------
    names : sequence of str
        Names of all columns; for columns without names their numbers.
    drop : names or numbers of columns
    label : str
        Name of the table in messages.

    Raises
    ------
    InputError
        For a column that is not there, a number that is also the name of another column, and if none would be left.
    """
    numbers = set()
    for wanted in _separated(drop, names):
        if wanted == KEEP_ALL and wanted not in names:
            continue
        text = wanted if isinstance(wanted, str) or -len(names) <= wanted < len(names) else str(wanted)
        equal = {number for number, name in enumerate(names) if name == text}
        if not equal:
            equal = {_place(wanted, names, label)}
        numbers |= equal
    if len(numbers) == len(names):
        raise InputError(f"{label}: drop: leaves out all {len(names)} columns, must leave at least one")
    return numbers


def _place(wanted: str | int, names: Sequence[str], label: str) -> int:
    """The number of a column that is given by its place, which may be counted from the end."""
    if not _is_number(wanted) or not -len(names) <= int(wanted) < len(names):
        raise InputError(f"{label}: drop: {wanted!r}, {_choice(wanted, names)}")
    place = int(wanted) % len(names)
    if str(wanted) in names and names[place] != str(wanted):
        raise InputError(
            f"{label}: drop: {wanted}, must be a name in quotes: it may be the column at that place, '{names[place]}', "
            f"or that named '{wanted}'"
        )
    return place


def keeps_all(drop: Drop, left_out: Sequence[str] = ()) -> bool:
    """Return whether columns that look like ids are features all the same.

    Parameters
    ----------
    drop : names or numbers of columns
    left_out : sequence of str
        What was left out: after "column none" the word "none" is the name of a column.
    """
    says_none = KEEP_ALL in _separated(drop, ()) and f"column {KEEP_ALL}" not in left_out
    return drop is not None and (not listed(drop) or says_none)


def drop_hint(columns: Sequence[str | int]) -> str:
    """Return how to leave out columns, on the command line and in Python."""
    more = ["..."] if len(columns) > 20 else []
    option = shlex.quote(",".join(map(str, [*columns[:20], *more])))
    names = ", ".join([*map(repr, columns[:20]), *more])
    return f"--drop {option}, in Python drop=[{names}]"


def checked_drop(drop: Any) -> Drop:
    """Return the option `drop`. Raises InputError if it is no list of names and numbers."""
    if not all(isinstance(item, str | int | np.integer) and not isinstance(item, bool) for item in listed(drop)):
        raise InputError(f"drop: {drop!r}, must be names of columns, or their numbers counted from 0")
    return drop


def listed(drop: Drop) -> list[Any]:
    """Return the names and numbers in the option `drop`: the number 0 alone is one of them."""
    if drop is None:
        return []
    return list(drop) if isinstance(drop, list | tuple | set | frozenset) else [drop]


def _separated(drop: Drop, names: Sequence[str]) -> list[Any]:
    """The columns to leave out; a text that is no name may list several with commas between."""
    separated: list[Any] = []
    for wanted in listed(drop):
        several = isinstance(wanted, str) and wanted not in names
        separated += [part.strip() for part in wanted.split(",")] if several else [wanted]
    return separated


def _is_number(wanted: str | int) -> bool:
    return not isinstance(wanted, str) or wanted.removeprefix("-").isdecimal()


def _choice(wanted: str | int, names: Sequence[str]) -> str:
    """Which columns there are, with the one that was probably meant."""
    numbers = f"a number from 0 to {len(names) - 1}"
    if list(names) == [str(number) for number in range(len(names))]:
        return f"must be {numbers}"
    known = [*names[:20], *(["..."] if len(names) > 20 else []), f"or {numbers}"]
    return suggestion(wanted, known, "must be one of")
