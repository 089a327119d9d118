"""Data sets: build one by its kind, save it as data.npy + data.json, load it memory-mapped."""

from __future__ import annotations

import dataclasses
import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from phasevae import __version__, artifacts
from phasevae.datasets import archives, arrays, cifar10, digits, images, synthetic
from phasevae.datasets.base import Dataset, file_name, write_npy
from phasevae.errors import InputError
from phasevae.provenance import record as record_of

__all__ = ["KINDS", "Dataset", "build", "expected_shape", "from_path", "kind_of", "load", "save"]

KINDS: dict[str, Callable[..., Dataset]] = {
    "synthetic": synthetic.synthetic,
    "mixture": synthetic.mixture,
    "clusters": synthetic.clusters,
    "cifar10": cifar10.cifar10,
    "digits": digits.digits,
    "images": images.images,
    "array": arrays.array,
}
"""Builders by kind. The keyword parameters of a builder are the options of its kind."""

_FILE_OPTIONS = ("archive", "path")


def build(kind: str, *, name: str | None = None, **options: Any) -> Dataset:
    """Build a data set of a kind of `KINDS`; `name` defaults to the kind.

    Its provenance holds the kind, all options with their defaults (files by name only), the version of phasevae
    and the source with the sha256 of its bytes: nothing that differs between two runs or two machines.
    Raises InputError for an unknown kind, an unknown, missing or unusable option, or unusable data.
    """
    if kind not in KINDS:
        raise InputError(f"kind: {kind!r}, must be one of {', '.join(KINDS)}")
    builder = KINDS[kind]
    used = _checked_options(kind, builder, options)
    dataset = builder(**used)
    for key in _FILE_OPTIONS:
        if isinstance(used.get(key), list):
            used[key] = [file_name(one) for one in used[key]]
        elif used.get(key) is not None:
            used[key] = file_name(used[key])
    # As data.json will hold them, so that a built and a loaded data set are the same.
    plain = json.loads(artifacts.canonical_json(used))
    provenance = {"kind": kind, "options": plain, "phasevae": __version__, **dataset.provenance}
    return dataclasses.replace(dataset, name=name or kind, provenance=provenance)


def expected_shape(kind: str, **options: Any) -> tuple[int, int] | None:
    """(samples, features) that `build` will give, where the options alone tell them; None elsewhere."""
    used = _checked_options(kind, KINDS[kind], options)
    if kind in ("synthetic", "mixture"):
        return used["n_samples"], len(used["eigenvalues"])
    if kind == "clusters":
        return used["n_samples"], len(used["weights"])
    if kind == "digits":
        return digits.N_SAMPLES, digits.DIMENSION
    if kind == "cifar10":
        side = used["size"] or cifar10.SIDE
        return cifar10.N_SAMPLES[used["split"]], side * side * (1 if used["grey"] else 3)
    return None


def from_path(path: Path | str, **options: Any) -> Dataset:
    """The data set at `path`: a folder made by `save` (which takes no options), an array or table file, or a folder
    or archive of images. Raises InputError as `build` and `load` do."""
    path = Path(path)
    kind = kind_of(path)
    if kind == "saved":
        if options:
            raise InputError(f"{path}: is a saved data set, must be used without {', '.join(options)}")
        return load(path, verify=True)
    if kind == "images" and path.is_file() and path.suffix.lower() not in ("", *archives.SUFFIXES):
        raise InputError(
            f"{path}: named *{path.suffix}, must be *{', *'.join(arrays.SUFFIXES)}, or a folder, .zip or .tar of images"
        )
    for key in options:
        if key not in inspect.signature(KINDS[kind]).parameters:
            told = "an array or table" if kind == "array" else "a folder or archive of images"
            raise InputError(f"{key}: must be left out for {path}, {told}")
    return build(kind, path=path, **options)


def kind_of(path: Path) -> str:
    """The kind of what is at `path`: "saved" for a folder made by `save`, else "array" or "images"."""
    if (path / "data.json").is_file():
        return "saved"
    return "array" if path.suffix.lower() in arrays.SUFFIXES and not path.is_dir() else "images"


def save(dataset: Dataset, folder: Path | str) -> Dataset:
    """Write data.npy and data.json into `folder`; return the saved data set, memory-mapped."""
    folder = Path(folder)
    record = folder / "data.json"
    with artifacts.replacing(folder / "data.npy") as temporary:
        with temporary.open("wb") as stream:
            sha256 = write_npy(dataset.x, stream)
        # No moment at which the old record describes the new array.
        record.unlink(missing_ok=True)
    n_samples, dimension = dataset.x.shape
    artifacts.write_json(
        record,
        {
            "name": dataset.name,
            "n_samples": n_samples,
            "dimension": dimension,
            "preprocessing": dataset.preprocessing,
            "constant_features": dataset.constant_features,
            "mean": dataset.mean,
            "scale": dataset.scale,
            "sha256": sha256,
            "provenance": dataset.provenance,
            "made_by": record_of(folder / "data.json", "dataset", entry=dataset.provenance.get("kind", "")),
        },
    )
    return load(folder)


_KEYS = (
    "name",
    "n_samples",
    "dimension",
    "preprocessing",
    "constant_features",
    "mean",
    "scale",
    "sha256",
    "provenance",
)


def load(folder: Path | str, verify: bool = False) -> Dataset:
    """Read a folder written by `save`; the samples are memory-mapped read-only. `verify` checks the sha256 as well.

    Raises InputError naming the file that is missing, damaged or does not fit the other.
    """
    folder = Path(folder)
    record = artifacts.read_json(folder / "data.json", _KEYS, "data")
    array = folder / "data.npy"
    try:
        x = np.load(array, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise InputError(f"{array}: no such file") from None
    except (ValueError, OSError, EOFError) as error:
        raise InputError(f"{array}: not a .npy file, or damaged ({error})") from None
    expected = (record["n_samples"], record["dimension"])
    if x.shape != expected or x.dtype != np.float32:
        raise InputError(f"{array}: {x.dtype} of shape {x.shape}, must be float32 {expected} as data.json says")
    if verify and (found := artifacts.file_sha256(array)) != record["sha256"]:
        raise InputError(f"{array}: sha256 {found}, must be {record['sha256']} as data.json says")
    return Dataset(
        name=record["name"],
        x=x,
        mean=np.asarray(record["mean"], dtype=np.float64),
        scale=np.asarray(record["scale"], dtype=np.float64),
        preprocessing=record["preprocessing"],
        constant_features=record["constant_features"],
        provenance=record["provenance"],
        sha256=record["sha256"],
    )


def _checked_options(kind: str, builder: Callable[..., Dataset], options: dict[str, Any]) -> dict[str, Any]:
    """All options of the builder, defaults included."""
    parameters = inspect.signature(builder).parameters
    for key in options:
        if key not in parameters:
            raise InputError(f"{key}: unknown option of kind '{kind}', must be one of {', '.join(parameters)}")
    for key, parameter in parameters.items():
        if parameter.default is parameter.empty and options.get(key) is None:
            raise InputError(f"{key}: missing, kind '{kind}' needs it")
    return {key: options.get(key, parameter.default) for key, parameter in parameters.items()}
