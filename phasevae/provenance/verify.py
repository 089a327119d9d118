"""Check results: compute digests again and compare them with the recorded ones.

A file is `missing` if it is in the manifest or was an input of another file, and is not there. It is `altered` if its
content is not the one that was written. It is `stale` if its inputs or the code that made it have changed since.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phasevae.artifacts.files import file_sha256, read_json
from phasevae.datasets.store import CONDITION, saved_digest
from phasevae.errors import InputError
from phasevae.provenance.manifest import MANIFEST, artifact_files
from phasevae.provenance.stages import UnknownStageError, read_provenance, stage_code
from phasevae.sweeps.digest import point_digest
from phasevae.sweeps.settings import Member, Settings

_METADATA = ".csv-metadata.json"
STATES = "altered", "missing", "stale"
"""What a file can be, the worst first."""

_PUBLISHED = "reference"
"""The folder of the published results, of which the repository keeps only tables and figures."""


@dataclass(frozen=True)
class Finding:
    """What is wrong with a file."""

    path: str  # relative to the results folder if it is in it
    state: str  # one of STATES
    reason: str


def verify_results(folder: Path) -> tuple[list[Finding], int]:
    """Return the findings in a results folder, the worst first, and its number of files.

    Raises InputError if it is empty.
    """
    files = artifact_files(folder)
    if not files:
        raise InputError(f"{folder}: holds no results of phasevae")
    _sha256.cache_clear()
    findings = [*_by_manifest(folder), *(finding for file in files for finding in _checked(file, folder))]
    unique = {(finding.path, finding.state): finding for finding in reversed(findings)}
    return sorted(unique.values(), key=lambda each: (STATES.index(each.state), each.path)), len(files)


def published(folder: Path, findings: Sequence[Finding]) -> list[Finding]:
    """Return the findings in the published results below a results folder; none if any of their files is altered."""
    if any((folder / _PUBLISHED).glob("*.json")):  # a data set of this name
        return []
    found = [finding for finding in findings if finding.path.startswith(f"{_PUBLISHED}/")]
    return [] if any(finding.state == "altered" for finding in found) else found


@functools.cache
def _sha256(path: Path) -> str:
    return file_sha256(path)


def _by_manifest(folder: Path) -> Iterator[Finding]:
    path = folder / MANIFEST
    if not path.is_file():
        return
    try:
        for entry in read_json(path, kind="manifest")["files"]:
            yield from _compared(folder / entry["path"], entry["sha256"], folder, MANIFEST)
    except InputError as error:
        yield Finding(MANIFEST, "altered", _reason(error, path))


def _checked(file: Path, folder: Path) -> Iterator[Finding]:
    """What is wrong with an artifact that carries its origin, and with its inputs."""
    try:
        if file.name == "data.json":
            yield from _data(file, folder)
        if file.name == "point.json":
            yield from _point(file, folder)
        elif file.name.endswith(_METADATA):
            table = file.with_name(file.name.removesuffix("-metadata.json"))
            origin = read_provenance(table)
            if origin is None:
                raise InputError(f"{file}: has no provenance")
            yield from _compared(table, origin.get("sha256"), folder, file.name)
            yield from _origin(table, origin, folder)
        elif file.suffix in (".json", ".png"):
            yield from _origin(file, read_provenance(file), folder)
            if file.suffix == ".png" and not file.with_suffix(".pdf").is_file():
                yield Finding(_shown(file.with_suffix(".pdf"), folder), "missing", f"{file.name} was written with it")
    except InputError as error:
        yield Finding(_shown(file, folder), "altered", _reason(error, file))
    except (AttributeError, KeyError, TypeError, ValueError):
        yield Finding(_shown(file, folder), "altered", "the record of its origin is damaged")


def _data(file: Path, folder: Path) -> Iterator[Finding]:
    record = read_json(file, ("sha256",))
    yield from _compared(file.with_name("data.npy"), record["sha256"], folder, file.name)
    if (condition := record.get("condition")) is not None:
        yield from _compared(file.with_name(CONDITION), condition["sha256"], folder, file.name)


def _point(file: Path, folder: Path) -> Iterator[Finding]:
    """What is wrong with a trained point: its digest, its files, its data and the training code."""
    shown = _shown(file, folder)
    keys = ("settings", "config_digest", "provenance", "weights_sha256", "history_sha256", "sigma2", "beta", "seed")
    point = read_json(file, keys)
    origin = point["provenance"]
    member = Member(point["sigma2"], point["beta"], point["seed"], point.get("beta_top"))
    settings = Settings.from_keys(point["settings"])
    if point["config_digest"] != point_digest(settings, member, origin["data_sha256"], origin["code_hash"]):
        yield Finding(shown, "altered", "its digest is not that of its keys")
    for name, key in (("weights.safetensors", "weights_sha256"), ("history.csv", "history_sha256")):
        yield from _compared(file.with_name(name), point[key], folder, file.name)
    if origin["code_hash"] != stage_code("train"):
        yield Finding(shown, "stale", "trained by other code or another backend than this version's")
    data = next((above / "data.json" for above in file.parents if (above / "data.json").is_file()), None)
    if data is not None and saved_digest(data.parent) != origin["data_sha256"]:
        yield Finding(shown, "stale", f"trained on other data than {_shown(data, folder)}")


def _origin(file: Path, origin: Mapping[str, Any] | None, folder: Path) -> Iterator[Finding]:
    """What has changed in the code and the inputs of an artifact."""
    if origin is None or "stage" not in origin:
        return
    shown = _shown(file, folder)
    stage, entry = origin["stage"], origin.get("entry", "")
    try:
        if origin["code_hash"] != stage_code(stage, entry):
            yield Finding(shown, "stale", f"made by other code of '{stage}' than this version's")
    except UnknownStageError:
        yield Finding(shown, "stale", f"made by '{' '.join(filter(None, (stage, entry)))}', which this version lacks")
    for name, sha256 in origin["inputs"].items():
        path = Path(os.path.normpath(file.parent / name))
        if not path.is_file():
            yield Finding(_shown(path, folder), "missing", f"{shown} was made from it")
        elif _sha256(path) != sha256:
            yield Finding(shown, "stale", f"{_shown(path, folder)} has changed since")
    for name, digest in origin.get("points", {}).items():
        path = Path(os.path.normpath(file.parent / name / "point.json"))
        if not path.is_file():
            yield Finding(_shown(path, folder), "missing", f"{shown} was made from it")
        elif read_json(path, ("config_digest",))["config_digest"] != digest:
            yield Finding(shown, "stale", f"{_shown(path, folder)} has changed since")


def _compared(path: Path, sha256: Any, folder: Path, source: str) -> Iterator[Finding]:
    if not path.is_file():
        yield Finding(_shown(path, folder), "missing", f"{source} names it")
    elif _sha256(path) != sha256:
        yield Finding(_shown(path, folder), "altered", f"has another digest than {source} says")


def _shown(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)


def _reason(error: InputError, path: Path) -> str:
    return str(error).removeprefix(f"{path}: ")
