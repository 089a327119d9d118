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
        For a column that is not there, and if none would be left.
    """
    numbers = set()
    for wanted in _separated(drop, names):
        if wanted == KEEP_ALL and wanted not in names:
            continue
        equal = {number for number, name in enumerate(names) if name == wanted}
        if not equal:
            if not _is_number(wanted) or not -len(names) <= int(wanted) < len(names):
                raise InputError(f"{label}: drop: {wanted!r}, {_choice(wanted, names)}")
            equal = {int(wanted) % len(names)}
        numbers |= equal
    if len(numbers) == len(names):
        raise InputError(f"{label}: drop: leaves out all {len(names)} columns, must leave at least one")
    return numbers


def keeps_all(drop: Drop) -> bool:
    """Return whether columns that look like ids are features all the same."""
    return drop is not None and (not _listed(drop) or KEEP_ALL in _separated(drop, ()))


def drop_hint(columns: Sequence[str | int]) -> str:
    """Return how to leave out columns, on the command line and in Python."""
    more = ["..."] if len(columns) > 20 else []
    option = shlex.quote(",".join(map(str, [*columns[:20], *more])))
    listed = ", ".join([*map(repr, columns[:20]), *more])
    return f"--drop {option}, in Python drop=[{listed}]"


def checked_drop(drop: Any) -> Drop:
    """Return the option `drop`. Raises InputError if it is no list of names and numbers."""
    if not all(isinstance(item, str | int | np.integer) and not isinstance(item, bool) for item in _listed(drop)):
        raise InputError(f"drop: {drop!r}, must be names of columns, or their numbers counted from 0")
    return drop


def _listed(drop: Drop) -> list[Any]:
    if drop is None:
        return []
    return list(drop) if isinstance(drop, list | tuple | set | frozenset) else [drop]


def _separated(drop: Drop, names: Sequence[str]) -> list[Any]:
    """The columns to leave out; a text that is no name may list several with commas between."""
    separated: list[Any] = []
    for wanted in _listed(drop):
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
