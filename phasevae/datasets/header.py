"""Whether the first line of a table holds the names of its columns or values."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from phasevae.errors import InputError

MISSING = frozenset(
    ["", "na", "n/a", "#n/a", "nan", "-nan", "null", "none", "<na>", "#na", "1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan"]
)
"""What stands for a missing value, in small letters."""

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?inf(inity)?|true|false", re.IGNORECASE)
_FAR = 10
"""A cell is no value of its column if it is this many ranges of the column away."""


def is_number(cell: str) -> bool:
    """Return whether a cell of a text table is a number or missing; true and false count as numbers."""
    cell = cell.strip()
    return cell.lower() in MISSING or _NUMBER.fullmatch(cell) is not None


def first_is_names(path: Path, lines: Sequence[Sequence[str]], header: bool | None) -> bool:
    """Return whether the first line of a table holds names.

    Parameters
    ----------
    path : Path
        The table, for messages.
    lines : sequence of sequences of str
        Cells of its first lines, with decimal points.
    header : bool or None
        What the user says about it.

    Raises
    ------
    InputError
        If the first line is all numbers and unlike the other lines, or has numbers like theirs and a text where they
        have numbers, and the user does not say what it is.
    """
    if header is not None:
        return header
    first, rest = lines[0], lines[1:]
    texts = [number for number, cell in enumerate(first) if not is_number(cell)]
    if texts and not rest:
        return True
    names = [number for number in texts if any(len(row) > number and is_number(row[number]) for row in rest)]
    if texts and len(texts) == len(first):  # names of all columns, or a table of text alone
        return True
    if names:
        if not _fits_columns(first, rest):
            return True
        reason = f"like the other lines but for {first[names[0]].strip()!r}"
    else:
        reason = _unlike_values(first, rest)
    if reason is None:
        return False
    shown = ", ".join(cell.strip() for cell in first[:4]) + (", ..." if len(first) > 4 else "")
    raise InputError(
        f"{path}: the first line ({shown}) is {reason}, must be declared as names (--header, header=True) or as values "
        "(--no-header, header=False)"
    )


def _unlike_values(first: Sequence[str], rest: Sequence[Sequence[str]]) -> str | None:
    """What makes a line of numbers look like names, such as wavelengths, years or numbers of columns."""
    numbers = [number for number, cell in enumerate(first) if cell.strip() and is_number(cell)]
    rows = [row for row in rest if len(row) > numbers[-1]] if numbers else []
    if len(numbers) < 2 or not rows:
        return None
    head, body = _values([first], numbers)[0], _values(rows, numbers)
    steps = np.diff(head)
    consecutive = bool((np.abs(steps) == 1).all() and (steps == steps[0]).all() and (head % 1 == 0).all())
    if consecutive and (len(head) >= 3 or head[0] in (0, 1)) and not _most(body, _evenly_spaced):
        return "a count"
    if len(head) >= 4 and _evenly_spaced(head) and not _most(body, _evenly_spaced):
        return "evenly spaced"
    if len(head) >= 6 and _monotone(head) and not _most(body, _monotone):
        return "sorted"
    return "far from all other values" if len(rows) >= 5 and _far_off(head, body) else None


def _fits_columns(first: Sequence[str], rest: Sequence[Sequence[str]]) -> bool:
    """Whether most of the numbers in a line are like those below them."""
    numbers = [number for number, cell in enumerate(first) if is_number(cell) and cell.strip().lower() not in MISSING]
    rows = [row for row in rest if len(row) > numbers[-1]] if numbers else []
    if not rows:
        return False
    head, body = _values([first], numbers)[0], _values(rows, numbers)
    low, high = body.min(axis=0), body.max(axis=0)
    width = high - low
    return bool(((low - width <= head) & (head <= high + width)).mean() >= 0.5)


def _far_off(head: np.ndarray, body: np.ndarray) -> bool:
    """Whether most values of a line lie far outside what the other lines have in their columns."""
    low, high = body.min(axis=0), body.max(axis=0)
    far = np.maximum(low - head, head - high) > _FAR * (high - low)
    return bool((far & (high > low)).mean() > 0.5)


def _values(rows: Sequence[Sequence[str]], numbers: list[int]) -> np.ndarray:
    """Cells as numbers [rows, cells]; what is none becomes 0, as it says nothing about the first line."""

    def value(cell: str) -> float:
        try:
            return float(cell)
        except ValueError:
            return 0.0

    return np.nan_to_num(np.array([[value(row[number]) for number in numbers] for row in rows]), posinf=0, neginf=0)


def _evenly_spaced(values: np.ndarray) -> bool:
    steps = np.diff(values)
    return bool(steps[0] != 0 and np.allclose(steps, steps[0], rtol=1e-3, atol=1e-9 * np.abs(values).max()))


def _monotone(values: np.ndarray) -> bool:
    steps = np.diff(values)
    return bool((steps > 0).all() or (steps < 0).all())


def _most(rows: np.ndarray, like: object) -> bool:
    return bool(np.mean([like(row) for row in rows]) > 0.5)


def column_names(cells: Sequence[str]) -> tuple[str, ...]:
    """Return the cells of a line as names of columns, each once; empty ones are named as pandas does."""
    names: list[str] = []
    seen: Counter[str] = Counter()
    for number, cell in enumerate(cells):
        name = cell.strip() or f"Unnamed: {number}"
        names.append(f"{name}.{seen[name]}" if seen[name] else name)
        seen[name] += 1
    return tuple(names)
