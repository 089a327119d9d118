"""All files of a results folder in one list, with their digests and where they come from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from phasevae.artifacts.environment import environment
from phasevae.artifacts.files import file_sha256, read_provenance
from phasevae.errors import InputError

MANIFEST = "manifest.json"
_PASSED_OVER = {"logs", "benchmarks", "checkpoints", "shards"}
_SUFFIXES = {".json", ".csv", ".npy", ".png", ".pdf", ".safetensors"}
_KEPT = ("stage", "version", "git", "dirty", "code_hash")


def artifact_files(folder: Path, names: Sequence[str] = ()) -> list[Path]:
    """The files of results below a folder, sorted; of the data sets `names` if any are given. Logs, benchmarks,
    checkpoints, reports and the manifest itself are none. Raises InputError when a folder does not exist."""
    roots = [folder / name for name in names] or [folder]
    for root in roots:
        if not root.is_dir():
            raise InputError(f"{root}: no such folder, must be one of results")
    files = []
    for path in sorted(path for root in roots for path in root.rglob("*")):
        parts = path.relative_to(folder).parts
        hidden = any(part.startswith(".") for part in parts) or _PASSED_OVER & set(parts)
        if path.suffix in _SUFFIXES and path.is_file() and not hidden and parts != (MANIFEST,):
            files.append(path)
    return files


def build_manifest(folder: Path, names: Sequence[str] = ()) -> dict[str, Any]:
    """The content of manifest.json: {environment, n_files, files: [{path, bytes, sha256, stage, version, git, dirty,
    code_hash}]}; the last five where a file carries its origin. Raises InputError for an empty folder."""
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
