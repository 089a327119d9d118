"""Arrays in zarr stores, which are folders or zip files."""

from __future__ import annotations

from pathlib import Path

from phasevae.datasets.dense import filled
from phasevae.datasets.entries import chosen_key
from phasevae.datasets.file_errors import damage_named, needed
from phasevae.datasets.hdf5 import arrays_in
from phasevae.datasets.reading import RawSamples

_RECORDS = ("zarr.json", ".zgroup", ".zarray")


def is_zarr(folder: Path) -> bool:
    """Return whether a folder is a zarr store."""
    return any((folder / name).is_file() for name in _RECORDS)


def read_zarr(path: Path, key: str | None) -> RawSamples:
    """Read an array of a zarr store, in blocks of rows.

    Parameters
    ----------
    path : Path
        A folder or a zip file.
    key : str, optional
        Path of the array within the store, where there are several.

    Raises
    ------
    InputError
        Without zarr, for a damaged store, and for several arrays without a key.
    """
    zarr = needed(path, "zarr")
    with damage_named(path, "zarr store"):
        store = str(path) if path.is_dir() else zarr.storage.ZipStore(path, mode="r")
        content = zarr.open(store, mode="r")
        if not isinstance(content, zarr.Group):
            chosen_key(path, key, ["array"])
            return RawSamples(filled(content, str(path)), str(path))
        found = dict(arrays_in(dict(content.members()), zarr.Group))
        name, left_out = chosen_key(path, key if key is None else key.strip("/"), list(found))
        return RawSamples(filled(found[name], f"{path}: {name}"), str(path), left_out=left_out)
