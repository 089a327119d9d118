"""How a text table is written, from its first lines: encoding, comments, separator, decimal sign, names of columns."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from phasevae.datasets.header import column_names, first_is_names, is_number
from phasevae.errors import InputError

_SAMPLE_LINES = 200
_LEAST_LINES = 10
_SCORED_LINES = 50
_SCORED_CELLS = 5000
_SAMPLE_LETTERS = 2**20
_LONGEST_LINE = 16 * 2**20
_BLANKS = r"\s+"
_SEPARATORS = (";", "\t", ",", "|", _BLANKS)
_MARKS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
_DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+([eE][+-]?\d+)?")
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+")
_HALF_NUMBER = re.compile(r"-0|[+-]?0\d+")
_WITH_EXPONENT = re.compile(r"\d+[eE][+-]?\d+")
_GROUPED = re.compile(r"[+-]?\d{1,3}(,\d{3})+(\.\d*)?")


@dataclass(frozen=True)
class Dialect:
    """How a text table is written."""

    encoding: str
    lines_before: int  # before the first line of values
    comment: str | None
    separator: str
    decimal: str
    names: tuple[str, ...] | None
    """Names of the columns, if the file has any."""
    width: int
    empty_end: bool
    """Whether the last column has neither a name nor values, as each line ends with a separator."""


def dialect_of(path: Path, stream: BinaryIO, header: bool | None, encoding: str) -> Dialect:
    """Recognise how a text table is written.

    Parameters
    ----------
    path : Path
        The table, for messages.
    stream : binary stream
        Its bytes, from the first on.
    header : bool or None
        Whether the first line holds names; None to recognise it.
    encoding : str
        Of a file without a byte-order mark.

    Raises
    ------
    UnicodeDecodeError
        For a file in another encoding.
    InputError
        For a file without lines, and where the decimal sign or the meaning of the first line is ambiguous.
    """
    encoding, lines = _first_lines(path, stream, encoding)
    comments = 0
    while comments < len(lines) and (not lines[comments].strip() or lines[comments].lstrip()[0] in "#%"):
        comments += 1
    separators: Sequence[str] = _SEPARATORS
    if comments < len(lines) and (declared := re.fullmatch(r"sep=(.)\s*", lines[comments], re.IGNORECASE)):
        separators, comments = [declared[1]], comments + 1
    body = [line for line in lines[comments:] if line.strip() and not line.lstrip().startswith("#")]
    if not body:
        raise InputError(f"{path}: has no rows")
    scores = {each: _score(body[:_SCORED_LINES], each) for each in separators}
    separator = max(scores, key=scores.__getitem__)
    if scores[separator][1] == 0:
        separator = ","  # a single column
    rows = _split(body, separator)
    decimal = _decimal(path, rows)
    if separator == "," and len(rows[-1]) % 2 == 0:
        _check_commas(path, rows)
    if decimal == ",":
        rows = [[_with_point(cell) for cell in row] for row in rows]
    names = _names_in_comment(lines[:comments], separator, len(rows[-1])) if header is None else None
    names_in_line = first_is_names(path, rows, False if names and _all_numbers(rows[0]) else header)
    if names_in_line:
        names = column_names(rows[0])
    values = rows[1:] if names_in_line else rows
    width = len(values[0]) if values else len(rows[0])
    if names is not None and width != len(names):
        row_names = " (the first column has no name, as R writes row names: col.names=NA)"
        raise InputError(
            f"{path}: its first row has {width} cells, must have {len(names)} as the line of names has"
            f"{row_names if width == len(names) + 1 else ''}"
        )
    empty_end = width > 1 and not any(row[width - 1].strip() for row in rows if len(row) == width)
    before = comments
    if names_in_line:
        before = 1 + next(number for number in range(comments, len(lines)) if lines[number] == body[0])
    has_comments = any(line.lstrip().startswith("#") for line in lines[comments:])
    marked = any("#" in line for line in body[names_in_line:])  # as a part of a text
    return Dialect(
        encoding, before, "#" if has_comments or not marked else None, separator, decimal, names, width, empty_end
    )


def _first_lines(path: Path, stream: BinaryIO, encoding: str) -> tuple[str, list[str]]:
    """The encoding and the first lines, without their ends."""
    start = stream.peek(4)[:4]
    encoding = next((name for mark, name in _MARKS.items() if start.startswith(mark)), encoding)
    lines: list[str] = []
    size = 0
    with io.TextIOWrapper(stream, encoding=encoding, newline="") as text:
        while len(lines) < _LEAST_LINES or (len(lines) < _SAMPLE_LINES and size < _SAMPLE_LETTERS):
            line = text.readline(_LONGEST_LINE)
            if not line:
                break
            if len(line) == _LONGEST_LINE:
                raise InputError(f"{path}: line {len(lines) + 1} is longer than {_LONGEST_LINE} letters")
            if "\0" in line:
                raise InputError(f"{path}: holds zero bytes, must be text (UTF-16 must begin with its byte-order mark)")
            lines.append(line.rstrip("\r\n"))
            size += len(line)
    return encoding, lines


def _split(lines: Sequence[str], separator: str) -> list[list[str]]:
    if separator == _BLANKS:
        return [line.split() for line in lines]
    return [row for row in csv.reader(lines, delimiter=separator, skipinitialspace=True) if row]


def _score(lines: Sequence[str], separator: str) -> tuple[float, float]:
    """How well a separator explains the lines: part of numbers among the cells, part of lines of the usual width."""
    try:
        rows = _split(lines, separator)
    except csv.Error:
        return 0.0, 0.0
    rows = rows[1:] or rows
    if not rows:
        return 0.0, 0.0
    width, count = Counter(map(len, rows)).most_common(1)[0]
    if width < 2:
        return 0.0, 0.0
    cells = [cell.strip() for row in rows for cell in row][:_SCORED_CELLS]
    numbers = sum(is_number(cell) or ("," in cell and is_number(_with_point(cell))) for cell in cells)
    return numbers / len(cells) * count / len(rows), count / len(rows)


def _decimal(path: Path, rows: Sequence[Sequence[str]]) -> str:
    """The decimal sign. Commas within numbers may also separate thousands."""
    cells = [cell.strip() for row in rows for cell in row]
    with_comma = [cell for cell in cells if "," in cell]
    grouped = [cell for cell in with_comma if _GROUPED.fullmatch(cell)]
    decimal = [cell for cell in with_comma if _DECIMAL_COMMA.fullmatch(cell)]
    if not grouped and not decimal:
        return "."
    thousands = [cell for cell in grouped if "." in cell or cell.count(",") > 1]
    if thousands:
        raise InputError(f"{path}: {thousands[0]!r}, must be written without separators of thousands")
    if any("." in cell and is_number(cell) for cell in cells):
        raise InputError(f"{path}: {decimal[0]!r} has a comma where other numbers have a point, must be of one kind")
    if all(_THOUSANDS.fullmatch(cell) for cell in decimal):
        raise InputError(f"{path}: {decimal[0]!r} may be a fraction or thousands, must be written with a decimal point")
    return ","


def _check_commas(path: Path, rows: Sequence[Sequence[str]]) -> None:
    """Raise InputError where separating commas may be decimal commas.

    Without any point, cells such as -0 and 05, or an exponent in every second cell, are halves of numbers.
    """
    cells = [cell.strip() for row in rows for cell in row]
    if any("." in cell for cell in cells):
        return
    halves = [cell for cell in cells if _HALF_NUMBER.fullmatch(cell)]
    second = [cell.strip() for row in rows for cell in row[1::2]]
    if halves or all(map(_WITH_EXPONENT.fullmatch, second)):
        odd = (halves or second)[0]
        raise InputError(
            f"{path}: its commas may be decimal commas (a cell is {odd!r}), must be written with decimal points"
        )


def _with_point(cell: str) -> str:
    return cell.strip().replace(",", ".") if _DECIMAL_COMMA.fullmatch(cell.strip()) else cell


def _names_in_comment(comments: Sequence[str], separator: str, width: int) -> tuple[str, ...] | None:
    """Names of the columns from the last comment before the values, as numpy.savetxt writes them."""
    if not comments or not comments[-1].strip():
        return None
    text = re.sub(r"^[#%]+(\s+|$)", "", comments[-1].strip())  # a sign at the first name is a part of it
    cells = _split([text], separator) if text else []
    return column_names(cells[0]) if cells and len(cells[0]) == width > 1 else None


def _all_numbers(row: Sequence[str]) -> bool:
    return all(map(is_number, row))
