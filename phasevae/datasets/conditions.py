"""Conditions: a value beside each row that the networks see, such as a class, a dose or an age.

A condition is one of `classes`, of which each becomes a column that is 0 or 1, or of `numbers`, whose columns are
standardised. `Coding` turns values into these columns; `Condition` holds the values of a data set.
"""

from __future__ import annotations

import functools
import hashlib
import io
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phasevae.errors import InputError, no_such_choice
from phasevae.wording import counted

KINDS = ("classes", "numbers")

MOST_CLASSES = 1000
"""Each class has a spectrum of its own, and a column in the input of each network."""

COLUMN, LABEL = "column:", "label"
"""In settings: the column of a table, as column:NAME; the labels that come with the data."""

_MISSING = ("", "nan", "none", "<na>", "nat")


@dataclass(frozen=True)
class Coding:
    """How values become the columns that networks see."""

    kind: str  # of KINDS
    classes: tuple[Any, ...] = ()  # the values, ascending: text, whole numbers or bool
    mean: tuple[float, ...] = ()  # of numbers, subtracted from each column
    scale: tuple[float, ...] = ()  # of numbers, their standard deviations

    @property
    def n_columns(self) -> int:
        return len(self.classes) if self.kind == "classes" else len(self.mean)

    def stored(self, values: ArrayLike, label: str = "condition") -> NDArray:
        """Return values as they are stored: the number of each class int32 [N], or standardised float32 [N, columns].

        Raises InputError for a value that is no class of the training, and for numbers of another shape.
        """
        array = _array(values, label)
        if self.kind == "numbers":
            numbers = _numbers(array, label)
            if numbers.shape[1] != self.n_columns:
                raise InputError(f"{label}: shape {array.shape}, must have {counted(self.n_columns, 'column')}")
            return ((numbers - self.mean) / self.scale).astype(np.float32)
        number_of = {value: number for number, value in enumerate(self.classes)}
        listed = _values(array, label)
        for row, value in enumerate(listed):
            if value not in number_of:
                shown = ", ".join(map(str, self.classes[:10])) + (", ..." if len(self.classes) > 10 else "")
                raise InputError(f"{label}: {value!r} in row {row}, must be one of {shown}")
        return np.array([number_of[value] for value in listed], dtype=np.int32)

    def columns(self, stored: NDArray) -> NDArray[np.float32]:
        """Return the columns float32 [N, columns] that networks see, of values as `stored` gives them."""
        if self.kind == "numbers":
            return np.ascontiguousarray(stored, dtype=np.float32)
        return np.eye(len(self.classes), dtype=np.float32)[stored]

    def to_json(self) -> dict[str, Any]:
        """Return what data.json and the weights record."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in vars(self).items()}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Coding:
        """Return the coding that `to_json` wrote."""
        return cls(value["kind"], *(tuple(value[key]) for key in ("classes", "mean", "scale")))


@dataclass(frozen=True)
class Condition:
    """The condition of each row of a data set."""

    coding: Coding
    stored: NDArray  # see `Coding.stored`
    source: str = ""  # where the values are from, such as column:batch

    def __len__(self) -> int:
        return len(self.stored)

    @property
    def is_classes(self) -> bool:
        return self.coding.kind == "classes"

    @functools.cached_property
    def sha256(self) -> str:
        """sha256 (hex) of the file condition.npy."""
        return hashlib.sha256(self.npy()).hexdigest()

    def npy(self) -> bytes:
        """Return the content of condition.npy."""
        stream = io.BytesIO()
        np.lib.format.write_array(stream, np.ascontiguousarray(self.stored), (1, 0), allow_pickle=False)
        return stream.getvalue()

    @property
    def shares(self) -> NDArray:
        """Part of the rows of each class, [classes]."""
        return np.bincount(self.stored, minlength=len(self.coding.classes)) / len(self)

    def columns(self, rows: slice | NDArray = slice(None)) -> NDArray[np.float32]:
        """Return the columns that networks see, for some of the rows."""
        return self.coding.columns(np.asarray(self.stored[rows]))

    def __repr__(self) -> str:
        what = counted(len(self.coding.classes), "class", "classes") if self.is_classes else "numbers"
        return f"<Condition {self.source}: {what}, {counted(len(self), 'row')}>"


def make_condition(values: ArrayLike, n_samples: int, source: str, kind: str | None = None) -> Condition:
    """Check the condition of a data set and find its coding.

    Parameters
    ----------
    values : array [N] or [N, columns]
        Text and whole numbers are classes, other numbers are numbers, unless `kind` says otherwise.
    n_samples : int
        N of the data.
    source : str
        Where the values are from, for messages.
    kind : {"classes", "numbers"}, optional

    Raises
    ------
    InputError
        For values of another number of rows, missing ones, a single class, a class of a single row, more than
        MOST_CLASSES classes, and numbers that do not vary.
    """
    label = f"condition {source}".rstrip()
    if kind is not None and kind not in KINDS:
        raise no_such_choice("condition_kind", kind, KINDS)
    array = _array(values, label)
    if len(array) != n_samples:
        raise InputError(f"{label}: {counted(len(array), 'value')}, must be {n_samples}, one for each sample")
    if kind == "numbers" or (kind is None and (array.dtype.kind == "f" or array.ndim > 1)):
        coding = _coding_of_numbers(_numbers(array, label), label)
    else:
        coding = _coding_of_classes(_values(array, label), label)
    return Condition(coding, coding.stored(array, label), source)


def offsets(condition: Condition, centred: Iterable[NDArray]) -> NDArray[np.float64]:
    """Return what the rows have in common with their condition: least squares of the rows on its columns.

    For classes these are the means of the classes. A decoder that gives them is the collapsed one.

    Parameters
    ----------
    condition : Condition
    centred : iterable of array [b, D]
        The rows, less their mean, in blocks and in the order of the condition.

    Returns
    -------
    array [columns, D]
        Columns of a condition times it are the offsets of their rows.
    """
    products, start = 0.0, 0
    for block in centred:
        columns = condition.columns(slice(start, start + len(block))).astype(np.float64)
        products = products + columns.T @ block
        start += len(block)
    if condition.is_classes:
        return products / (condition.shares * len(condition))[:, None]
    columns = condition.columns().astype(np.float64)
    return np.linalg.pinv(columns.T @ columns, hermitian=True) @ products


def class_rows(condition: Condition, number: int, blocks: Iterable[NDArray]) -> Iterator[NDArray]:
    """Yield the rows of one class among blocks of all rows."""
    start = 0
    for block in blocks:
        chosen = block[condition.stored[start : start + len(block)] == number]
        start += len(block)
        if len(chosen):
            yield chosen


def column_of(condition: Any) -> str | None:
    """Return the name in a condition column:NAME; None for any other."""
    is_column = isinstance(condition, str) and condition.startswith(COLUMN)
    return condition.removeprefix(COLUMN) if is_column else None


def read_condition(given: Any, labels: Any, n_samples: int, kind: str | None = None) -> Condition:
    """Return the condition of a data set as the user gave it.

    Parameters
    ----------
    given : str, path or array [N]
        A .npy file, column:NAME, "label", or the values themselves.
    labels : array [N] or None
        The column that was asked for, or the labels that come with the data.
    n_samples : int
        N of the data.
    kind : {"classes", "numbers"}, optional

    Raises
    ------
    InputError
        For data without labels, a file that cannot be read, and as `make_condition` does.
    """
    if isinstance(given, str) and (given == LABEL or column_of(given) is not None):
        if labels is None:
            raise InputError(f"condition: {given}, must be a .npy file or {COLUMN}NAME: these data have no labels")
        return make_condition(labels, n_samples, given, kind)
    if isinstance(given, str | os.PathLike):
        path = Path(given).expanduser()
        return make_condition(_file_values(path), n_samples, path.name, kind)
    return make_condition(given, n_samples, "", kind)


def _file_values(path: Path) -> NDArray:
    if path.suffix.lower() != ".npy":
        raise InputError(f"condition: {path}, must be a .npy file, {COLUMN}NAME for a column of the data, or {LABEL}")
    try:
        return np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise InputError(f"condition: {path}: no such file") from None
    except (ValueError, OSError, EOFError) as error:
        raise InputError(f"condition: {path}: not a .npy file of numbers or texts, or damaged ({error})") from None


def _array(values: ArrayLike, label: str) -> NDArray:
    array = np.asarray(values)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim not in (1, 2) or array.dtype.kind not in "iufbUO" or 0 in array.shape:
        raise InputError(f"{label}: {array.dtype} of shape {array.shape}, must be one value for each sample")
    return array


def _numbers(array: NDArray, label: str) -> NDArray[np.float64]:
    """Numbers [N, columns]."""
    try:
        numbers = array.astype(np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{label}: holds texts such as {str(array.flat[0])!r}, must be numbers or classes") from None
    if not np.isfinite(numbers).all():
        row = int(np.argwhere(~np.isfinite(numbers))[0][0])
        raise InputError(f"{label}: {array[row]} in row {row}, must be finite")
    return numbers.reshape(len(numbers), -1)


def _values(array: NDArray, label: str) -> list[Any]:
    """Values [N] of classes as plain Python ones; whole numbers as int."""
    if array.ndim != 1:
        raise InputError(f"{label}: shape {array.shape}, must be one value for each sample to be classes")
    values = array.tolist()
    for row, value in enumerate(values):
        if str(value).strip().lower() in _MISSING:
            raise InputError(f"{label}: missing in row {row}, must be given for each sample")
    if any(isinstance(value, str) for value in values):
        return [str(value) for value in values]
    if any(isinstance(value, float) and not value.is_integer() for value in values):
        raise InputError(f"{label}: holds fractions, must be whole numbers or texts to be classes")
    return [value if isinstance(value, bool) else int(value) for value in values]


def _coding_of_numbers(numbers: NDArray, label: str) -> Coding:
    mean, scale = numbers.mean(0), numbers.std(0)
    if (constant := np.flatnonzero(scale <= 1e-12 * np.abs(numbers).max(0))).size:
        which = f" in column {constant[0]}" if numbers.shape[1] > 1 else ""
        raise InputError(f"{label}: the same number in all rows{which}, must vary")
    return Coding("numbers", mean=tuple(mean.tolist()), scale=tuple(scale.tolist()))


def _coding_of_classes(values: list[Any], label: str) -> Coding:
    counts: dict[Any, int] = {}
    for value in values:
        counts[value] = counts.get(value, 0) + 1
    if len(counts) == 1:
        raise InputError(f"{label}: {values[0]!r} in all rows, must have two classes or more")
    if len(counts) > MOST_CLASSES:
        raise InputError(
            f"{label}: {len(counts)} classes, must be at most {MOST_CLASSES}, or condition_kind must be numbers"
        )
    if lone := [value for value, count in counts.items() if count == 1]:
        raise InputError(f"{label}: class {lone[0]!r} has a single row, must have two or more")
    return Coding("classes", classes=tuple(sorted(counts)))
