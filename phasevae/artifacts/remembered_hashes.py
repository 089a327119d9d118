"""Hashes of code that outlive the process: a small file beside the bytecode of the package, keyed by its sources.

To find a hash takes more than a second, to read all sources 20 ms. As for bytecode, PYTHONDONTWRITEBYTECODE keeps the
file from being written, PYTHONPYCACHEPREFIX moves it, and where the folder is read-only there is none.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path

from phasevae.artifacts.files import json_sha256, read_json, write_json
from phasevae.errors import InputError


def remembered(package: Path, question: object, compute: Callable[[], str]) -> str:
    """Return a hash of code that an earlier process found in the same sources, or compute it.

    Parameters
    ----------
    package : Path
        The folder of the sources.
    question : object
        What the hash is of, a value of JSON.
    compute : callable
        Finds the hash.
    """
    try:
        sources = _sources_at_start(package)
        file = Path(importlib.util.cache_from_source(str(package / "source_hash.py"))).with_suffix(".json")
    except (OSError, NotImplementedError):  # a source vanished meanwhile; an interpreter without bytecode
        return compute()
    key = json_sha256(question)
    known = _read(file, sources)
    if key in known:
        return known[key]
    found = compute()
    if not sys.dont_write_bytecode:
        _write(file, package, sources, {key: found})
    return found


def _sources_sha256(package: Path) -> str:
    """Digest of the names and contents of all sources of the package."""
    digest = hashlib.sha256()
    for file in sorted(path for path in package.rglob("*.py") if path.is_file()):
        content = hashlib.sha256(file.read_bytes()).hexdigest()
        digest.update(f"{file.relative_to(package).as_posix()} {content}\n".encode())
    return digest.hexdigest()


_sources_at_start = functools.cache(_sources_sha256)
"""The digest that all hashes of a process are looked up by; a workflow asks for dozens."""


def _read(file: Path, sources: str) -> dict[str, str]:
    """The hashes in the file; none if it is missing, damaged or of other sources."""
    try:
        record = read_json(file, ("sources", "hashes"))
    except (InputError, OSError):
        return {}
    return record["hashes"] if record["sources"] == sources else {}


def _write(file: Path, package: Path, sources: str, hashes: dict[str, str]) -> None:
    """Add hashes to the file, unless the sources changed while they were found."""
    try:
        if _sources_sha256(package) == sources:
            write_json(file, {"sources": sources, "hashes": {**_read(file, sources), **hashes}})
    except (OSError, InputError):  # a read-only folder, a file in its place, a full disk: the next process computes it
        return
