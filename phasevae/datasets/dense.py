"""Dense arrays from blocks of rows and from matrices on disk, in a temporary file where they are large."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phasevae.datasets import standardize
from phasevae.datasets.base import row_slices
from phasevae.errors import InputError


def exact_dtype(*dtypes: np.dtype) -> np.dtype:
    """Return float32 where it holds every value of the given types, otherwise float64."""
    common = np.result_type(np.float32, *dtypes)
    return np.dtype(common if common == np.float32 else np.float64)


def filled(matrix: Any, label: str) -> NDArray:
    """Copy a matrix on disk or a sparse matrix [N, ...] to a dense array, block by block.

    Parameters
    ----------
    matrix : object
        Anything with `shape`, `dtype` and slices of rows, dense or sparse.
    label : str
        Its name, for messages.

    Raises
    ------
    InputError
        If it holds no real numbers, or the dense array would fill the disk.
    """
    shape, dtype = tuple(map(int, matrix.shape)), np.dtype(matrix.dtype)
    if dtype.kind not in "fiub":
        raise InputError(f"{label}: holds values of type {dtype}, must be real numbers")
    if len(shape) < 2:
        raise InputError(f"{label}: shape {shape}, must be [samples, features]")
    result = empty_array(shape, exact_dtype(dtype), label)
    for rows in row_slices(shape[0], int(np.prod(shape[1:]))):
        block = matrix[rows.start : rows.stop]
        result[rows] = block.toarray() if hasattr(block, "toarray") else block
    return result


def empty_array(shape: tuple[int, ...], dtype: np.dtype, label: str) -> NDArray:
    """Return an array to be filled, in a temporary file if it is large. Raises InputError if the disk is too small."""
    n_bytes = float(np.prod([float(size) for size in shape])) * dtype.itemsize
    if n_bytes > standardize.IN_MEMORY_BYTES:
        free = shutil.disk_usage(tempfile.gettempdir()).free
        if n_bytes > free:
            raise InputError(
                f"{label}: takes {n_bytes / 2**30:.3g} GiB as a dense array of shape {shape}, must be at most the "
                f"{free / 2**30:.3g} GiB free in {tempfile.gettempdir()}"
            )
    return standardize.new_array(shape, dtype)


def collected(blocks: Iterable[NDArray]) -> NDArray[np.float64]:
    """Return all rows of blocks [b, D] of one width, whose number is not known before, as one array."""
    held: list[NDArray] = []
    size = 0
    blocks = iter(blocks)
    for block in blocks:
        held.append(np.asarray(block, dtype=np.float64))
        size += held[-1].nbytes
        if size > standardize.IN_MEMORY_BYTES:
            break
    else:
        return np.concatenate(held) if held else np.empty((0, 0))
    with tempfile.TemporaryFile() as stream:
        n_rows, width = 0, held[0].shape[1]
        while held or (block := next(blocks, None)) is not None:
            block = held.pop(0) if held else np.asarray(block, dtype=np.float64)
            stream.write(np.ascontiguousarray(block).data)
            n_rows += len(block)
        stream.flush()
        return np.memmap(stream, np.float64, "r+", shape=(n_rows, width))


def selected(x: Any, columns: list[int], label: str) -> NDArray:
    """Return some columns of an array [N, D] as a new array. `label` is its name for messages."""
    result = empty_array((x.shape[0], len(columns)), np.dtype(x.dtype), label)
    for rows in row_slices(*x.shape):
        result[rows] = x[rows][:, columns]
    return result
