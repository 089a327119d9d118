"""How arguments of the command line are read: lists, JSON, tables and spectra."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phasevae.artifacts.tables import read_table
from phasevae.errors import InputError
from phasevae.sweeps.settings import GAUSSIAN

if TYPE_CHECKING:
    import pandas as pd

    from phasevae.spectrum.spectrum import Spectrum


def numbers(option: str, text: str | None, kind: type = float) -> list | None:
    """Read numbers separated by commas.

    Parameters
    ----------
    option : str
        Name of the option, for messages.
    text : str or None
        Its value; None gives None.
    kind : type
        int or float.
    """
    if text is None:
        return None
    try:
        return [kind(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"{option}: {text!r}, must be numbers with commas between, such as 4,2,1") from None


def names(option: str, text: str) -> list[str]:
    """Read names separated by commas.

    Parameters
    ----------
    option : str
        Name of the option, for messages.
    text : str
        Its value. Spaces around a name do not count.

    Raises
    ------
    InputError
        If a name is empty.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(parts):
        raise InputError(f"{option}: {text!r}, must be names with commas between, such as a,b")
    return parts


def json_object(option: str, text: str | None) -> dict[str, Any]:
    """Read a JSON object; None gives an empty one. `option` is the name of the option, for messages."""
    if text is None:
        return {}
    try:
        value = json.loads(text)
    except ValueError as error:
        raise InputError(f"{option}: not JSON ({error})") from None
    if not isinstance(value, dict):
        raise InputError(f"{option}: {text}, must be a JSON object")
    return value


def shape(option: str, text: str | None) -> tuple[int, ...] | None:
    """Read a shape such as 3,64,64; None stays None. `option` is the name of the option, for messages."""
    if text is None:
        return None
    try:
        sizes = tuple(int(part) for part in text.split(","))
    except ValueError:
        sizes = ()
    if not sizes or min(sizes) < 1:
        raise InputError(f"{option}: {text!r}, must be whole numbers with commas between, such as 3,64,64")
    return sizes


def shapes(option: str, text: str | None) -> tuple[int, ...] | list[tuple[int, ...]] | None:
    """Read a shape, or several with slashes between as a list; None stays None."""
    if text is None or "/" not in text:
        return shape(option, text)
    return [shape(option, part) for part in text.split("/")]


def named_values(option: str, text: str | None) -> dict[str, Any] | None:
    """Read NAME=VALUE pairs with commas between, values as numbers, true or false where they are; None stays None."""
    if text is None:
        return None
    pairs = [part.partition("=") for part in text.split(",")]
    if not all(name and sign for name, sign, _ in pairs):
        raise InputError(f"{option}: {text!r}, must be NAME=VALUE, with commas between")
    return {name: _value(value) for name, _, value in pairs}


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def given(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options that were given."""
    return {key: value for key, value in options.items() if value is not None}


def table_of(path: Path | None, kind: str) -> pd.DataFrame | None:
    """Read a table of a kind (`phasevae.artifacts.table_schemas`); None when the option is not given."""
    return None if path is None else read_table(path, kind)


def matching_spectrum(path: Path | None, sweep: pd.DataFrame | None) -> Spectrum | None:
    """Read spectrum.json; None when the option is not given. Raises InputError when the sweep is of other data."""
    from phasevae.spectrum.spectrum_files import read_spectrum

    if path is None:
        return None
    spectrum = read_spectrum(path)
    if sweep is not None and "data_sha256" in sweep and not (sweep["data_sha256"] == spectrum.data_sha256).all():
        raise InputError(f"{path}: is the spectrum of other data than the sweep's")
    if sweep is not None and "kl" in sweep:
        wanted = sweep["likelihood"].iloc[0] if "likelihood" in sweep else GAUSSIAN
        found = GAUSSIAN if spectrum.likelihood is None else spectrum.likelihood.name
        if found != wanted:
            raise InputError(f"{path}: is the spectrum of the likelihood {found}, the sweep's is {wanted}")
    return spectrum


def latents_of(sweep: pd.DataFrame) -> int | None:
    """Return the largest number of latents of a sweep's networks, None if the table lacks the column."""
    return int(sweep["n_latent"].max()) if "n_latent" in sweep else None


def saved_folder(path: Path) -> Path:
    """Return the path of a saved data set.

    Raises InputError if it is something else, with the command that makes a data set of it if it is data.
    """
    from phasevae.datasets.registry import holds_data, kind_of_path
    from phasevae.datasets.store import is_saved

    # A folder that does not exist, or one whose data.json was lost, is named by whoever reads data.json.
    if not path.exists() or is_saved(path) or (path / "data.npy").exists():
        return path
    wanted = f"{path}: must be a folder made by `phasevae dataset`"
    if path.is_file() and is_saved(path.parent):
        raise InputError(f"{wanted}, here {path.parent}")
    if any(any(path.glob(name)) for name in ("point.json", "*/point.json")):
        homes = [folder for folder in path.resolve().parents[:2] if is_saved(folder)]
        data = f"; its data are in {os.path.relpath(homes[0])}" if homes else ""
        raise InputError(f"{wanted}, holds trained points{data}")
    if not holds_data(path):
        raise InputError(wanted)
    made = path.parent / f"{path.resolve().name.partition('.')[0]}_data"
    command = shlex.join(["phasevae", "dataset", kind_of_path(path), str(path), "-o", str(made)])
    raise InputError(f"{wanted}; make one with: {command}")
