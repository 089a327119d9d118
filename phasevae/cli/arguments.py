"""What the command line's arguments mean: lists, JSON, and settings completed by the config's rules."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phasevae.artifacts.files import read_json, read_table
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
    return None if path is None else read_json(path, kind=kind)


def table_of(path: Path | None) -> pd.DataFrame | None:
    """The content of a CSV table; None when the option is not given."""
    return None if path is None else read_table(path)


def spectrum_record(path: Path | None, sweep: pd.DataFrame | None) -> dict[str, Any] | None:
    """The checked content of spectrum.json. Raises InputError when the sweep is of other data."""
    from phasevae.spectrum.spectrum import read_spectrum

    if path is None:
        return None
    data_sha256 = read_spectrum(path).data_sha256
    if sweep is not None and "data_sha256" in sweep and not (sweep["data_sha256"] == data_sha256).all():
        raise InputError(f"{path}: is the spectrum of other data than the sweep's")
    return read_json(path)


def latents_of(path: Path, sweep: pd.DataFrame) -> int | None:
    """Number of latents of the sweep's networks; None for a table that does not tell."""
    if "n_latent" not in sweep:
        return None
    if sweep["n_latent"].dtype.kind != "i" or sweep["n_latent"].min() < 1:
        raise InputError(f"{path}: column 'n_latent' must hold whole numbers, 1 or more")
    return int(sweep["n_latent"].max())
