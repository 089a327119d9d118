"""Columns that number or name the rows instead of measuring something.

Such a column has a huge variance. If it became a feature, it would decide the whole answer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phasevae.datasets.base import row_slices
from phasevae.datasets.left_out import Drop, drop_hint, keeps_all
from phasevae.errors import InputError

_ID = re.compile(r"(^|[\W_\d])(ids?|idx|uid|uuid|guid|pk)$", re.IGNORECASE)
_CAMEL_ID = re.compile(r"[a-z](Id|ID|Idx)s?$")
"""Names such as user_id and userId; "fluid" and "acid" are other words."""

_NAMES_ROWS = re.compile(
    r"^(index|rows?|key|no|nr|num|number|#|obs|observation|sample|case|record|item|level_?\d|row[\W_]*(number|name|num|no)"
    r"|__index_level_\d+__)[\W_]*$",
    re.IGNORECASE,
)
_UNNAMED = re.compile(r"^(Unnamed: \d+(_level_\d+)?|)$")
_PEEK = 1000
_ENOUGH_ROWS = 8
"""From as many rows on, whole numbers that rise throughout are no coincidence."""


def check_ids(x: Any, columns: Sequence[str], label: str, drop: Drop = None) -> None:
    """Refuse columns of ids, unless the user keeps them.

    Parameters
    ----------
    x : array [N, D], or anything else with slices of rows
        Only its first and last column are looked at if they have no names.
    columns : sequence of str
        Names of the columns; may be empty.
    label : str
        Name of the data in messages.
    drop : names or numbers of columns, optional
        An empty list keeps all columns; so does the word "none" in it.

    Raises
    ------
    InputError
        For a column without a name beside columns with names; a column of whole numbers with a name such as id; and a
        column of whole numbers that rise, or are 1 to N in another order.
    """
    if keeps_all(drop) or len(x.shape) != 2 or not x.shape[0] or x.shape[1] < 2 or x.dtype.kind not in "fiu":
        return
    found = _named_ids(x, columns) or _counting(x, range(x.shape[1]) if columns else (0, x.shape[1] - 1))
    if not found:
        return
    number, reason = next(iter(found.items()))
    wanted = [columns[number] if columns and columns[number] else number for number in found]
    shown = f"'{wanted[0]}'" if isinstance(wanted[0], str) else f"{number} (counted from 0)"
    raise InputError(
        f"{label}: column {shown} {reason}, must be left out ({drop_hint(wanted)}) or kept (--drop none, drop=[])"
    )


def _named_ids(x: Any, columns: Sequence[str]) -> dict[int, str]:
    """Columns whose names say that they are ids, with the reason."""
    found = {}
    for number, name in enumerate(columns):
        if number == 0 and _UNNAMED.match(name) and not all(map(_UNNAMED.match, columns)):
            found[number] = "has no name and stands first, as the index of a table does"
        elif _ID.search(name) or _CAMEL_ID.search(name):
            values = _column(x, number)
            if _whole(values):
                found[number] = f"holds ids by its name ({_shown(values)})"
        elif _NAMES_ROWS.match(name):
            values = _column(x, number)
            if _whole(values) and np.unique(values).size == values.size:
                found[number] = f"numbers the rows ({_shown(values)})"
    return found if len(found) < len(columns) else {}


def _counting(x: Any, candidates: Sequence[int]) -> dict[int, str]:
    """Columns of whole numbers that rise or are a permutation of consecutive numbers, with the reason."""
    first = np.asarray(x[: min(_PEEK, len(x))])
    candidates = sorted(set(candidates))
    found = {}
    for number in candidates:
        peeked = first[:, number]
        if not _whole(peeked) or np.unique(peeked).size < len(peeked):
            continue
        values = _column(x, number)
        if not _whole(values):
            continue
        steps = np.diff(values)
        if (len(values) >= _ENOUGH_ROWS // 2 and (steps == 1).all()) or (
            len(values) >= _ENOUGH_ROWS and (steps > 0).all()
        ):
            found[number] = f"holds whole numbers that rise from row to row ({_shown(values)})"
        elif len(values) >= _ENOUGH_ROWS and np.array_equal(np.sort(values), values.min() + np.arange(len(values))):
            found[number] = f"holds every number from {values.min():g} to {values.max():g} once, in another order"
    # Where all columns rise there is no telling ids from data, and nothing would be left.
    return found if len(found) < len(candidates) else {}


def _column(x: Any, number: int) -> NDArray[np.float64]:
    blocks = [np.asarray(x[rows][:, number], dtype=np.float64) for rows in row_slices(*x.shape)]
    return np.concatenate(blocks)


def _whole(values: NDArray) -> bool:
    return bool(np.isfinite(values).all() and (values == np.floor(values)).all())


def _shown(values: NDArray) -> str:
    return ", ".join(f"{value:.15g}" for value in values[:3]) + (", ..." if len(values) > 3 else "")
