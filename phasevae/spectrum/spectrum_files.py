"""spectrum.json: writing and reading a spectrum."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from phasevae.artifacts.files import read_json, write_json
from phasevae.datasets.reading import Reading
from phasevae.errors import InputError
from phasevae.spectrum.spectrum import ConditionSpectrum, LikelihoodRecord, Spectrum

_ARRAYS = ("eigenvalues", "standard_errors", "skewness", "excess_kurtosis")
_KEYS = (
    "name", "n_samples", "dimension", "critical_variance", "trace", *_ARRAYS, "variance_proxy", "data_sha256",
    "provenance",
)  # fmt: skip
"""The keys of spectrum.json after `read`, in their order."""

_OF_CLASS = ("n_samples", "critical_variance", "trace", *_ARRAYS, "variance_proxy")
"""The keys of each of its `conditions` after `value` and `share`."""


def to_json(spectrum: Spectrum) -> dict[str, Any]:
    """Return the content of spectrum.json."""
    read = None if spectrum.reading is None else spectrum.reading.to_json()
    likelihood = {} if spectrum.likelihood is None else {"likelihood": asdict(spectrum.likelihood)}
    content = {"read": read, **likelihood, **{key: getattr(spectrum, key) for key in _KEYS}}
    if spectrum.condition is None:
        return content
    classes = [
        {"value": each.value, "share": each.share, **{key: getattr(each.spectrum, key) for key in _OF_CLASS}}
        for each in spectrum.conditions
    ]
    more = {"condition": spectrum.condition, "unaware_variance": spectrum.unaware_variance}
    return {**content, **more, "conditions": classes}


def write_spectrum(path: Path | str, spectrum: Spectrum, made_by: Mapping[str, Any] | None = None) -> None:
    """Write spectrum.json.

    Parameters
    ----------
    path : Path or str
    spectrum : Spectrum
    made_by : mapping, optional
        How it was computed (`phasevae.provenance.stages.provenance_record`).
    """
    write_json(path, {**to_json(spectrum), **({} if made_by is None else {"made_by": made_by})})


def read_spectrum(path: Path | str) -> Spectrum:
    """Read spectrum.json; null becomes NaN in the arrays. Raises InputError that names the file and the wrong key."""
    record = read_json(path, (*_ARRAYS, *_KEYS), "spectrum", "a spectrum.json of `phasevae spectrum`")
    values = _values(record, _KEYS)
    eigenvalues, dimension = values["eigenvalues"], values.pop("dimension")
    if not np.all(eigenvalues >= 0) or np.any(np.diff(eigenvalues) > 0) or eigenvalues[0] == 0:
        raise InputError(f"{path}: key 'eigenvalues' must descend from a positive number and not go below zero")
    if values["standard_errors"].shape != eigenvalues.shape:
        raise InputError(f"{path}: key 'standard_errors' must have one number for each of the eigenvalues")
    n_features = None if dimension == eigenvalues.size else dimension
    likelihood = record.get("likelihood") and LikelihoodRecord(**record["likelihood"])
    known = {"name": values["name"], "n_features": n_features, "likelihood": likelihood or None}
    classes = (
        ConditionSpectrum(each["value"], each["share"], Spectrum(**_values(each, _OF_CLASS), **known))
        for each in record.get("conditions", [])
    )
    return Spectrum(
        **values,
        n_features=n_features,
        reading=Reading.from_json(record.get("read")),
        condition=record.get("condition"),
        conditions=tuple(classes),
        unaware_variance=record.get("unaware_variance"),
        likelihood=likelihood or None,
    )


def _values(record: Mapping[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    """Values of a spectrum from a record."""
    arrays = {key: np.array(record[key], dtype=np.float64) for key in _ARRAYS}
    return {key: record[key] for key in keys} | arrays
