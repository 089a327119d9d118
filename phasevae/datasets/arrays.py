"""Arrays and tables of numbers from files: one, several, or a folder of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phasevae.datasets import archives, zarr_files
from phasevae.datasets.base import Dataset, checked_flag, checked_path
from phasevae.datasets.id_columns import check_ids
from phasevae.datasets.left_out import Drop, checked_drop
from phasevae.datasets.readers import part_files, read_file, reader_of
from phasevae.datasets.reading import RawSamples
from phasevae.datasets.standardize import standardized
from phasevae.errors import InputError
from phasevae.wording import counted


def array(
    *,
    path: Path | str | list[Path | str],
    key: str | None = None,
    drop: Drop = None,
    header: bool | None = None,
    standardize: str = "none",
    beside: str | None = None,
) -> Dataset:
    """Build a data set of arrays or tables with one sample a row.

    Parameters
    ----------
    path : path or list of paths
        A file that `phasevae.datasets.readers` lists, a zarr store, or a folder of files of one kind. The rows of
        several files follow each other.
    key : str, optional
        Which array, sheet, layer or variable of a file that holds several.
    drop : list of str and int, optional
        Columns to leave out, by name or by number counted from 0. By default columns that look like ids are refused;
        an empty list, or "none" in it, keeps them.
    header : bool, optional
        Whether the first line of a text table or sheet holds the names of the columns; by default this is recognised.
    standardize : str
        See `phasevae.datasets.standardize`.
    beside : str, optional
        A column that is no feature: the labels of the rows.

    Raises
    ------
    InputError
        For files that cannot be read, that hold something else than real numbers, or that do not fit together.
    """
    checked_drop(drop)
    if header is not None:
        checked_flag("header", header)
    read = _read_parts if isinstance(path, list) else _read
    raw = read(path, key, drop, header, beside)
    return standardized(raw, standardize)


def _read(path: Path | str, key: str | None, drop: Drop, header: bool | None, beside: str | None) -> RawSamples:
    path = checked_path("path", path)
    if path.is_dir() and not zarr_files.is_zarr(path):
        files = part_files(path)
        names = [file.name for file in files]
        return replace(_joined(files, str(path), key, drop, header, beside), source=archives.source_of(path, names))
    raw = read_file(path, key, drop, header, beside)
    _check_ids(path, raw, drop)
    if path.is_dir():
        names = [each.relative_to(path).as_posix() for each in path.rglob("*") if each.is_file()]
        return replace(raw, source=archives.source_of(path, names))
    return replace(raw, source=archives.source_of_file(path))


def _read_parts(
    paths: list[Path | str], key: str | None, drop: Drop, header: bool | None, beside: str | None
) -> RawSamples:
    if not paths:
        raise InputError("path: an empty list, must name at least one file")
    files = [checked_path("path", path) for path in paths]
    label = f"{files[0]} and {len(files) - 1} more" if len(files) > 1 else str(files[0])
    raw = _joined(files, label, key, drop, header, beside)
    return replace(raw, source={"files": [archives.source_of_file(file) for file in files]})


def _joined(
    files: list[Path], label: str, key: str | None, drop: Drop, header: bool | None, beside: str | None
) -> RawSamples:
    """The rows of several files one after the other."""
    parts = [read_file(file, key, drop, header, beside) for file in files]
    first = parts[0]
    for file, part in zip(files, parts, strict=True):
        if len(part.x.shape) < 2 or part.x.dtype.kind not in "fiub":
            raise InputError(
                f"{file}: {part.x.dtype} of shape {part.x.shape}, must be real numbers [samples, features]"
            )
        if part.x.shape[1:] != first.x.shape[1:]:
            widths = [int(np.prod(each.x.shape[1:])) for each in (part, first)]
            raise InputError(f"{file}: {counted(widths[0], 'feature')}, must have {widths[1]} as {files[0]} has")
        if part.columns != first.columns:
            odd = next((name for name in part.columns if name not in first.columns), "in another order")
            raise InputError(f"{file}: other columns ({odd}), must have {', '.join(first.columns[:10])} as {files[0]}")
    raw = RawSamples(
        Stacked([part.x for part in parts]),
        label,
        columns=first.columns,
        parts=tuple((file.name, len(part.x)) for file, part in zip(files, parts, strict=True))
        if len(files) > 1
        else (),
        changes=tuple(dict.fromkeys(change for part in parts for change in part.changes)),
        left_out=tuple(dict.fromkeys(thing for part in parts for thing in part.left_out)),
        labels=None if beside is None else np.concatenate([part.labels for part in parts]),
    )
    _check_ids(files[0], raw, drop)
    return raw


def _check_ids(path: Path, raw: RawSamples, drop: Drop) -> None:
    reader = reader_of(path)
    if reader is None or reader.ids:
        check_ids(raw, drop)


@dataclass(frozen=True)
class Stacked:
    """The rows of several arrays [n, ...] one after the other, copied only as they are read."""

    parts: list[NDArray]

    @property
    def shape(self) -> tuple[int, ...]:
        return sum(len(part) for part in self.parts), *self.parts[0].shape[1:]

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def dtype(self) -> np.dtype:
        return np.result_type(*(part.dtype for part in self.parts))

    def __len__(self) -> int:
        return self.shape[0]

    def reshape(self, *shape: Any) -> Stacked:
        """Return the rows with their axes flattened; `shape` must be (number of rows, -1)."""
        return Stacked([part.reshape(len(part), -1) for part in self.parts])

    def __getitem__(self, rows: slice | int) -> NDArray:
        if isinstance(rows, int):
            return self[rows : rows + 1][0]
        start, stop, step = rows.indices(len(self))
        pieces, first = [], 0
        for part in self.parts:
            pieces.append(part[max(start - first, 0) : max(stop - first, 0)])
            first += len(part)
        return np.concatenate(pieces, dtype=self.dtype)[::step]
