"""Sparse matrices in files of scipy and in Matrix Market files, as dense arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from phasevae.datasets.dense import filled
from phasevae.datasets.file_errors import check_memory, damage_named
from phasevae.datasets.reading import RawSamples
from phasevae.datasets.text_tables import opened


def dense(matrix: Any, label: str) -> NDArray:
    """Return a sparse matrix of scipy as a dense array. Raises InputError if it is too large, or no real numbers."""
    matrix = matrix.tocsr()
    matrix.sum_duplicates()
    return filled(matrix, label)


def read_saved(path: Path) -> RawSamples:
    """Read what scipy.sparse.save_npz wrote. Raises InputError for a damaged file."""
    import scipy.sparse

    with damage_named(path, ".npz file of a sparse matrix"):
        matrix = scipy.sparse.load_npz(path)
        matrix.tocsr().check_format()
        return RawSamples(dense(matrix, str(path)), str(path))


def read_matrix_market(path: Path) -> RawSamples:
    """Read a Matrix Market file, compressed or not.

    Beside a file of barcodes, as 10x Genomics writes it, the columns are the samples.

    Raises InputError for a damaged file.
    """
    import scipy.io

    with damage_named(path, ".mtx matrix"):
        # By name: of an open plain file scipy's reader ends the process.
        n_rows, n_columns, n_entries, *_ = scipy.io.mminfo(str(path))
        check_memory(path, 16 * n_entries)
        matrix = scipy.io.mmread(str(path))
        if not hasattr(matrix, "tocsr"):
            return RawSamples(matrix, str(path))
        genes, cells = _lines_beside(path, ("features", "genes")), _lines_beside(path, ("barcodes",))
        if cells is None or len(cells) != n_columns or (genes is not None and len(genes) != n_rows):
            return RawSamples(dense(matrix, str(path)), str(path))
        names = () if genes is None else tuple(line.split("\t")[min(1, line.count("\t"))] for line in genes)
        return RawSamples(
            dense(matrix.T, str(path)), str(path), columns=names, changes=("columns are samples, named by barcodes",)
        )


def _lines_beside(path: Path, names: tuple[str, ...]) -> list[str] | None:
    """Lines of a table that 10x Genomics writes beside a matrix; None if there is none."""
    for name in names:
        for ending in (".tsv", ".tsv.gz"):
            beside = path.with_name(name + ending)
            if beside.is_file():
                with opened(beside) as stream:
                    return stream.read().decode("utf-8", errors="replace").splitlines()
    return None
