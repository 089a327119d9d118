"""The manifest of a results folder: all files with their digests and origin."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from phasevae.artifacts.environment import environment
from phasevae.artifacts.files import file_sha256
from phasevae.errors import InputError
from phasevae.provenance.stages import read_provenance

MANIFEST = "manifest.json"
_SKIPPED_FOLDERS = {"logs", "benchmarks", "checkpoints", "shards"}
_SUFFIXES = {".json", ".csv", ".npy", ".png", ".pdf", ".safetensors"}
_KEPT = ("stage", "version", "git", "dirty", "code_hash")


def artifact_files(folder: Path, names: Sequence[str] = ()) -> list[Path]:
    """Return the sorted files of results in a folder, without logs, benchmarks, checkpoints, reports and the manifest.

    Parameters
    ----------
    folder : Path
        The results folder.
    names : sequence of str
        Only these data sets; by default all files.

    Raises
    ------
    InputError
        If a folder does not exist.
    """
    roots = [folder / name for name in names] or [folder]
    for root in roots:
        if not root.is_dir():
            raise InputError(f"{root}: no such folder, must be a folder of results")
    files = []
    for path in sorted(path for root in roots for path in root.rglob("*")):
        parts = path.relative_to(folder).parts
        hidden = any(part.startswith(".") for part in parts) or _SKIPPED_FOLDERS & set(parts)
        if path.suffix in _SUFFIXES and path.is_file() and not hidden and parts != (MANIFEST,):
            files.append(path)
    return files


def build_manifest(folder: Path, names: Sequence[str] = ()) -> dict[str, Any]:
    """Return the content of manifest.json.

    Parameters
    ----------
    folder, names
        See `artifact_files`.

    Returns
    -------
    dict
        {environment, n_files, files: [{path, bytes, sha256, stage, version, git, dirty, code_hash}]}. A file that does
        not carry its origin lacks the last five keys.

    Raises
    ------
    InputError
        If there are no results.
    """
    files = artifact_files(folder, names)
    if not files:
        raise InputError(f"{folder}: holds no results of phasevae")
    entries = [
        {
            "path": path.relative_to(folder).as_posix(),
            "bytes": path.stat().st_size,
            "sha256": file_sha256(path),
            **_origin(path),
        }
        for path in files
    ]
    return {"environment": environment(), "n_files": len(entries), "files": entries}


def _origin(path: Path) -> dict[str, Any]:
    if path.suffix not in (".json", ".csv", ".png") or path.name.endswith("-metadata.json"):
        return {}
    origin = read_provenance(path) or {}
    return {key: origin[key] for key in _KEPT if key in origin}
