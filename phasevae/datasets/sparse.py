"""Sparse matrices of scipy as dense arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from phasevae.datasets.dense import filled
from phasevae.datasets.file_errors import damage_named
from phasevae.datasets.reading import RawSamples


def dense(matrix: Any, label: str) -> NDArray:
    """Return a sparse matrix of scipy as a dense array. Raises InputError if it is too large, or no real numbers."""
    if hasattr(matrix, "check_format"):  # indices of damaged files would lead outside of the arrays
        matrix.check_format(full_check=True)
    matrix = matrix.tocsr()
    matrix.sum_duplicates()
    return filled(matrix, label)


def read_saved(path: Path) -> RawSamples:
    """Read what scipy.sparse.save_npz wrote. Raises InputError for a damaged file."""
    import scipy.sparse

    with damage_named(path, ".npz file of a sparse matrix"):
        return RawSamples(dense(scipy.sparse.load_npz(path), str(path)), str(path))
