"""TODO."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from phasevae.artifacts.files import file_sha256, read_json, replacing, write_json
from phasevae.datasets.base import Dataset, write_npy
from phasevae.errors import InputError


def save_dataset(dataset: Dataset, folder: Path | str, made_by: Mapping[str, Any] | None = None) -> Dataset:
    """Write data.npy and data.json into `folder`; return the saved data set, memory-mapped.

    made_by: what is recorded of the code that built it.
    """
    folder = Path(folder)
    record = folder / "data.json"
    with replacing(folder / "data.npy") as temporary:
        with temporary.open("wb") as stream:
            sha256 = write_npy(dataset.x, stream)
        # No moment at which the old record describes the new array.
        record.unlink(missing_ok=True)
    n_samples, dimension = dataset.x.shape
    write_json(
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
            **({} if made_by is None else {"made_by": made_by}),
        },
    )
    return load_dataset(folder)


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


def load_dataset(folder: Path | str, verify: bool = False) -> Dataset:
    """Read a folder written by `save`; the samples are memory-mapped read-only. `verify` checks the sha256 as well.

    Raises InputError naming the file that is missing, damaged or does not fit the other.
    """
    folder = Path(folder)
    record = read_json(folder / "data.json", _KEYS, "data")
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
    if verify and (found := file_sha256(array)) != record["sha256"]:
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
