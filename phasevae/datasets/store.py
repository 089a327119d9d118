"""Data sets on disk: a folder with data.npy, the samples, and data.json, their record.

condition.npy holds the conditions of the samples, where they have any.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phasevae.artifacts.files import file_sha256, read_json, replacing, write_json
from phasevae.datasets.base import Dataset, digest_of, row_slices, write_npy
from phasevae.datasets.conditions import Coding, Condition
from phasevae.datasets.feature_statistics import LARGEST_SAMPLE
from phasevae.datasets.reading import Reading
from phasevae.datasets.row_file import RowFile
from phasevae.errors import InputError


@dataclass(frozen=True)
class DataRecord:
    """The content of data.json; see `Dataset`."""

    name: str
    n_samples: int
    dimension: int
    preprocessing: dict[str, Any]
    constant_features: list[int]
    mean: list[float]
    scale: list[float]
    sha256: str
    provenance: dict[str, Any]
    read: dict[str, Any] | None = None
    """`Reading.to_json`; None in a record that was written without it."""
    condition: dict[str, Any] | None = None
    """Coding, source and sha256 of condition.npy; None without a condition."""


CONDITION = "condition.npy"
"""The values of the condition beside data.npy, as `Coding.stored` gives them."""

_KEYS = tuple(field.name for field in fields(DataRecord))
_REQUIRED = _KEYS[:-2]


def save_dataset(dataset: Dataset, folder: Path | str, made_by: Mapping[str, Any] | None = None) -> Dataset:
    """Write a data set.

    Parameters
    ----------
    dataset : Dataset
    folder : Path or str
    made_by : mapping, optional
        How it was built (`phasevae.provenance.stages.provenance_record`).

    Returns
    -------
    Dataset
        The saved data set, memory-mapped.
    """
    folder = Path(folder)
    with replacing(folder / "data.npy") as temporary:
        with temporary.open("wb") as stream:
            sha256 = write_npy(dataset.x, stream)
        # The old record must at no moment describe the new array.
        (folder / "data.json").unlink(missing_ok=True)
    n_samples, dimension = dataset.x.shape
    read = None if dataset.reading is None else dataset.reading.to_json()
    values = {**vars(dataset), "n_samples": n_samples, "dimension": dimension, "sha256": sha256, "read": read}
    record = {key: values[key] for key in _KEYS if key != "condition"}
    if (condition := dataset.condition) is not None:
        with replacing(folder / CONDITION) as temporary:
            temporary.write_bytes(condition.npy())
        origin = {"source": condition.source, "sha256": condition.sha256}
        record["condition"] = condition.coding.to_json() | origin
    else:
        (folder / CONDITION).unlink(missing_ok=True)
    write_json(folder / "data.json", record if made_by is None else {**record, "made_by": made_by})
    return load_dataset(folder)


def load_dataset(folder: Path | str, verify: bool = False) -> Dataset:
    """Read the folder of a saved data set; its samples are memory-mapped and read-only.

    Parameters
    ----------
    folder : Path or str
    verify : bool
        Whether to compare the sha256 of the samples with the record, and to check that they are finite and bounded.

    Raises
    ------
    InputError
        If a file is missing, damaged or does not fit the other. It names the file.
    """
    folder = Path(folder)
    record = read_record(folder)
    array = folder / "data.npy"
    try:
        x = np.load(array, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise InputError(f"{array}: no such file") from None
    except (ValueError, OSError, EOFError) as error:
        raise InputError(f"{array}: not a .npy file, or damaged ({error})") from None
    expected = (record.n_samples, record.dimension)
    if x.shape != expected or x.dtype != np.float32:
        raise InputError(f"{array}: {x.dtype} of shape {x.shape}, must be float32 {expected} as data.json says")
    if verify and (sha256 := file_sha256(array)) != record.sha256:
        raise InputError(f"{array}: sha256 {sha256}, must be {record.sha256} as data.json says")
    if verify:
        _check_samples(array, x)
    return Dataset(
        name=record.name,
        x=x,
        mean=np.asarray(record.mean, dtype=np.float64),
        scale=np.asarray(record.scale, dtype=np.float64),
        preprocessing=record.preprocessing,
        constant_features=record.constant_features,
        provenance=record.provenance,
        sha256=record.sha256,
        reading=Reading.from_json(record.read),
        condition=_read_condition(folder, record),
    )


def _read_condition(folder: Path, record: DataRecord) -> Condition | None:
    """The condition of a saved data set. It is small, so its sha256 is compared always."""
    if (known := record.condition) is None:
        return None
    path = folder / CONDITION
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    if (sha256 := file_sha256(path)) != known["sha256"]:
        raise InputError(f"{path}: sha256 {sha256}, must be {known['sha256']} as data.json says")
    condition = Condition(Coding.from_json(known), np.load(path, allow_pickle=False), known["source"])
    if len(condition) != record.n_samples:
        raise InputError(f"{path}: {len(condition)} rows, must be {record.n_samples} as data.json says")
    return condition


def _check_samples(path: Path, x: NDArray[np.float32]) -> None:
    file = RowFile.of(x)
    for rows in row_slices(*x.shape):
        block = x[rows] if file is None else file.read(rows.start, rows.stop)
        wrong = np.argwhere(~(np.abs(block) <= LARGEST_SAMPLE))
        if wrong.size:
            row, column = wrong[0]
            value, row = block[row, column], row + rows.start
            raise InputError(
                f"{path}: value {value} at row {row}, column {column} (counted from 0), must be finite and at "
                f"most {LARGEST_SAMPLE:g} in magnitude"
            )


def saved_digest(folder: Path) -> str:
    """Return the digest of a saved data set (`Dataset.digest`) from its data.json alone."""
    record = read_json(folder / "data.json", ("sha256",), "data")
    if (known := record.get("condition")) is None:
        return record["sha256"]
    return digest_of(record["sha256"], known["sha256"], Coding.from_json(known))


def is_saved(folder: Path) -> bool:
    """Return whether `folder` is that of a saved data set."""
    return (folder / "data.json").is_file()


def read_record(folder: Path) -> DataRecord:
    """Read data.json of a saved data set. Raises InputError that names the file and the wrong key."""
    record = read_json(folder / "data.json", _REQUIRED, "data")
    return DataRecord(**{key: record[key] for key in _KEYS if key in record})
