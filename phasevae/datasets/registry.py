"""The kinds of data sets, and data sets by their kind or path."""

from __future__ import annotations

import dataclasses
import inspect
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from phasevae import __version__
from phasevae.artifacts.files import canonical_json
from phasevae.datasets import (
    archives,
    arrays,
    cifar10,
    conditions,
    counts,
    digits,
    image_files,
    images,
    readers,
    synthetic,
)
from phasevae.datasets.base import Dataset, checked_path, file_name
from phasevae.datasets.store import is_saved, load_dataset, read_record
from phasevae.errors import InputError, no_such_choice
from phasevae.wording import suggestion

KINDS: dict[str, Callable[..., Dataset]] = {
    "synthetic": synthetic.synthetic,
    "mixture": synthetic.mixture,
    "clusters": synthetic.clusters,
    "conditional": synthetic.conditional,
    "counts": counts.counts,
    "cifar10": cifar10.cifar10,
    "digits": digits.digits,
    "images": images.images,
    "array": arrays.array,
}
"""Builders by kind. The keyword parameters of a builder are the options of its kind."""

CONDITION_OPTIONS = ("condition", "condition_kind")
"""Options of `build_dataset` that every kind takes."""

_ONE_A_FEATURE = {"synthetic": "eigenvalues", "mixture": "eigenvalues", "clusters": "weights", "counts": "rates"}
"""The option of a kind that has a value for each feature."""

_OF_IMAGES = (*archives.SUFFIXES, *image_files.SUFFIXES)
"""Endings of files of images and of archives."""

_MOST_LOOKED_AT = 10_000
"""Entries of a folder among which an image is looked for."""

_FILE_OPTIONS = ("archive", "path")


def build_dataset(
    kind: str,
    *,
    name: str | None = None,
    condition: Any = None,
    condition_kind: str | None = None,
    **options: Any,
) -> Dataset:
    """Build a data set.

    Parameters
    ----------
    kind : str
        A key of `KINDS`.
    name : str, optional
        Name of the data set; the kind by default.
    condition : str or array [N], optional
        What the networks see beside each row: a .npy file, column:NAME of a table, "label" for the labels of the kind,
        or the values themselves. Kind conditional has its labels as condition without being asked.
    condition_kind : {"classes", "numbers"}, optional
        What the condition is; see `phasevae.datasets.conditions.make_condition`.
    **options
        The options of the kind.

    Returns
    -------
    Dataset
        Its provenance holds the kind, all options with their defaults (files by name only), the version of phasevae and
        the source with the sha256 of its bytes. None of these differs between two runs or two machines.

    Raises
    ------
    InputError
        For an unknown kind, an unknown, missing or unusable option, and unusable data.
    """
    if kind not in KINDS:
        raise no_such_choice("kind", kind, KINDS)
    builder = KINDS[kind]
    condition = "label" if condition is None and kind == "conditional" else condition
    if (column := conditions.column_of(condition)) is not None:
        if kind != "array":
            raise InputError(f"condition: {condition}, must be of kind array, or {conditions.LABEL} or a .npy file")
        options["beside"] = column
    used = _checked_options(kind, builder, options)
    dataset = builder(**used)
    made = (
        None
        if condition is None
        else conditions.read_condition(condition, dataset.labels, len(dataset.x), condition_kind)
    )
    for key in _FILE_OPTIONS:
        if isinstance(used.get(key), list):
            used[key] = [file_name(path) for path in used[key]]
        elif used.get(key) is not None:
            used[key] = file_name(used[key])
    # In the form of data.json, so that a built and a loaded data set are the same.
    plain = json.loads(canonical_json(used))
    provenance = {"kind": kind, "options": plain, "phasevae": __version__, **dataset.provenance}
    return dataclasses.replace(dataset, name=name or kind, provenance=provenance, labels=None, condition=made)


def expected_shape(kind: str, **options: Any) -> tuple[int, int] | None:
    """Return the shape (samples, features) of a data set that is not built yet.

    Parameters
    ----------
    kind, **options
        See `build_dataset`.

    Returns
    -------
    tuple of int or None
        None if the shape depends on a file.
    """
    used = _checked_options(kind, KINDS[kind], options)
    if kind == "conditional":
        return used["n_samples"], len(used["condition_eigenvalues"][0])
    if kind in _ONE_A_FEATURE:
        return used["n_samples"], len(used[_ONE_A_FEATURE[kind]])
    if kind == "digits":
        return digits.N_SAMPLES, digits.DIMENSION
    if kind == "cifar10":
        side = used["size"] or cifar10.SIDE
        return cifar10.N_SAMPLES[used["split"]], side * side * (1 if used["grey"] else 3)
    return None


def dataset_from_path(path: Path | str, **options: Any) -> Dataset:
    """Load or build the data set at a path.

    Parameters
    ----------
    path : Path or str
        A folder of `save_dataset`, an array or table file, or a folder or archive of images.
    **options
        The options of kind array or images. A saved data set takes none.

    Raises
    ------
    InputError
        As `build_dataset` and `load_dataset` do.
    """
    path = checked_path("path", path)
    kind = kind_of_path(path)
    if kind == "saved":
        if options:
            raise InputError(f"{path}: is a saved data set, must be used without {', '.join(options)}")
        return load_dataset(path, verify=True)
    if kind == "images" and path.is_file() and path.suffix.lower() not in ("", *_OF_IMAGES):
        if (known := readers.not_read(path)) is not None:
            raise InputError(f"{path}: is {known}")
        raise InputError(
            f"{path}: named *{path.suffix}, must be *{', *'.join(readers.ENDINGS)}, or a folder, .zip or .tar of images"
        )
    for key in options:
        if key not in (*inspect.signature(KINDS[kind]).parameters, *CONDITION_OPTIONS):
            content = "an array or table" if kind == "array" else "a folder or archive of images"
            raise InputError(f"{key}: must be left out for {path}, {content}")
    return build_dataset(kind, name=file_name(path), path=path, **options)


def kind_of_path(path: Path) -> str:
    """Return the kind of the data at `path`: "saved" for a folder of `save_dataset`, else "array" or "images"."""
    if is_saved(path):
        return "saved"
    return "array" if readers.is_array(path, image_files.SUFFIXES) else "images"


def holds_data(path: Path) -> bool:
    """Return whether a file or folder looks like data by its names: an array, a table, pictures or an archive."""
    if kind_of_path(path) != "images":
        return True
    if path.is_file():
        return path.suffix.lower() in _OF_IMAGES
    entries = itertools.islice(path.rglob("*"), _MOST_LOOKED_AT)
    return any(entry.suffix.lower() in image_files.SUFFIXES for entry in entries)


def _checked_options(kind: str, builder: Callable[..., Dataset], options: dict[str, Any]) -> dict[str, Any]:
    """All options of the builder, defaults included."""
    parameters = inspect.signature(builder).parameters
    for key in options:
        if key not in parameters:
            raise InputError(f"{key}: unknown option of kind '{kind}', {suggestion(key, parameters, 'must be one of')}")
    for key, parameter in parameters.items():
        if parameter.default is parameter.empty and options.get(key) is None:
            raise InputError(f"{key}: missing, kind '{kind}' needs it")
    return {key: options.get(key, parameter.default) for key, parameter in parameters.items()}


def data_shape(settings: dict[str, Any], folder: Path) -> tuple[int, int] | None:
    """Return the shape (samples, features) of a data set of a config.

    Parameters
    ----------
    settings : dict
        Its settings, which describe it if it is not saved yet.
    folder : Path
        Where it is saved.

    Returns
    -------
    tuple of int or None
        None if the shape is not known yet.
    """
    if is_saved(folder):
        record = read_record(folder)
        return record.n_samples, record.dimension
    if "kind" not in settings:
        return None
    options = inspect.signature(KINDS[settings["kind"]]).parameters
    return expected_shape(settings["kind"], **{key: settings[key] for key in options if key in settings})
