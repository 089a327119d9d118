"""Arrays in .npy, .npz, .mat, .safetensors and idx files."""

from __future__ import annotations

import gzip
import json
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phasevae.datasets import hdf5, sparse
from phasevae.datasets.entries import chosen_key
from phasevae.datasets.file_errors import check_memory, damage_named
from phasevae.datasets.reading import RawSamples
from phasevae.errors import InputError

_IDX_TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
"""Types of values by the third byte of an idx file."""


def read_npy(path: Path) -> RawSamples:
    """Map an array into memory."""
    with damage_named(path, ".npy file of numbers"):
        # Object arrays would need pickle: they are refused as damaged.
        loaded = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(loaded, np.ndarray):
            loaded.close()
            raise ValueError("it is a .npz file by its content")
        return RawSamples(loaded, str(path))


def read_npz(path: Path, key: str | None) -> RawSamples:
    """Read an array of a .npz file, or the sparse matrix that scipy.sparse.save_npz wrote.

    Parameters
    ----------
    path : Path
    key : str, optional
        Name of the array, where there are several.

    Raises
    ------
    InputError
        For a damaged file, and several arrays without a key.
    """
    with damage_named(path, ".npz file of numbers"):
        with zipfile.ZipFile(path) as archive:
            names = [info.filename.removesuffix(".npy") for info in archive.infolist()]
            if {"format", "shape", "data"} <= set(names) and key is None:
                return sparse.read_saved(path)
            name, left_out = chosen_key(path, key, names)
            check_memory(path, archive.infolist()[names.index(name)].file_size)
        with np.load(path, allow_pickle=False) as loaded:
            return RawSamples(loaded[name], str(path), left_out=left_out)


def read_mat(path: Path, key: str | None) -> RawSamples:
    """Read a variable of a MATLAB file; those of version 7.3 are HDF5 files.

    Parameters
    ----------
    path : Path
    key : str, optional
        Name of the variable, where there are several.

    Raises
    ------
    InputError
        For a damaged file, and several variables without a key.
    """
    import scipy.io

    if hdf5.is_hdf5(path):
        return hdf5.read_hdf5(path, key, matlab=True)
    with damage_named(path, ".mat file"):
        names = [name for name, _, _ in scipy.io.whosmat(path)]
        name, left_out = chosen_key(path, key, names, "variable")
        value = scipy.io.loadmat(path, variable_names=[name])[name]
        if hasattr(value, "toarray"):
            return RawSamples(sparse.dense(value, str(path)), str(path), left_out=left_out)
        return RawSamples(_real(value, f"{path}: {name}"), str(path), left_out=left_out)


def read_safetensors(path: Path, key: str | None) -> RawSamples:
    """Map a tensor of a .safetensors file into memory.

    Parameters
    ----------
    path : Path
    key : str, optional
        Name of the tensor, where there are several.

    Raises
    ------
    InputError
        For a damaged file, and several tensors without a key.
    """
    from safetensors import safe_open

    with damage_named(path, ".safetensors file"):
        # Opening checks sizes and offsets of all tensors.
        with safe_open(path, framework="numpy") as stream:
            name, left_out = chosen_key(path, key, list(stream.keys()), "tensor")
            dtype = stream.get_slice(name).get_dtype()
            if dtype != "BF16":
                return RawSamples(stream.get_tensor(name), str(path), left_out=left_out)
        return RawSamples(_bfloat16(path, name), str(path), left_out=left_out)


def _bfloat16(path: Path, name: str) -> NDArray[np.float32]:
    """A tensor of a type that numpy lacks: the upper half of the bits of float32."""
    with path.open("rb") as stream:
        size = int.from_bytes(stream.read(8), "little")
        entry = json.loads(stream.read(size))[name]
    start, stop = entry["data_offsets"]
    halves = np.fromfile(path, "<u2", (stop - start) // 2, offset=8 + size + start)
    return (halves.astype(np.uint32) << 16).view(np.float32).reshape(entry["shape"])


def read_idx(path: Path) -> RawSamples:
    """Read an idx file, as MNIST is distributed, compressed or not. Raises InputError for a damaged file."""
    with damage_named(path, "idx file"):
        with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as stream:
            magic = stream.read(4)
            if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _IDX_TYPES or not magic[3]:
                raise ValueError("its first bytes are no magic number of idx")
            shape = tuple(np.frombuffer(stream.read(4 * magic[3]), ">u4").tolist())
            dtype = np.dtype(_IDX_TYPES[magic[2]])
            n_bytes = math.prod(shape) * dtype.itemsize
            check_memory(path, n_bytes)
            content = stream.read(n_bytes + 1)
        if len(shape) != magic[3] or len(content) != n_bytes:
            raise ValueError(f"must hold {n_bytes} bytes of values, as its shape {shape} says")
        return RawSamples(np.frombuffer(content, dtype).reshape(shape), str(path))


def _real(value: Any, label: str) -> NDArray:
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiub":
        kind = "structure, cells or text" if getattr(value, "dtype", np.dtype(object)).kind in "OUV" else value.dtype
        raise InputError(f"{label} is a {kind}, must be an array of real numbers")
    return value
