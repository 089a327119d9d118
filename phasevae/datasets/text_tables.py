"""Tables in text files, compressed or not."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TextIO

from phasevae.datasets.archives import ENCRYPTED
from phasevae.datasets.base import BLOCK_BYTES
from phasevae.datasets.columns import table_samples
from phasevae.datasets.dialect import Dialect, dialect_of
from phasevae.datasets.file_errors import damage_named
from phasevae.datasets.left_out import Drop
from phasevae.datasets.reading import RawSamples
from phasevae.errors import InputError

if TYPE_CHECKING:
    import pandas as pd


def read_text_table(path: Path, drop: Drop, header: bool | None, beside: str | None) -> RawSamples:
    """Read the columns of numbers of a text table, in blocks of rows.

    Parameters
    ----------
    path : Path
        Its columns are separated by commas, semicolons, tabs, bars or blanks. It may be compressed.
    drop : names or numbers of columns, optional
        Columns to leave out.
    header : bool, optional
        Whether the first line holds names; by default this is recognised.
    beside : str, optional
        See `phasevae.datasets.columns.table_samples`.

    Raises
    ------
    InputError
        For a file that is no table, or whose first line or decimal commas are ambiguous.
    """
    with damage_named(path, f"{''.join(path.suffixes[-2 if path.suffix.lower() in COMPRESSED else -1 :])} table"):
        for encoding in ("utf-8", "cp1252", "latin-1"):
            try:
                with opened(path) as stream:
                    dialect = dialect_of(path, stream, header, encoding)
                left_out = ("an empty last column",) if dialect.empty_end else ()
                with opened(path) as stream:
                    tables = _tables(path, stream, dialect)
                    return table_samples(tables, str(path), drop, left_out, dialect.names is not None, beside)
            except UnicodeDecodeError:
                continue
    raise InputError(f"{path}: not text in UTF-8 or UTF-16")


def _tables(path: Path, stream: BinaryIO, dialect: Dialect) -> Iterator[pd.DataFrame]:
    """Blocks of rows of a table."""
    import pandas as pd

    with io.TextIOWrapper(stream, encoding=dialect.encoding, newline="") as text:
        for _ in range(dialect.lines_before):
            text.readline()
        try:
            yield from _blocks(path, text, dialect)
        except pd.errors.EmptyDataError:
            raise InputError(f"{path}: has no rows") from None
        except pd.errors.ParserError as error:
            ragged = re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", str(error))
            if ragged is None:
                raise
            width, line, cells = map(int, ragged.groups())
            raise InputError(
                f"{path}: line {line + dialect.lines_before} has {cells} cells, must have {width} as the first row has"
            ) from None


def _blocks(path: Path, text: TextIO, dialect: Dialect) -> Iterator[pd.DataFrame]:
    import pandas as pd

    blocks = pd.read_csv(
        text,
        sep=dialect.separator,
        decimal=dialect.decimal,
        comment=dialect.comment,
        header=None,
        chunksize=max(100, BLOCK_BYTES // (8 * dialect.width)),
        low_memory=False,
        skipinitialspace=True,
    )
    with blocks:
        for table in blocks:
            if dialect.names is not None:
                table.columns = list(dialect.names)
            if dialect.empty_end and not table.iloc[:, -1].isna().all():
                raise InputError(f"{path}: its last column is empty in the first rows only")
            yield table.iloc[:, :-1] if dialect.empty_end else table


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file, decompressed where its name ends in .gz, .bz2, .xz or .zip."""
    opener = COMPRESSED.get(path.suffix.lower())
    with path.open("rb") if opener is None else opener(path) as stream:
        yield stream


@contextmanager
def _only_member(path: Path) -> Iterator[BinaryIO]:
    with zipfile.ZipFile(path) as archive:
        files = [info for info in archive.infolist() if not info.is_dir() and not info.filename.startswith("__MACOSX")]
        if len(files) != 1:
            raise InputError(f"{path}: holds {len(files)} files, must hold one")
        if files[0].flag_bits & ENCRYPTED:
            raise InputError(f"{path}: {files[0].filename} is encrypted, must be without a password")
        with archive.open(files[0]) as stream:
            yield stream


COMPRESSED: dict[str, Callable[[Path], BinaryIO]] = {
    ".gz": gzip.open,
    ".bz2": bz2.open,
    ".xz": lzma.open,
    ".zip": _only_member,
}
"""Endings of compressed files, and how they are opened."""
