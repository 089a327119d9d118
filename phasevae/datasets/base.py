"""What every kind of data set shares: the record, row-wise streaming and checks of option values."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from phasevae.artifacts.files import json_sha256
from phasevae.datasets.conditions import Coding, Condition
from phasevae.datasets.files import check_readable
from phasevae.datasets.reading import Origin, Reading
from phasevae.errors import InputError, no_such_choice
from phasevae.wording import counted


@dataclass(frozen=True)
class SampleStream:
    """Samples that can be read repeatedly: `read()` yields float64 blocks [b, D] that together are all rows."""

    read: Callable[[], Iterator[NDArray[np.float64]]]
    dimension: int
    label: str = "data"
    origin: Origin | None = None
    """What the reader knows of the samples; None for numbers that were computed from samples."""
    reading: Reading | None = None
    """What was read, where the values are known already: for data sets and standardised samples."""
    unrounded: Callable[[], Iterator[NDArray[np.float64]]] | None = None
    """The rows before they were rounded to single precision; None where they were not."""
    condition: Condition | None = None
    """What the networks see beside each row."""

    def mapped(self, function: Callable[[NDArray], NDArray]) -> SampleStream:
        """Return the same rows with `function`, which must keep the shape, applied to each block."""
        return SampleStream(lambda: map(function, self.read()), self.dimension, self.label)

    def thinned(self, most: int) -> NDArray[np.float64]:
        """Return at most this number of rows, evenly spread over the stream, [rows, D]."""
        kept, step, start = [], 1, 0
        for block in self.read():
            kept.append(block[-start % step :: step])
            start += len(block)
            while sum(map(len, kept)) > 2 * most:
                kept, step = [np.concatenate(kept)[::2]], 2 * step
        return thinned(np.concatenate(kept), most)


def in_single_precision(values: NDArray) -> NDArray[np.float64]:
    """Return values as networks take them, rounded to float32, in float64."""
    with np.errstate(over="ignore"):
        return values.astype(np.float32).astype(np.float64)


def thinned(rows: NDArray, most: int) -> NDArray:
    """Return at most this number of rows, evenly spread over an array [n, D]."""
    return rows[:: -(-len(rows) // most)]


BLOCK_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Dataset:
    """Samples as they are fed to the network, and their origin. The raw sample is ``x * scale + mean``."""

    name: str
    x: NDArray[np.float32]  # [N, D], possibly memory-mapped
    mean: NDArray  # [D], subtracted from the raw data
    scale: NDArray  # [D], the raw data were divided by it
    preprocessing: dict[str, Any]
    constant_features: list[int]
    provenance: dict[str, Any]
    sha256: str | None = None
    """sha256 of data.npy; None for a data set that is not saved."""
    reading: Reading | None = None
    """What was read; None for a data set that was saved without it."""
    labels: Any = None
    """See `RawSamples`; not saved."""
    condition: Condition | None = None
    """What the networks see beside each row."""

    @property
    def digest(self) -> str:
        """sha256 (hex) of all that the networks see: that of data.npy, or with a condition that of both files."""
        sha256 = self.sha256 or write_npy(self.x)
        return sha256 if (known := self.condition) is None else digest_of(sha256, known.sha256, known.coding)

    def __repr__(self) -> str:
        size = f"{counted(self.x.shape[0], 'sample')} of {counted(self.x.shape[1], 'feature')}"
        return f"<Dataset {self.name}: {size}, standardize {self.preprocessing.get('standardize', 'none')}>"


def block_rows(dimension: int, most_rows: int | None = None) -> int:
    """Return the number of rows of a block; see `row_slices`."""
    size = max(1, BLOCK_BYTES // (8 * max(1, dimension)))
    return size if most_rows is None else max(1, min(size, most_rows))


def row_slices(n_rows: int, dimension: int, most_rows: int | None = None) -> Iterator[slice]:
    """Yield slices that cover all rows in order.

    Parameters
    ----------
    n_rows, dimension : int
        Shape of the data.
    most_rows : int, optional
        The most rows of a slice. A slice is always at most 64 MiB in float64.
    """
    step = block_rows(dimension, most_rows)
    for start in range(0, n_rows, step):
        yield slice(start, min(start + step, n_rows))


def write_npy(x: NDArray, stream: BinaryIO | None = None) -> str:
    """Write a float32 .npy file in constant memory and return the sha256 (hex) of its bytes.

    Parameters
    ----------
    x : array [N, D]
    stream : binary stream, optional
        Without a stream the bytes are only hashed.
    """
    header = io.BytesIO()
    description = {"descr": "<f4", "fortran_order": False, "shape": tuple(x.shape)}
    np.lib.format.write_array_header_1_0(header, description)
    digest = hashlib.sha256()
    for block in _npy_blocks(header.getvalue(), x):
        digest.update(block)
        if stream is not None:
            stream.write(block)
    return digest.hexdigest()


def digest_of(data_sha256: str, condition_sha256: str, coding: Coding) -> str:
    """Return the digest of a data set with conditions, from the digests of its two files and the coding."""
    return json_sha256({"data": data_sha256, "condition": condition_sha256, "coding": coding.to_json()})


def _npy_blocks(header: bytes, x: NDArray) -> Iterator[bytes | memoryview]:
    yield header
    for rows in row_slices(*x.shape):
        yield np.ascontiguousarray(x[rows], dtype="<f4").data.cast("B")


def file_name(path: Path | str) -> str:
    """Return the last part of a path; for "." that of the working folder."""
    return Path(path).name or Path(path).resolve().name


def checked_path(key: str, value: Any) -> Path:
    """Return an option's value as a path with ~ expanded.

    Raises InputError that names the option `key`, or a path that is no file or folder that can be read.
    """
    if not isinstance(value, str | Path) or not str(value) or "\0" in str(value):
        raise InputError(f"{key}: {value!r}, must be the path of a file or folder")
    path = Path(value).expanduser()
    check_readable(path)
    return path


def checked_int(key: str, value: Any, least: int) -> int:
    """Return an option's value as an integer, at least `least`; 1e5 counts as an integer.

    Raises InputError that names the option `key`.
    """
    whole = isinstance(value, int | np.integer) or (isinstance(value, float) and value.is_integer())
    if isinstance(value, bool) or not whole or value < least:
        raise InputError(f"{key}: {value!r}, must be an integer of at least {least}")
    return int(value)


def checked_choice(key: str, value: Any, choices: tuple[str, ...]) -> str:
    """Return an option's value if it is among `choices`. Raises InputError that names the option `key`."""
    if value not in choices:
        raise no_such_choice(key, value, choices)
    return value


def checked_flag(key: str, value: Any) -> bool:
    """Return an option's value if it is true or false. Raises InputError that names the option `key`."""
    if not isinstance(value, bool):
        raise InputError(f"{key}: {value!r}, must be true or false")
    return value
