"""Arrays of numbers from .npy, .npz, .csv, .parquet and .h5ad files."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from phasevae.datasets import archives
from phasevae.datasets.base import Dataset, checked_path, row_slices
from phasevae.datasets.reading import RawSamples
from phasevae.datasets.standardize import new_array, standardized
from phasevae.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

SUFFIXES = (".npy", ".npz", ".csv", ".parquet", ".h5ad")
_KEYED = (".npz", ".h5ad")


def array(*, path: Path | str | list[Path | str], key: str | None = None, standardize: str = "none") -> Dataset:
    """Build a data set of arrays or tables with one sample a row; axes after the first are flattened.

    Parameters
    ----------
    path : path or list of paths
        A .npy array (memory-mapped), an array of an .npz file, the numeric columns of a .csv (with or without a line of
        names) or .parquet table, or the matrix X or a layer of a .h5ad file, which needs anndata. The rows of several
        files follow each other.
    key : str, optional
        Which array of an .npz file with several, or which layer of a .h5ad file.
    standardize : str
        See `phasevae.datasets.standardize`.
    """
    if not isinstance(path, list):
        path = _checked_file(path, key)
        return standardized(RawSamples(_read(path, key), str(path), archives.source_of_file(path)), standardize)
    if not path:
        raise InputError("path: an empty list, must name at least one file")
    files = [_checked_file(item, key) for item in path]
    parts = [_flattened(_read(file, key), file) for file in files]
    for file, part in zip(files, parts, strict=True):
        if part.shape[1] != parts[0].shape[1]:
            raise InputError(f"{file}: {part.shape[1]} features, must have {parts[0].shape[1]} as {files[0]} has")
    label = f"{files[0]} and {len(files) - 1} more" if len(files) > 1 else str(files[0])
    source = {"files": [archives.source_of_file(file) for file in files]}
    return standardized(RawSamples(Stacked(parts), label, source), standardize)


def _flattened(x: NDArray, file: Path) -> NDArray:
    if x.ndim < 2 or x.dtype.kind not in "fiub":
        raise InputError(f"{file}: {x.dtype} of shape {x.shape}, must be real numbers [samples, features]")
    return x.reshape(len(x), -1)


def _checked_file(path: Path | str, key: str | None) -> Path:
    path = checked_path("path", path)
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path}: named *{path.suffix or path.name}, must be one of *{', *'.join(SUFFIXES)}")
    if key is not None and path.suffix.lower() not in _KEYED:
        raise InputError(
            f"key: {key!r}, must be left out for a {path.suffix} file (only .npz and .h5ad files have keys)"
        )
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    return path


def _read(path: Path, key: str | None) -> NDArray:
    kind = path.suffix.lower()
    if kind in (".csv", ".parquet"):
        return _read_table(path)
    if kind == ".h5ad":
        return _read_h5ad(path, key)
    try:
        # Object arrays would need pickle: they are refused as damaged.
        loaded = np.load(path, mmap_mode="r" if kind == ".npy" else None, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded:
            return loaded[_chosen_key(path, key, loaded.files)]
    except InputError:
        raise
    except Exception as error:  # zipfile, zlib and numpy's parser of headers raise too many kinds to list
        raise InputError(f"{path}: not a {kind} file of numbers, or damaged ({str(error).splitlines()[0]})") from None


def _chosen_key(path: Path, key: str | None, keys: list[str]) -> str:
    if key is None and len(keys) == 1:
        return keys[0]
    if key not in keys:
        if not keys:
            raise InputError(f"{path}: holds no arrays")
        mistake = "holds several arrays: key" if key is None else f"key {key!r}"
        raise InputError(f"{path}: {mistake} must be one of {', '.join(keys)}")
    return key


def _read_table(path: Path) -> NDArray:
    import pandas as pd

    try:
        if path.suffix.lower() == ".parquet":
            table = pd.read_parquet(path)
        else:
            table = pd.read_csv(path, header=0 if _has_header(path) else None)
    except InputError:
        raise
    except (ValueError, OSError) as error:
        raise InputError(f"{path}: not a {path.suffix} table, or damaged ({str(error).splitlines()[0]})") from None
    if table.empty:
        raise InputError(f"{path}: has no rows")
    for name, column in table.items():
        if not pd.api.types.is_numeric_dtype(column) or pd.api.types.is_complex_dtype(column):
            raise InputError(f"{path}: column '{name}' holds {_no_number(column)!r}, must hold numbers only")
    if table.columns[0] == "Unnamed: 0" and np.array_equal(np.diff(table.iloc[:, 0]), np.ones(len(table) - 1)):
        raise InputError(f"{path}: the first column has no name and counts the rows, must be left out")
    # Missing values of nullable columns become NaN; the later error for NaN names row and column.
    return table.to_numpy(dtype=np.float64, na_value=np.nan)


def _no_number(column: pd.Series) -> Any:
    """The first value of a column that is not a number."""
    import pandas as pd

    as_numbers = pd.to_numeric(column, errors="coerce") if pd.api.types.is_string_dtype(column) else None
    odd = column.notna() if as_numbers is None else column.notna() & as_numbers.isna()
    return column[odd].iloc[0] if odd.any() else column.iloc[0]


def _read_h5ad(path: Path, key: str | None) -> NDArray:
    """X or a layer, dense, filled block by block."""
    try:
        import anndata
    except ImportError:
        raise InputError(f"{path}: needs anndata, which is not installed (pip install anndata)") from None
    try:
        data = anndata.read_h5ad(path, backed="r")
    except Exception as error:  # h5py and anndata raise many kinds
        raise InputError(f"{path}: not a .h5ad file, or damaged ({str(error).splitlines()[0]})") from None
    if key is not None and key not in data.layers:
        raise InputError(f"{path}: key {key!r}, must be one of its layers ({', '.join(data.layers) or 'it has none'})")
    matrix = data.X if key is None else data.layers[key]
    if matrix is None:
        raise InputError(f"{path}: has no X, must be a layer ({', '.join(data.layers) or 'it has none'})")
    if hasattr(matrix, "to_memory"):  # a sparse matrix fits, and some versions of anndata cannot slice it on disk
        matrix = matrix.to_memory()
    x = new_array(tuple(data.shape))
    for rows in row_slices(*x.shape):
        block = matrix[rows.start : rows.stop]
        x[rows] = block.toarray() if hasattr(block, "toarray") else block
    data.file.close()
    return x


def _has_header(path: Path) -> bool:
    """Whether the first line has a cell that is neither empty nor a number.

    Raises InputError for a table with other separators than commas, or with more columns than names: pandas would leave
    out its first columns.
    """
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as stream:
        lines = csv.reader(stream)
        first, second = next(lines, []), next(lines, [])
    for separator, name in (";", "semicolons"), ("\t", "tabs"):
        if len(first) == 1 and separator in first[0]:
            raise InputError(f"{path}: its columns are separated by {name}, must be by commas")
    names = any(cell.strip() and not _is_number(cell) for cell in first)
    if names and len(second) > len(first):
        raise InputError(f"{path}: line 2 has {len(second)} cells, must have {len(first)} as the line of names has")
    return names


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


@dataclass(frozen=True)
class Stacked:
    """The rows of several arrays [n, D] one after the other, copied only as they are read."""

    parts: list[NDArray]

    @property
    def shape(self) -> tuple[int, int]:
        return sum(len(part) for part in self.parts), self.parts[0].shape[1]

    @property
    def ndim(self) -> int:
        return 2

    @property
    def dtype(self) -> np.dtype:
        return np.result_type(*self.parts)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | int) -> NDArray:
        if isinstance(rows, int):
            return self[rows : rows + 1][0]
        start, stop, step = rows.indices(len(self))
        pieces, first = [], 0
        for part in self.parts:
            pieces.append(part[max(start - first, 0) : max(stop - first, 0)])
            first += len(part)
        return np.concatenate(pieces, dtype=self.dtype)[::step]
