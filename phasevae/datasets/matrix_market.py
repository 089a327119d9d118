"""Matrix Market files (.mtx), read by pandas: scipy's reader ends the process where a file is damaged."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

from phasevae.datasets.file_errors import check_memory, damage_named
from phasevae.datasets.reading import RawSamples
from phasevae.datasets.sparse import dense
from phasevae.datasets.text_tables import opened

if TYPE_CHECKING:
    import pandas as pd

_FIELDS = ("real", "double", "integer", "pattern")
_SIGNS = {"general": 0, "symmetric": 1, "hermitian": 1, "skew-symmetric": -1}
"""What entries above the diagonal are, as multiples of those below."""


def read_matrix_market(path: Path) -> RawSamples:
    """Read a Matrix Market file, compressed or not.

    Beside a file of barcodes, as 10x Genomics writes it, the columns are the samples.

    Raises InputError for a damaged file, and for complex numbers.
    """
    with damage_named(path, ".mtx matrix"):
        with opened(path) as stream, io.TextIOWrapper(stream, encoding="utf-8", newline="") as text:
            matrix = _matrix(path, text)
        if isinstance(matrix, np.ndarray):
            return RawSamples(matrix, str(path))
        genes, cells = _lines_beside(path, ("features", "genes")), _lines_beside(path, ("barcodes",))
        if cells is None or len(cells) != matrix.shape[1] or (genes is not None and len(genes) != matrix.shape[0]):
            return RawSamples(dense(matrix, str(path)), str(path))
        names = () if genes is None else tuple(line.split("\t")[min(1, line.count("\t"))] for line in genes)
        return RawSamples(
            dense(matrix.T, str(path)), str(path), columns=names, changes=("columns are samples, named by barcodes",)
        )


def _matrix(path: Path, text: TextIO) -> Any:
    """The matrix, sparse or an array as the file says. Raises ValueError for a damaged one."""
    import scipy.sparse

    banner, kind, layout, field, symmetry = text.readline().lower().split()
    if (banner, kind) != ("%%matrixmarket", "matrix") or field not in _FIELDS or symmetry not in _SIGNS:
        raise ValueError("its first line must be like %%MatrixMarket matrix coordinate real general")
    line = text.readline()
    while line and (line.startswith("%") or not line.strip()):
        line = text.readline()
    sizes = tuple(map(int, line.split()))
    if layout == "array" and len(sizes) == 2 and symmetry == "general" and field != "pattern":
        check_memory(path, 8.0 * sizes[0] * sizes[1])
        return _numbers(text, 1, sizes[0] * sizes[1]).to_numpy(dtype=np.float64).reshape(sizes, order="F")
    if layout != "coordinate" or len(sizes) != 3:
        raise ValueError(f"sizes {line.strip()[:80]!r} of a matrix that is {layout} {symmetry}")
    shape, n_entries = sizes[:2], sizes[2]
    check_memory(path, 24.0 * n_entries)
    entries = _numbers(text, 2 if field == "pattern" else 3, n_entries).to_numpy(dtype=np.float64)
    places, values = entries[:, :2] - 1, entries[:, 2] if field != "pattern" else np.ones(n_entries)
    if not ((places >= 0) & (places < shape) & (places % 1 == 0)).all():
        raise ValueError("an entry lies outside of the matrix")
    row, column = places.astype(np.int64).T
    if sign := _SIGNS[symmetry]:
        off = row != column
        row, column = np.concatenate([row, column[off]]), np.concatenate([column, row[off]])
        values = np.concatenate([values, sign * values[off]])
    return scipy.sparse.coo_array((values, (row, column)), shape=shape)


def _numbers(text: TextIO, width: int, n_rows: int) -> pd.DataFrame:
    """A table of numbers with blanks between."""
    import pandas as pd

    if n_rows == 0:
        return pd.DataFrame(np.empty((0, width)))
    table = pd.read_csv(text, sep=r"\s+", header=None, comment="%", dtype=np.float64)
    if table.shape != (n_rows, width):
        raise ValueError(f"{len(table)} lines of {table.shape[1]} numbers, must be {n_rows} of {width}")
    return table


def _lines_beside(path: Path, names: tuple[str, ...]) -> list[str] | None:
    """Lines of a table that 10x Genomics writes beside a matrix; None if there is none."""
    for name in names:
        for ending in (".tsv", ".tsv.gz"):
            beside = path.with_name(name + ending)
            if beside.is_file():
                with opened(beside) as stream:
                    return stream.read().decode("utf-8", errors="replace").splitlines()
    return None
