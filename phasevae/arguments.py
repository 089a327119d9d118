"""What the command line's arguments mean: lists, JSON, and settings completed by the config's rules."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phasevae import artifacts
from phasevae.errors import InputError

if TYPE_CHECKING:
    import pandas as pd


def numbers(option: str, text: str | None, kind: type = float) -> list | None:
    """A comma-separated list of numbers; None when the option is not given."""
    if text is None:
        return None
    try:
        return [kind(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"{option}: {text!r}, must be numbers with commas between, such as 4,2,1") from None


def json_object(option: str, text: str | None) -> dict[str, Any]:
    """A JSON object; an empty one when the option is not given."""
    if text is None:
        return {}
    try:
        value = json.loads(text)
    except ValueError as error:
        raise InputError(f"{option}: not JSON ({error})") from None
    if not isinstance(value, dict):
        raise InputError(f"{option}: {text}, must be a JSON object")
    return value


def given(options: dict[str, Any]) -> dict[str, Any]:
    """The options that were given."""
    return {key: value for key, value in options.items() if value is not None}


def record(path: Path | None, kind: str | None = None) -> dict[str, Any] | None:
    """The content of a JSON file, checked by the schema of its kind; None when the option is not given."""
    return None if path is None else artifacts.read_json(path, kind=kind)


def table_of(path: Path | None) -> pd.DataFrame | None:
    """The content of a CSV table; None when the option is not given."""
    return None if path is None else artifacts.read_table(path)


def spectrum_record(path: Path | None, sweep: pd.DataFrame | None) -> dict[str, Any] | None:
    """The checked content of spectrum.json. Raises InputError when the sweep is of other data."""
    from phasevae import spectrum

    if path is None:
        return None
    data_sha256 = spectrum.read(path).data_sha256
    if sweep is not None and "data_sha256" in sweep and not (sweep["data_sha256"] == data_sha256).all():
        raise InputError(f"{path}: is the spectrum of other data than the sweep's")
    return artifacts.read_json(path)


def latents_of(path: Path, sweep: pd.DataFrame) -> int | None:
    """Number of latents of the sweep's networks; None for a table that does not tell."""
    if "n_latent" not in sweep:
        return None
    if sweep["n_latent"].dtype.kind != "i" or sweep["n_latent"].min() < 1:
        raise InputError(f"{path}: column 'n_latent' must hold whole numbers, 1 or more")
    return int(sweep["n_latent"].max())


def completed_settings(settings: str | None, flags: dict[str, Any], needs_grid: bool = False) -> dict[str, Any]:
    """Settings of the command line under the rules and with the defaults of a config file.

    With `needs_grid` they must hold the sweep's sigma2 or sigma2_ratio; training settings do not depend on it.
    """
    from phasevae.config import validate

    keys = {**json_object("--settings", settings), **given(flags)}
    # The rules ask for a kind of data as well, on which no setting depends.
    entry = {"kind": "synthetic", **keys}
    if "n_latent" not in entry:
        raise InputError("--latent: is missing, must be the number of latents")
    if not needs_grid and not {"sigma2", "sigma2_ratio"} & entry.keys():
        entry["sigma2"] = [1.0]
    try:
        completed = validate({"datasets": {"options": entry}}, "options")["datasets"]["options"]
    except InputError as error:
        raise InputError(str(error).replace("datasets.options.", "").replace("datasets.options: ", "")) from None
    return completed if "kind" in keys else {key: value for key, value in completed.items() if key != "kind"}


def dataset_settings(files: list[Path], name: str | None) -> dict[str, Any]:
    """Settings of one data set of merged config files."""
    from phasevae.config import load_config, validate

    datasets = validate(load_config(*files), " + ".join(map(str, files)))["datasets"]
    if name not in datasets:
        raise InputError(f"--dataset: {name!r}, must be one of {', '.join(datasets)}")
    return datasets[name]


def data_shape(settings: dict[str, Any], folder: Path) -> tuple[int, int] | None:
    """(samples, features) of the data set saved in `folder`, else of the one that its settings describe, if known."""
    if (folder / "data.json").is_file():
        saved = artifacts.read_json(folder / "data.json", ("n_samples", "dimension"), "data")
        return saved["n_samples"], saved["dimension"]
    from phasevae.config import dataset_options
    from phasevae.datasets import expected_shape

    return expected_shape(settings["kind"], **dataset_options(settings)) if "kind" in settings else None
