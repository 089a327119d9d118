"""Data sets: build one by its kind, save it as data.npy + data.json, load it memory-mapped."""

from __future__ import annotations

import dataclasses
import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phasevae import __version__
from phasevae.artifacts.files import canonical_json, read_json
from phasevae.datasets import archives, arrays, cifar10, digits, images, synthetic
from phasevae.datasets.base import Dataset, file_name
from phasevae.errors import InputError

if TYPE_CHECKING:
    pass
from phasevae.datasets.store import load_dataset

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


def build_dataset(kind: str, *, name: str | None = None, **options: Any) -> Dataset:
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
    plain = json.loads(canonical_json(used))
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


def dataset_from_path(path: Path | str, **options: Any) -> Dataset:
    """The data set at `path`: a folder made by `save` (which takes no options), an array or table file, or a folder
    or archive of images. Raises InputError as `build` and `load` do."""
    path = Path(path)
    kind = kind_of_path(path)
    if kind == "saved":
        if options:
            raise InputError(f"{path}: is a saved data set, must be used without {', '.join(options)}")
        return load_dataset(path, verify=True)
    if kind == "images" and path.is_file() and path.suffix.lower() not in ("", *archives.SUFFIXES):
        raise InputError(
            f"{path}: named *{path.suffix}, must be *{', *'.join(arrays.SUFFIXES)}, or a folder, .zip or .tar of images"
        )
    for key in options:
        if key not in inspect.signature(KINDS[kind]).parameters:
            told = "an array or table" if kind == "array" else "a folder or archive of images"
            raise InputError(f"{key}: must be left out for {path}, {told}")
    return build_dataset(kind, path=path, **options)


def kind_of_path(path: Path) -> str:
    """The kind of what is at `path`: "saved" for a folder made by `save`, else "array" or "images"."""
    if (path / "data.json").is_file():
        return "saved"
    return "array" if path.suffix.lower() in arrays.SUFFIXES and not path.is_dir() else "images"


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


def data_shape(settings: dict[str, Any], folder: Path) -> tuple[int, int] | None:
    """(samples, features) of the data set saved in `folder`, else of the one that its settings describe, if known."""
    if (folder / "data.json").is_file():
        saved = read_json(folder / "data.json", ("n_samples", "dimension"), "data")
        return saved["n_samples"], saved["dimension"]
    if "kind" not in settings:
        return None
    options = inspect.signature(KINDS[settings["kind"]]).parameters
    return expected_shape(settings["kind"], **{key: settings[key] for key in options if key in settings})
