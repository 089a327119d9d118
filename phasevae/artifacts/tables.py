"""Tables as CSV files with exact floats, and a JSON file for each with its columns and its origin."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phasevae.artifacts.files import file_sha256, replacing, write_json
from phasevae.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

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
    if provenance is not None:
        describe_table(path, table, provenance)


def describe_table(path: Path | str, table: pd.DataFrame, provenance: Mapping[str, Any]) -> None:
    """Write the columns and the origin of a table to its `metadata_path`, as a CSV file has no room for them.

    Parameters
    ----------
    path : Path or str
        The table, which must have been written.
    table : DataFrame
        Its content.
    provenance : mapping
        Its origin.

    References
    ----------
    J. Tennison and G. Kellogg, Metadata Vocabulary for Tabular Data, W3C Recommendation (2015).
    """
    columns = [
        {"name": str(name), "datatype": _DATATYPES.get(kind.kind, "string")} for name, kind in table.dtypes.items()
    ]
    metadata = {
        "@context": "http://www.w3.org/ns/csvw",
        "url": Path(path).name,
        "tableSchema": {"columns": columns},
        "notes": [{"provenance": {**provenance, "sha256": file_sha256(path)}}],
    }
    write_json(metadata_path(path), metadata, sealed=False)


def metadata_path(path: Path | str) -> Path:
    """Return the path of the metadata of a table."""
    return Path(f"{path}-metadata.json")


def read_table(path: Path | str, required: tuple[str, ...] = ()) -> pd.DataFrame:
    """Read a CSV table with exact floats.

    Parameters
    ----------
    path : Path or str
    required : tuple of str
        Columns that it must have.

    Raises
    ------
    InputError
        If the file is missing, is not a CSV table, lacks a column or has no rows. It names the file and the column.
    """
    import pandas as pd

    path = Path(path)
    try:
        table = pd.read_csv(path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (ValueError, IsADirectoryError) as error:
        raise InputError(f"{path}: not a CSV table ({error})") from None
    for column in required:
        if column not in table.columns:
            raise InputError(f"{path}: column '{column}' is missing (its columns: {', '.join(table.columns)})")
    if table.empty:
        raise InputError(f"{path}: has no rows")
    return table
