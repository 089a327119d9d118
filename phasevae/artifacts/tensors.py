"""Arrays as safetensors files with a digest of all content."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from phasevae.artifacts.files import SEAL, canonical_json, replacing
from phasevae.artifacts.schemas import check_record
from phasevae.artifacts.table_schemas import LARGEST
from phasevae.errors import InputError

_HEADER_KEY = "phasevae"


def write_tensors(path: Path | str, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, Any]) -> None:
    """Write arrays as safetensors.

    Parameters
    ----------
    path : Path or str
    tensors : mapping of str to array
    metadata : mapping
        Stored as one canonical JSON string, with a sha256 of all content.

    Raises
    ------
    OSError
        If the file cannot be written. It names the file.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    path = Path(path)
    contiguous = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    # The library stores several strings in random order; one string makes equal content equal bytes.
    header = {_HEADER_KEY: canonical_json({**metadata, SEAL: _content_sha256(contiguous, metadata)})}
    # The library writes under a name of its own. In a folder of ours it can be removed after a kill.
    with replacing(path) as temporary:
        folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.{os.getpid()}.", suffix=".partial", dir=path.parent))
        try:
            save_file(contiguous, folder / path.name, header)
            (folder / path.name).replace(temporary)
        except SafetensorError as error:
            number = re.search(r"os error (\d+)", str(error))
            raise OSError(number and int(number[1]), os.strerror(int(number[1])) if number else str(error)) from None
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def read_tensors(path: Path | str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read arrays and metadata written by `write_tensors`.

    Raises InputError that names the file when it is missing, truncated, altered or not ours.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        with safe_open(path, framework="numpy") as stream:
            metadata = json.loads((stream.metadata() or {})[_HEADER_KEY])
            sha256 = metadata.pop(SEAL)
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
    except (SafetensorError, KeyError, ValueError, AttributeError, TypeError) as error:
        raise InputError(f"{path}: not a weights file of phasevae, or damaged ({error})") from None
    if sha256 != _content_sha256(tensors, metadata):
        raise InputError(f"{path}: altered after it was written ({SEAL} is not that of its content)")
    return tensors, metadata


def check_tensors(
    path: Path | str, arrays: Mapping[str, np.ndarray], metadata: Any, kind: str, axes: Mapping[str, str]
) -> None:
    """Check what `read_tensors` gave.

    Parameters
    ----------
    path : Path or str
        The file, for the message.
    arrays : mapping of str to array
        All numbers must be finite.
    metadata : mapping
    kind : str
        The schema that the metadata must meet (`phasevae.artifacts.schemas`).
    axes : mapping of str to str
        For arrays by their names, a letter or digit for each axis. Axes of the same letter must be of the same length,
        those of a digit of this length.

    Raises
    ------
    InputError
        One line: the file, the key or array that is wrong, and what would be right.
    """
    check_record(path, metadata, kind)
    lengths: dict[str, int] = {}
    for name, array in arrays.items():
        if array.dtype.kind != "f" or not float(np.abs(array).max(initial=0)) <= LARGEST:
            raise InputError(f"{path}: array '{name}' is {array.dtype}, must hold finite numbers up to {LARGEST:g}")
        if name not in axes:
            continue
        if array.ndim == len(axes[name]):
            for axis, length in zip(axes[name], array.shape, strict=True):
                lengths.setdefault(axis, int(axis) if axis.isdecimal() else length)
        if array.shape != tuple(lengths.get(axis) for axis in axes[name]):
            raise InputError(f"{path}: array '{name}' has the shape {array.shape}, which does not fit the others")


def _content_sha256(tensors: Mapping[str, np.ndarray], metadata: Mapping[str, Any]) -> str:
    """sha256 (hex) of contiguous arrays with their names, types and shapes, and of the metadata."""
    digest = hashlib.sha256(canonical_json(metadata).encode())
    for name, array in sorted(tensors.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
