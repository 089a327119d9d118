"""Tables as CSV files with exact floats, and a JSON file for each with its columns and its origin."""

from __future__ import annotations

import csv
import hashlib
import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from phasevae.artifacts.files import file_sha256, read_file, read_json, replacing, write_json
from phasevae.artifacts.schema_errors import shown
from phasevae.artifacts.table_schemas import TABLES, Column, TableSchema
from phasevae.errors import InputError

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

_DATATYPES = {"i": "integer", "u": "integer", "f": "double", "b": "boolean"}


def write_table(path: Path | str, table: pd.DataFrame, provenance: Mapping[str, Any] | None = None) -> None:
    """Write a table as CSV with exact floats.

    Parameters
    ----------
    path : Path or str
    table : DataFrame
        Undefined cells are written as empty ones.
    provenance : mapping, optional
        The origin of the table, to be written by `describe_table`.
    """
    with replacing(path) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n")
        describe_table(path, table, provenance, temporary)


def describe_table(path: Path | str, table: pd.DataFrame, provenance: Mapping[str, Any] | None, written: Path) -> None:
    """Write the columns and the origin of a table to its `metadata_path`, as a CSV file has no room for them.

    This is done before the table gets its name: a table that is there has its metadata, whatever was interrupted.

    Parameters
    ----------
    path : Path or str
        The table.
    table : DataFrame
        Its content.
    provenance : mapping or None
        Its origin. With None the metadata of an earlier table are removed.
    written : Path
        The file with the content, which will be renamed to `path`.

    References
    ----------
    J. Tennison and G. Kellogg, Metadata Vocabulary for Tabular Data, W3C Recommendation (2015).
    """
    if provenance is None:
        metadata_path(path).unlink(missing_ok=True)
        return
    columns = [
        {"name": str(name), "datatype": _DATATYPES.get(kind.kind, "string")} for name, kind in table.dtypes.items()
    ]
    metadata = {
        "@context": "http://www.w3.org/ns/csvw",
        "url": Path(path).name,
        "tableSchema": {"columns": columns},
        "notes": [{"provenance": {**provenance, "sha256": file_sha256(written)}}],
    }
    write_json(metadata_path(path), metadata, sealed=False)


def metadata_path(path: Path | str) -> Path:
    """Return the path of the metadata of a table."""
    return Path(f"{path}-metadata.json")


def read_table(
    path: Path | str, kind: str | None = None, required: tuple[str, ...] = (), sha256: str | None = None
) -> pd.DataFrame:
    """Read a CSV table with exact floats and check it.

    Parameters
    ----------
    path : Path or str
    kind : str, optional
        The schema that it must meet (`phasevae.artifacts.table_schemas`).
    required : tuple of str
        Columns that it must have beyond those that the schema asks for.
    sha256 : str, optional
        Digest that it must have; by default that of its metadata, if there are any.

    Returns
    -------
    DataFrame
        Of the columns of the schema, whole numbers are int64 and other numbers float64, NaN for an empty cell. A flag
        is bool, or an object, None for an empty cell.

    Raises
    ------
    InputError
        If the file is missing, is not a CSV table, was altered after it was written, has no rows, lacks a column, or
        does not meet the schema. It names the file, the line, the column and the value.
    """
    path = Path(path)
    schema = TABLES[kind] if kind is not None else TableSchema({}, ())
    return _checked_table(path, _verified(path, sha256), schema, required)


def read_tables(
    paths: Sequence[Path], kind: str, required: tuple[str, ...], sha256: Sequence[str]
) -> tuple[pd.DataFrame, NDArray[np.int_]]:
    """Read many small CSV tables of one kind as one, much faster than `read_table` reads each.

    Parameters
    ----------
    paths : sequence of Path
    kind : str
        The schema that each must meet.
    required : tuple of str
        Columns that each must have beyond those that the schema asks for.
    sha256 : sequence of str
        The digest that each must have.

    Returns
    -------
    table : DataFrame
        The rows of all tables, in the order of `paths`.
    origin : array [rows]
        For each row the index of its file in `paths`.

    Raises
    ------
    InputError
        For a file that `read_table` refuses, as it does: for the first without its digest, else for the first whose
        content is wrong.
    """
    import pandas as pd

    schema = TABLES[kind]
    contents = [_verified(path, digest) for path, digest in zip(paths, sha256, strict=True)]
    together = _checked_together(paths[0], contents, schema, required)
    if together is not None:
        return together
    # Something is wrong or unusual: the tables read one by one give the message, or the rows.
    tables = [_checked_table(path, content, schema, required) for path, content in zip(paths, contents, strict=True)]
    return pd.concat(tables, ignore_index=True), np.repeat(np.arange(len(paths)), [len(table) for table in tables])


def _checked_together(
    path: Path, contents: Sequence[bytes], schema: TableSchema, required: tuple[str, ...]
) -> tuple[pd.DataFrame, NDArray[np.int_]] | None:
    """Parse and check tables with the same header as one, as `read_tables` returns it; None if any check fails."""
    header = contents[0].partition(b"\n")[0] + b"\n"
    if not all(content.startswith(header) and content.endswith(b"\n") for content in contents):
        return None
    # Only without them is every line feed the end of a row or of a blank line.
    if any(b"\r" in content or b'"' in content for content in contents):
        return None
    n_rows = [content.count(b"\n") - 1 for content in contents]
    joined = header + b"".join(content[len(header) :] for content in contents)
    try:
        # The key is unique in each table, not in all together.
        table = _checked_table(path, joined, replace(schema, key=(), further_key=()), required)
    except InputError:
        return None
    if min(n_rows) == 0 or sum(n_rows) != len(table):
        return None
    origin = np.repeat(np.arange(len(contents)), n_rows)
    key = [name for name in (*schema.key, *schema.further_key) if name in table.columns]
    return None if table[key].assign(origin=origin).duplicated().any() else (table, origin)


def _verified(path: Path, sha256: str | None) -> bytes:
    """Return the content of a table that has its digest."""
    content = read_file(path, "a CSV table")
    _check_sha256(path, content, sha256)
    return content


def _checked_table(path: Path, content: bytes, schema: TableSchema, required: tuple[str, ...]) -> pd.DataFrame:
    """Parse a table and check it. `path` is for messages."""
    _check_form(path, content)
    table = _parsed(path, content, schema)
    needed = [name for name, column in schema.columns.items() if column.required]
    for name in (*needed, *required):
        if name not in table.columns:
            raise InputError(f"{path}: column '{name}' is missing (its columns: {', '.join(table.columns)})")
    if table.empty:
        raise InputError(f"{path}: has no rows")
    for name, column in schema.columns.items():
        if name in table.columns:
            table[name] = _checked_column(path, name, table[name], column)
    key = [*schema.key, *(name for name in schema.further_key if name in table.columns)]
    if key and set(key) <= set(table.columns) and (repeated := table.duplicated(key)).any():
        row = int(repeated.to_numpy().argmax())
        place = ", ".join(f"{name}={table[name].iloc[row]}" for name in key)
        raise InputError(f"{path}: line {row + 2}: {place} appears twice, must be one row")
    return table


def _check_sha256(path: Path, content: bytes, sha256: str | None) -> None:
    """Compare the content with `sha256`, or with the digest in the metadata of the table, if it has any."""
    origin = metadata_path(path)
    if sha256 is None and origin.is_file():
        sha256 = read_json(origin, kind="metadata")["notes"][0]["provenance"].get("sha256")
    if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
        raise InputError(f"{path}: altered after it was written (its sha256 is not the recorded one); make it again")


def _check_form(path: Path, content: bytes) -> None:
    """Check that the names of the columns differ and that all rows have as many cells; pandas would pad or cut them."""
    try:
        lines = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
        names = next(lines, [])
        for name in names:
            if names.count(name) > 1:
                raise InputError(f"{path}: column '{name}' appears twice, must be one")
        for cells in lines:
            if cells and len(cells) != len(names):
                raise InputError(f"{path}: line {lines.line_num}: has {len(cells)} cells, must have {len(names)}")
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a CSV table ({error})") from None


def _parsed(path: Path, content: bytes, schema: TableSchema) -> pd.DataFrame:
    """Parse a table. Numbers are parsed by pandas, other columns of the schema stay text."""
    import pandas as pd

    texts = {name for name, column in schema.columns.items() if column.kind in ("flag", "text")}
    try:
        return pd.read_csv(
            io.BytesIO(content),
            dtype=dict.fromkeys(texts, object),
            keep_default_na=not schema.columns,
            na_values={name: [""] for name in schema.columns if name not in texts},
            low_memory=False,
        )
    except (ValueError, OverflowError) as error:
        raise InputError(f"{path}: not a CSV table ({str(error).splitlines()[0]})") from None


def _checked_column(path: Path, name: str, cells: pd.Series, column: Column) -> pd.Series:
    """Return a column with the type of its schema. Raises InputError that names the first cell that is wrong."""
    right = _right_texts(cells, column) if column.kind in ("flag", "text") else _right_numbers(cells, column)
    if not right.all():
        row = int(right.argmin())
        value = cells.iloc[row]
        found = "is empty" if _is_empty(value) else shown(value.item() if isinstance(value, np.generic) else value)
        raise InputError(f"{path}: line {row + 2}, column '{name}': {found}, must be {column.words}")
    if column.kind == "flag":
        return cells.str.lower().map({"true": True, "false": False, "": None}.get)
    return cells if column.kind == "text" else cells.astype(int if column.kind == "whole" else float)


def _right_texts(cells: pd.Series, column: Column) -> NDArray[np.bool_]:
    """Whether each cell is a text, or a flag, that the column may hold."""
    if column.kind == "flag":
        return np.array([cell.lower() in ("true", "false") or (column.empty and not cell) for cell in cells])
    return np.array(
        [
            (column.empty and not cell)
            or (bool(cell and re.fullmatch(column.pattern, cell)) and (not column.choices or cell in column.choices))
            for cell in cells
        ]
    )


def _right_numbers(cells: pd.Series, column: Column) -> NDArray[np.bool_]:
    """Whether each cell is a number that the column may hold."""
    # A column of other types than these holds a cell that is no number.
    is_parsed = cells.dtype.kind in "iuf"
    values = cells.to_numpy(float) if is_parsed else np.array([_number(cell) for cell in cells])
    right = (values >= column.low) & (values <= column.high)
    if column.kind == "whole":
        right &= values == np.round(values)
    if column.empty:
        right |= np.isnan(values) if is_parsed else np.array([_is_empty(cell) for cell in cells])
    return right


def _number(cell: Any) -> float:
    """The number in a cell; NaN if it holds none."""
    try:
        return math.nan if isinstance(cell, bool) else float(cell)
    except (ValueError, OverflowError):
        return math.nan


def _is_empty(cell: Any) -> bool:
    return cell == "" or cell != cell  # noqa: PLR0124
