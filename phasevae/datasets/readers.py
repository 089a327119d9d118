"""Which reader reads which file; folders of files that are parts of one array or table."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phasevae.datasets import array_files, h5ad, hdf5, matrix_market, tables, text_tables, torch_files, zarr_files
from phasevae.datasets.dense import selected
from phasevae.datasets.files import check_file
from phasevae.datasets.left_out import Drop, dropped_columns, listed
from phasevae.datasets.reading import RawSamples
from phasevae.errors import InputError


@dataclass(frozen=True)
class Reader:
    """What reads the files of one kind."""

    read: Callable[..., RawSamples]
    endings: tuple[str, ...]
    options: tuple[str, ...] = ()
    """Which of key, drop, header and beside `read` takes; from what it returns, columns are left out otherwise."""
    compressed: bool = False
    """Whether it reads compressed files as well."""
    ids: bool = True
    """Whether its columns may be ids."""


READERS = (
    Reader(array_files.read_npy, (".npy",)),
    Reader(array_files.read_npz, (".npz",), ("key",)),
    Reader(
        text_tables.read_text_table,
        (".csv", ".tsv", ".tab", ".txt", ".dat", ".data"),
        ("drop", "header", "beside"),
        compressed=True,
    ),
    Reader(tables.read_parquet, (".parquet", ".pq"), ("drop", "beside")),
    Reader(tables.read_feather, (".feather", ".arrow", ".ipc"), ("drop", "beside")),
    Reader(tables.read_workbook, (".xlsx", ".xlsm"), ("key", "drop", "header", "beside")),
    Reader(array_files.read_mat, (".mat",), ("key",)),
    Reader(array_files.read_safetensors, (".safetensors",), ("key",)),
    Reader(array_files.read_idx, (".idx",), ids=False),
    Reader(torch_files.read_torch, (".pt", ".pth"), ("key",)),
    Reader(hdf5.read_hdf5, (".h5", ".hdf5", ".hdf"), ("key",)),
    Reader(h5ad.read_h5ad, (".h5ad",), ("key", "beside"), ids=False),
    Reader(matrix_market.read_matrix_market, (".mtx",), compressed=True),
    Reader(zarr_files.read_zarr, (".zarr", ".zarr.zip"), ("key",)),
)

ENDINGS = tuple(ending for reader in READERS for ending in reader.endings)
"""Endings of the names of arrays and tables."""

_IDX = re.compile(r"[.-]idx\d+([.-]\w+)?(\.gz)?$|\.idx\.gz$")
_IDX_READER = next(reader for reader in READERS if reader.read is array_files.read_idx)
_OTHERS = {
    ".pkl": "a pickle, which can run code when it is read: save the array by numpy.save",
    ".pickle": "a pickle, which can run code when it is read: save the array by numpy.save",
    ".joblib": "a pickle, which can run code when it is read: save the array by numpy.save",
    ".xls": "an old workbook: save it as .xlsx",
    ".ods": "an OpenDocument sheet: save it as .xlsx or .csv",
    ".rds": "an R object: save it by write.csv or arrow::write_parquet",
    ".rdata": "an R workspace: save it by write.csv or arrow::write_parquet",
    ".json": "JSON: save it as .csv or .parquet (pandas.read_json)",
    ".jsonl": "JSON: save it as .csv or .parquet (pandas.read_json)",
    ".nc": "netCDF: save the variable as .npy or .zarr (xarray.open_dataset)",
    ".dta": "a Stata file: save it as .csv or .parquet (pandas.read_stata)",
    ".sav": "an SPSS file: save it as .csv or .parquet (pandas.read_spss)",
    ".loom": "a loom file: save it as .h5ad (anndata.io.read_loom)",
    ".tfrecord": "TensorFlow records: save the array by numpy.save",
    ".arff": "an ARFF file: save it as .csv (scipy.io.arff)",
    ".fits": "a FITS file: save the array by numpy.save",
}
"""What is not read, by its ending, and what helps."""


def reader_of(path: Path) -> Reader | None:
    """Return what reads a file or store, by its name; None if nothing does."""
    name = path.name.lower()
    if _IDX.search(name):
        return _IDX_READER
    for reader in READERS:
        for ending in reader.endings:
            if name.endswith(ending) or (
                reader.compressed and any(name.endswith(ending + packed) for packed in text_tables.COMPRESSED)
            ):
                return reader
    return None


def is_array(path: Path, images: Sequence[str]) -> bool:
    """Return whether the data at a path are an array or a table, or a folder of parts of one.

    Parameters
    ----------
    path : Path
    images : sequence of str
        Endings of images: a folder with any of them is one of images.
    """
    if not path.is_dir():
        return reader_of(path) is not None or _packed(path) is not None
    if zarr_files.is_zarr(path) or path.suffix.lower() == ".zarr":
        return True
    found = False
    for entry in path.iterdir():
        if entry.name.startswith((".", "_")):
            continue
        if entry.is_dir() or entry.name.lower().endswith(tuple(images)):
            return False
        found = found or reader_of(entry) is not None
    return found


def part_files(folder: Path) -> list[Path]:
    """Return the files in a folder that are parts of one array, in natural order: part 2 before part 10.

    A matrix of 10x Genomics is a file of its own beside the names of its rows and columns.

    Raises
    ------
    InputError
        If there are none, or they are of several kinds.
    """
    entries = [each for each in folder.iterdir() if each.is_file() and not each.name.startswith((".", "_"))]
    matrix = [each for each in entries if each.name.lower() in ("matrix.mtx", "matrix.mtx.gz")]
    if matrix:
        return matrix[:1]
    kinds: dict[Reader, list[Path]] = {}
    for each in entries:
        if (reader := reader_of(each)) is not None:
            kinds.setdefault(reader, []).append(each)
    if len(kinds) != 1:
        listed = " and ".join(files[0].name for files in kinds.values()) or "no arrays or tables"
        raise InputError(f"{folder}: holds {listed}, must hold files of one kind")
    return sorted(*kinds.values(), key=_natural)


def read_file(path: Path, key: str | None, drop: Drop, header: bool | None, beside: str | None = None) -> RawSamples:
    """Read one file or store; see `phasevae.datasets.arrays.array`.

    Raises InputError that names the file, also for options that its kind does not take.
    """
    reader = _checked_reader(path)
    options = {"key": key, "drop": drop, "header": header, "beside": beside}
    for name in ("key", "header", "beside"):
        if options[name] is not None and name not in reader.options:
            kinds = [each.endings[0] for each in READERS if name in each.options]
            option = "condition column" if name == "beside" else name
            raise InputError(
                f"{option}: {options[name]!r}, must be left out for {path.name} (only {', '.join(kinds)} take it)"
            )
    raw = reader.read(path, **{name: options[name] for name in reader.options})
    return raw if not listed(drop) or "drop" in reader.options else _without(raw, drop)


def _checked_reader(path: Path) -> Reader:
    reader = reader_of(path)
    if path.is_dir():
        if not zarr_files.is_zarr(path):
            raise InputError(f"{path}: is a folder, must be a file or a zarr store")
        return next(each for each in READERS if ".zarr" in each.endings)
    check_file(path)
    if reader is not None:
        return reader
    if (packed := _packed(path)) is not None:
        raise InputError(f"{path}: is compressed, must be unpacked first to *{packed}")
    if path.suffix.lower() in _OTHERS:
        raise InputError(f"{path}: is {_OTHERS[path.suffix.lower()]}")
    raise InputError(f"{path}: named *{path.suffix or path.name}, must be one of *{', *'.join(ENDINGS)}")


def _packed(path: Path) -> str | None:
    """The ending of a compressed array that is not read as it is, such as .npy for x.npy.gz."""
    stem = path.with_suffix("")
    if path.suffix.lower() in text_tables.COMPRESSED and path.suffix.lower() != ".zip" and reader_of(path) is None:
        return stem.suffix if reader_of(stem) is not None else None
    return None


def _without(raw: RawSamples, drop: Drop) -> RawSamples:
    """Samples without some of their columns."""
    if len(raw.x.shape) != 2:
        raise InputError(f"{raw.label}: drop: must be left out for samples of several axes, {tuple(raw.x.shape[1:])}")
    names = raw.columns or [str(number) for number in range(raw.x.shape[1])]
    dropped = dropped_columns(names, drop, raw.label)
    if not dropped:
        return raw
    kept = [number for number in range(len(names)) if number not in dropped]
    return dataclasses.replace(
        raw,
        x=selected(raw.x, kept, raw.label),
        columns=tuple(raw.columns[number] for number in kept) if raw.columns else (),
        left_out=(*raw.left_out, *(f"column {names[number]}" for number in sorted(dropped))),
    )


def _natural(path: Path) -> list[Any]:
    """A key of sorting by which numbers in names count as numbers."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", path.name.lower())]


def not_read(path: Path) -> str | None:
    """Return what helps with a file of a kind that is not read; None for unknown kinds."""
    return _OTHERS.get(path.suffix.lower())
