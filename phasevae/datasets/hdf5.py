"""Arrays in HDF5 files, of h5py and of MATLAB 7.3."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from phasevae.datasets import sparse
from phasevae.datasets.dense import filled
from phasevae.datasets.entries import chosen_key
from phasevae.datasets.file_errors import damage_named, needed
from phasevae.datasets.reading import RawSamples
from phasevae.errors import InputError

_MAGIC = b"\x89HDF\r\n\x1a\n"
_MATLAB_HEADER = 512
_SPARSE = ({"data", "indices", "indptr"}, {"data", "ir", "jc"})
"""Members of a group that is a sparse matrix: of scipy, AnnData and 10x; of MATLAB."""


def is_hdf5(path: Path) -> bool:
    """Return whether a file is an HDF5 file by its first bytes, or behind the header of MATLAB."""
    with path.open("rb") as stream:
        start = stream.read(_MATLAB_HEADER + len(_MAGIC))
    return start.startswith(_MAGIC) or start[_MATLAB_HEADER:].startswith(_MAGIC)


def read_hdf5(path: Path, key: str | None, matlab: bool = False) -> RawSamples:
    """Read an array of an HDF5 file, in blocks of rows.

    Parameters
    ----------
    path : Path
    key : str, optional
        Path of the array within the file, where there are several.
    matlab : bool
        Whether MATLAB wrote it, which stores the axes in reverse order.

    Raises
    ------
    InputError
        Without h5py, for a damaged file, and for several arrays without a key.
    """
    h5py = needed(path, "h5py")
    with damage_named(path, f"{path.suffix} file"), h5py.File(path, "r") as file:
        if "pandas_version" in file.attrs or any("pandas_type" in each.attrs for each in file.values()):
            raise InputError(f"{path}: is a table of pandas, must be a .parquet file (pandas.read_hdf, to_parquet)")
        found = arrays_in(file, h5py.Group)
        name, left_out = chosen_key(path, key if key is None else key.strip("/"), list(found))
        item = found[name]
        label = f"{path}: {name}"
        if isinstance(item, h5py.Group):
            return RawSamples(_sparse(item, label), str(path), left_out=left_out)
        if not matlab:
            return RawSamples(filled(item, label), str(path), left_out=left_out)
        if item.dtype.kind not in "fiu" or "MATLAB_empty" in item.attrs:
            raise InputError(f"{label}: is no array of real numbers, must be one")
        return RawSamples(np.ascontiguousarray(np.asarray(item).T), str(path), left_out=left_out)


def arrays_in(group: Any, group_type: type, place: str = "") -> dict[str, Any]:
    """Return all arrays below a group by their path, sparse matrices as the group that holds their parts."""
    found = {}
    for name, item in group.items():
        path = f"{place}{name}"
        if name.startswith("#"):  # what MATLAB and netCDF keep for themselves
            continue
        if not isinstance(item, group_type) or any(members <= set(item) for members in _SPARSE):
            found[path] = item
        else:
            found |= arrays_in(item, group_type, f"{path}/")
    return found


def _sparse(group: Any, label: str) -> np.ndarray:
    """A sparse matrix as a dense array. 10x Genomics stores [genes, cells] by columns: the samples are the cells."""
    import scipy.sparse

    if "jc" in group:
        parts = (np.asarray(group["data"]), np.asarray(group["ir"]), np.asarray(group["jc"]))
        shape = (int(group.attrs["MATLAB_sparse"]), len(parts[2]) - 1)
        return sparse.dense(scipy.sparse.csc_array(parts, shape=shape), label)
    parts = (np.asarray(group["data"]), np.asarray(group["indices"]), np.asarray(group["indptr"]))
    kind = str(group.attrs.get("encoding-type", group.attrs.get("h5sparse_format", "")))
    if "barcodes" in group:
        n_genes, n_cells = map(int, group["shape"])
        return sparse.dense(scipy.sparse.csr_array(parts, shape=(n_cells, n_genes)), label)
    shape = group.attrs.get("shape", group.attrs.get("h5sparse_shape"))
    if shape is None and "shape" in group:
        shape = np.asarray(group["shape"])
    if shape is None or not kind.startswith(("csr", "csc")):
        raise InputError(f"{label}: is a sparse matrix without its format, must be dense, .h5ad or .npz of scipy")
    matrix = scipy.sparse.csr_array if kind.startswith("csr") else scipy.sparse.csc_array
    return sparse.dense(matrix(parts, shape=tuple(map(int, shape))), label)
