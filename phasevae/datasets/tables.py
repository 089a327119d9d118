"""Tables in columnar files (parquet, feather) and sheets of workbooks."""

from __future__ import annotations

import itertools
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phasevae.datasets.base import BLOCK_BYTES
from phasevae.datasets.columns import table_samples
from phasevae.datasets.entries import chosen_key
from phasevae.datasets.file_errors import check_memory, damage_named, needed
from phasevae.datasets.header import column_names, first_is_names
from phasevae.datasets.left_out import Drop
from phasevae.datasets.reading import RawSamples
from phasevae.errors import InputError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_PEEK_ROWS = 200


def read_parquet(path: Path, drop: Drop, beside: str | None) -> RawSamples:
    """Read the columns of numbers of a parquet table, in blocks of rows; lists of fixed length become features.

    Parameters
    ----------
    path : Path
    drop : names or numbers of columns, optional
        Columns to leave out. The index that pandas stores beside the columns is left out always.
    beside : str, optional
        See `phasevae.datasets.columns.table_samples`.

    Raises
    ------
    InputError
        For a file that is no table of numbers.
    """
    import pyarrow.parquet

    with damage_named(path, ".parquet table"), pyarrow.parquet.ParquetFile(path) as file:
        width = max(1, file.metadata.num_columns)
        batches = file.iter_batches(batch_size=max(100, BLOCK_BYTES // (8 * width)))
        return _arrow_samples(path, file.schema_arrow, batches, drop, beside)


def read_feather(path: Path, drop: Drop, beside: str | None) -> RawSamples:
    """Read the columns of numbers of an Arrow file or stream, as `read_parquet` does."""
    import pyarrow

    with damage_named(path, f"{path.suffix} table"), pyarrow.memory_map(str(path)) as file:
        start = file.read(6)
        file.seek(0)
        if start.startswith(b"FEA1"):  # damaged files of this version end the process
            raise InputError(
                f"{path}: is of version 1 of feather, must be written again (pandas.read_feather, to_feather)"
            )
        if start == b"ARROW1":
            reader = pyarrow.ipc.open_file(file)
            batches = (reader.get_batch(number) for number in range(reader.num_record_batches))
        else:
            batches = reader = pyarrow.ipc.open_stream(file)
        return _arrow_samples(path, reader.schema, map(_valid, batches), drop, beside)


def _valid(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The same batch. Raises an error where its offsets lie outside its buffers, which reading does not notice."""
    batch.validate(full=True)
    return batch


def _arrow_samples(
    path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch], drop: Drop, beside: str | None
) -> RawSamples:
    """Samples of Arrow batches. An index that pandas stored as a column is no feature."""
    stored = (schema.pandas_metadata or {}).get("index_columns", [])
    index = [name for name in stored if isinstance(name, str) and name in schema.names]
    kept = [number for number, name in enumerate(schema.names) if name not in index]

    def tables() -> Iterator[pd.DataFrame]:
        for batch in batches:
            if batch.num_rows:
                yield batch.select(kept).replace_schema_metadata(None).to_pandas()

    return table_samples(tables(), str(path), drop, [f"index {name}" for name in index], beside=beside)


def read_workbook(path: Path, key: str | None, drop: Drop, header: bool | None, beside: str | None) -> RawSamples:
    """Read the columns of numbers of a sheet of an Excel workbook.

    Parameters
    ----------
    path : Path
    key : str, optional
        Name of the sheet, where there are several.
    drop, header, beside
        See `phasevae.datasets.text_tables.read_text_table`.

    Raises
    ------
    InputError
        For a file that is no workbook, several sheets without a key, and a sheet that is no table of numbers.
    """
    openpyxl = needed(path, "openpyxl")
    with damage_named(path, f"{path.suffix} workbook"):
        with zipfile.ZipFile(path) as archive:
            check_memory(path, 10 * sum(info.file_size for info in archive.infolist()))
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
        try:
            name, others = chosen_key(path, key, [sheet.title for sheet in book.worksheets], "sheet")
            sheet, left_out = book[name], [other.replace("entry", "sheet", 1) for other in others]
            rows = [row for row in sheet.iter_rows(values_only=True) if any(cell is not None for cell in row)]
        finally:
            book.close()
        return _sheet_samples(path, rows, drop, header, left_out, beside)


def _sheet_samples(
    path: Path,
    rows: list[tuple[Any, ...]],
    drop: Drop,
    header: bool | None,
    left_out: list[str],
    beside: str | None,
) -> RawSamples:
    """Samples of the cells of a sheet. Columns that are empty throughout are left out."""
    import pandas as pd

    width = max(map(len, rows), default=0)
    filled = [number for number in range(width) if any(len(row) > number and row[number] is not None for row in rows)]
    cells = [[row[number] if number < len(row) else None for number in filled] for row in rows]
    if not cells:
        raise InputError(f"{path}: has no rows")
    shown = [["" if cell is None else str(cell) for cell in row] for row in cells[:_PEEK_ROWS]]
    names = column_names(shown[0]) if first_is_names(path, shown, header) else None
    table = pd.DataFrame(cells[names is not None :], columns=names)
    return table_samples(itertools.chain([table]), str(path), drop, left_out, names is not None, beside)
