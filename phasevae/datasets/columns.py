"""What the columns of a table mean: which are left out, and how the others become features."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from phasevae.datasets.dense import collected
from phasevae.datasets.left_out import Drop, drop_hint, dropped_columns
from phasevae.datasets.reading import RawSamples
from phasevae.errors import InputError, no_such_choice

if TYPE_CHECKING:
    import pandas as pd

_SHOWN = 80
"""Letters of a value that a message shows."""


def table_samples(
    tables: Iterable[pd.DataFrame],
    label: str,
    drop: Drop = None,
    left_out: Sequence[str] = (),
    named: bool = True,
    beside: str | None = None,
) -> RawSamples:
    """Return the features of a table.

    Parameters
    ----------
    tables : iterable of DataFrame
        The table in blocks of rows; all have the same columns.
    label : str
        Name of the table in messages.
    drop : names or numbers of columns, optional
        Columns to leave out.
    left_out : sequence of str
        What was left out before.
    named : bool
        Whether the columns have names of their own.
    beside : str, optional
        A column that is no feature and becomes `labels`, by its name, or its number in a table without names.

    Returns
    -------
    RawSamples
        A number a column, and as many as its lists are long for a column of lists. Neither ids nor missing values are
        looked for.

    Raises
    ------
    InputError
        For a table without rows, columns that hold no numbers, and names in `drop` that no column has.
    """
    tables = iter(tables)
    first = next(tables, None)
    if first is None or not len(first):
        raise InputError(f"{label}: has no rows")
    names = [str(name) for name in first.columns]
    dropped = dropped_columns(names, drop, label)
    aside = None if beside is None else _place(names, beside, label)
    kept = [number for number in range(len(names)) if number not in dropped and number != aside]
    if not kept:
        raise InputError(f"{label}: column '{beside}' is the only one, must be beside features")
    condition = [] if aside is None else [f"column {names[aside]} (the condition)"]
    labels: list[NDArray] = []
    features: list[str] = []
    notes: dict[str, None] = {}

    def blocks() -> Iterator[NDArray]:
        row = 0
        for table in itertools.chain([first], tables):
            values, found, changes = _features(table.iloc[:, kept], kept, named, label, row)
            if features and found != features:
                raise InputError(f"{label}: its lists must have one length in all rows")
            features[:] = found
            notes.update(dict.fromkeys(changes))
            row += len(table)
            if aside is not None:
                labels.append(table.iloc[:, aside].to_numpy())
            yield values

    x = collected(blocks())
    return RawSamples(
        x,
        label,
        columns=tuple(features) if named else (),
        changes=tuple(notes),
        left_out=(*left_out, *(f"column {names[number]}" for number in sorted(dropped)), *condition),
        labels=np.concatenate(labels) if labels else None,
    )


def _place(names: Sequence[str], wanted: str, label: str) -> int:
    """The number of the column with a name."""
    if names.count(wanted) != 1:
        raise no_such_choice(f"{label}: condition column", wanted, names)
    return names.index(wanted)


def _features(
    table: pd.DataFrame, numbers: list[int], named: bool, label: str, first_row: int
) -> tuple[NDArray[np.float64], list[str], list[str]]:
    """Values [rows, features], names of the features and what was changed.

    `numbers` are those of the columns in the whole table, `first_row` is that of the block.
    """
    if all(isinstance(dtype, np.dtype) and dtype.kind in "fiu" for dtype in table.dtypes):
        return table.to_numpy(dtype=np.float64), [str(name) for name in table.columns], []
    parts, names, changes, refused = [], [], [], []
    for position, number in enumerate(numbers):
        column = table.iloc[:, position]
        name: str | int = str(column.name) if named else number
        values, problem = _numbers(column, first_row)
        if values is None:
            refused.append((name, problem))
            continue
        if column.dtype.kind == "b":
            changes.append("true and false as 1 and 0")
        parts.append(values)
        width = values.shape[1]
        names += [f"{column.name}[{i}]" for i in range(width)] if _holds_lists(column) else [str(column.name)]
    if refused:
        name, problem = refused[0]
        shown = f"'{name}'" if named else f"{name} (counted from 0)"
        hint = drop_hint([name for name, _ in refused])
        raise InputError(f"{label}: column {shown} holds {problem}, must hold numbers only or be left out ({hint})")
    return np.concatenate(parts, axis=1), names, changes


def _numbers(column: pd.Series, first_row: int) -> tuple[NDArray[np.float64] | None, str]:
    """The values of a column [rows, features]; for a column that holds no numbers None and what it holds."""
    import pandas as pd

    dtype = column.dtype
    if (odd := _odd_type(dtype)) is not None:
        return None, f"{odd} ({column.iloc[0]})"
    if pd.api.types.is_numeric_dtype(dtype):
        return column.to_numpy(dtype=np.float64, na_value=np.nan)[:, None], ""
    if _holds_lists(column):
        return _lists(column, first_row)
    return _objects(column, first_row)


def _odd_type(dtype: Any) -> str | None:
    """What a column of some type holds that is not taken for numbers; None for numbers, text and objects."""
    import pandas as pd

    if isinstance(dtype, pd.CategoricalDtype):
        return "categories"
    if pd.api.types.is_complex_dtype(dtype):
        return "complex numbers"
    if pd.api.types.is_datetime64_any_dtype(dtype) or isinstance(dtype, pd.PeriodDtype):
        return "dates"
    return "times" if pd.api.types.is_timedelta64_dtype(dtype) else None


def _holds_lists(column: pd.Series) -> bool:
    if column.dtype != np.dtype(object):
        return False
    present = column.dropna() if column.isna().any() else column
    return bool(len(present)) and isinstance(present.iloc[0], list | tuple | np.ndarray)


def _lists(column: pd.Series, first_row: int) -> tuple[NDArray[np.float64] | None, str]:
    """The items of lists of one length."""
    rows = [np.asarray(value) if isinstance(value, list | tuple | np.ndarray) else None for value in column]
    first = next(row for row in rows if row is not None)
    for number, row in enumerate(rows):
        if row is None or row.shape != first.shape:
            size = "no list" if row is None else f"a list of {len(row)}"
            return None, f"{size} in row {first_row + number}, and lists of {len(first)}"
    values = np.stack(rows)
    if values.dtype == object and values.size and isinstance(values.flat[0], list | tuple | np.ndarray):
        try:
            values = np.stack([np.stack(list(row)) for row in values])
        except ValueError:
            return None, "lists of lists of unequal length"
    if values.dtype.kind not in "fiub":
        return None, f"lists of {values.flat[0]!r}" if values.size else "empty lists"
    return values.reshape(len(values), -1).astype(np.float64), ""


def _objects(column: pd.Series, first_row: int) -> tuple[NDArray[np.float64] | None, str]:
    """Numbers among objects, such as decimal fractions; missing values become NaN."""
    missing = column.isna().to_numpy()
    values = column.to_numpy(dtype=object)
    result = np.full((len(column), 1), np.nan)
    for number in np.flatnonzero(~missing):
        if not isinstance(values[number], Real | Decimal | np.bool_):
            odd, row = _first_odd(values, missing, number)
            return None, f"{' '.join(repr(odd).split())[:_SHOWN]} in row {first_row + row}"
        result[number] = float(values[number])
    return result, ""


def _first_odd(values: NDArray, missing: NDArray, start: int) -> tuple[Any, int]:
    """The first value that could not even be read as a number, and its row; among texts these are what is wrong."""
    for number in range(start, len(values)):
        if missing[number]:
            continue
        if not isinstance(values[number], str):
            return values[number], number
        try:
            float(values[number])
        except ValueError:
            return values[number], number
    return values[start], start
