"""Files of results: written whole or not at all, JSON with a seal, and digests.

A file is written under a temporary name in the folder of its destination and then renamed: a reader sees the old file,
the new file or none. A JSON file that a later run reads carries the sha256 of its own content, its seal, so that a cut
or altered file is noticed. JSON holds null for what is undefined, never NaN.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from phasevae.artifacts.processes import is_running
from phasevae.artifacts.schemas import check_record
from phasevae.errors import InputError

SEAL = "record_sha256"
_NUMBERS = ("parse_int", "parse_float", "parse_constant")


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it. Raises InputError that names the file that is in the place of one of them."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        file = next(path for path in (folder, *folder.parents) if os.path.lexists(path) and not path.is_dir())
        raise InputError(f"{file}: is a file, must be a folder") from None


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; rename it to `path` on success, remove it on failure.

    On success, what killed attempts to write `path` left is removed as well.

    Raises OSError that names `path` when it cannot be written: a full disk, a folder that is read-only.
    """
    path = Path(path)
    if not path.name or path.is_dir():
        raise InputError(f"{path}: is a folder, must be the name of a file to write")
    make_folder(path.parent)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
        for left in _partial(path):
            writer = re.search(r"\.(\d+)\.", left.name.removeprefix(f".{path.name}"))
            if writer and not is_running(int(writer[1])):
                _remove(left)
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from None
    finally:
        temporary.unlink(missing_ok=True)


def remove_partial(path: Path | str) -> None:
    """Remove what killed attempts to write `path` left. No other process may be writing it now."""
    for left in _partial(Path(path)):
        _remove(left)


def _partial(path: Path) -> list[Path]:
    """Return the temporary files and folders of attempts to write `path`."""
    folder = path.parent.iterdir() if path.parent.is_dir() else ()
    return [left for left in folder if left.name.startswith(f".{path.name}.") and ".partial" in left.name]


def _remove(left: Path) -> None:
    if left.is_dir():
        shutil.rmtree(left, ignore_errors=True)
    else:
        left.unlink(missing_ok=True)


def canonical_json(value: Any) -> str:
    """Return equal text for equal values: sorted keys, no spaces, shortest exact floats."""
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), allow_nan=False)


def json_sha256(value: Any) -> str:
    """Return the sha256 (hex) of the canonical JSON of `value`."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def file_sha256(path: Path | str) -> str:
    """Return the sha256 (hex) of a file's bytes, read in constant memory."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def is_open_pipe(path: Path) -> bool:
    """Whether a path names a pipe that this process has open: its standard input, or <(...) of a shell."""
    return (str(path) == "/dev/stdin" or str(path.parent) in ("/dev/fd", "/proc/self/fd")) and path.is_fifo()


def read_file(path: Path | str, words: str) -> bytes:
    """Return the content of a file.

    Parameters
    ----------
    path : Path or str
    words : str
        What it must be, for messages.

    Raises
    ------
    InputError
        If the file is missing or is a folder, a device or a named pipe: opening these may wait for ever. A pipe that
        this process has open is read.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path}: is a folder, must be {words}")
    if path.exists() and not path.is_file() and not is_open_pipe(path):
        raise InputError(f"{path}: is no regular file, must be {words}")
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None


def readable_json(value: Mapping[str, Any]) -> str:
    """Return indented JSON of `value` in its key order; arrays become lists, NaN and infinities null."""
    return json.dumps(_plain(value), indent=1, allow_nan=False)


def write_json(path: Path | str, value: Mapping[str, Any], sealed: bool = True) -> None:
    """Write a JSON file.

    Parameters
    ----------
    path : Path or str
    value : mapping
        The content; see `readable_json`.
    sealed : bool
        Whether to add the digest of the content as its last key, by which `read_json` notices damage.

    Raises
    ------
    OSError
        If the file cannot be written. It names the file.
    """
    plain = {key: item for key, item in _plain(value).items() if key != SEAL}
    with replacing(path) as temporary:
        text = readable_json({**plain, SEAL: json_sha256(plain)} if sealed else plain)
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(
    path: Path | str, required: tuple[str, ...] = (), kind: str | None = None, what: str = "a JSON object"
) -> dict[str, Any]:
    """Read a JSON object and check it.

    Parameters
    ----------
    path : Path or str
    required : tuple of str
        Keys that it must have.
    kind : str, optional
        The schema that it must meet (`phasevae.artifacts.schemas`).
    what : str
        What the file must be, in messages.

    Returns
    -------
    dict
        The content without its seal.

    Raises
    ------
    InputError
        If the file is missing, is not a JSON object, lacks a key, holds a number beyond double precision, was altered
        after it was written, or does not meet the schema. It names the file.
    """
    path = Path(path)
    content = read_file(path, "a JSON file")
    try:
        value = json.loads(content.decode(), **dict.fromkeys(_NUMBERS, _number))
    except ValueError as error:
        raise InputError(f"{path}: not a JSON file ({error})") from None
    if not isinstance(value, dict):
        raise InputError(f"{path}: holds a {type(value).__name__}, must be {what}")
    for key in required:
        if key not in value:
            raise InputError(f"{path}: key '{key}' is missing, must be {what} with this key")
    seal = value.pop(SEAL, None)
    if seal is not None and seal != json_sha256(value):
        raise InputError(f"{path}: altered after it was written ({SEAL} is not that of its content); make it again")
    if kind is not None:
        check_record(path, value, kind)
    return value


def _number(text: str) -> float | int:
    """A number of a JSON text. Raises ValueError for NaN, infinities and numbers beyond double precision."""
    if text.lstrip("-").isdecimal() and len(text) < 19:
        return int(text)
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"number {text[:20]}{'...' * (len(text) > 20)}")
    return int(text) if text.lstrip("-").isdecimal() else value


def _plain(value: Any) -> Any:
    """Reduce numpy and pathlib values to JSON's own types; numbers that are not finite become None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Path):
        return str(value)
    return value
