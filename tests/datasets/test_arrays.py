from __future__ import annotations

import tracemalloc

import numpy as np
import pandas as pd
import pytest

from phasevae import InputError
from phasevae.datasets import base, repeats, standardize
from phasevae.datasets.registry import build_dataset, dataset_from_path
from phasevae.datasets.store import save_dataset


@pytest.fixture
def raw():
    return np.random.default_rng(0).normal(size=(30, 3))


def write(path, raw):
    table = pd.DataFrame(raw, columns=["a", "b", "c"])
    match path.suffix:
        case ".npy":
            np.save(path, raw)
        case ".npz":
            np.savez(path, first=raw)
        case ".parquet":
            table.to_parquet(path)
        case ".csv":
            table.to_csv(path, index=False, header="header" in path.name)


@pytest.mark.parametrize("name", ["x.npy", "x.npz", "x.parquet", "header.csv", "bare.csv", "UPPER.npy"])
def test_every_format_gives_the_same_samples(tmp_path, raw, name):
    write(tmp_path / name, raw)
    actual = build_dataset("array", path=tmp_path / name)
    np.testing.assert_array_equal(actual.x, raw.astype(np.float32))
    assert actual.provenance["source"]["file"] == name
    assert actual.provenance["options"]["path"] == name


def test_npy_stays_on_disk_until_it_is_saved(tmp_path, raw, monkeypatch):
    monkeypatch.setattr(base, "BLOCK_BYTES", 200)
    np.save(tmp_path / "x.npy", raw.astype(np.float32))
    actual = build_dataset("array", path=str(tmp_path / "x.npy"))
    assert isinstance(actual.x, np.memmap)
    saved = save_dataset(actual, tmp_path / "set")
    np.testing.assert_array_equal(saved.x, raw.astype(np.float32))


def test_memory_does_not_grow_with_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(base, "BLOCK_BYTES", 2**16)
    monkeypatch.setattr(standardize, "IN_MEMORY_BYTES", 2**20)
    monkeypatch.setattr(repeats, "MOST_HASHES", 2**12)
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(100_000, 8)))
    tracemalloc.start()
    saved = save_dataset(build_dataset("array", path=tmp_path / "x.npy", standardize="per-feature"), tmp_path / "set")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < saved.x.nbytes / 3
    np.testing.assert_allclose(saved.x.var(0, dtype=float), 1, rtol=1e-5)


def test_fortran_order_and_byte_order(tmp_path, raw):
    np.save(tmp_path / "f.npy", np.asfortranarray(raw.astype(">f4")))
    saved = save_dataset(build_dataset("array", path=tmp_path / "f.npy"), tmp_path / "set")
    np.testing.assert_array_equal(saved.x, raw.astype(np.float32))
    assert saved.x.flags.c_contiguous


@pytest.mark.parametrize("rows", [np.array([[1e9], [1e9 + 1]]), np.array([[1e-300], [2e-300]])], ids=["offset", "tiny"])
def test_what_single_precision_loses_is_refused(tmp_path, rows):
    np.save(tmp_path / "x.npy", rows)
    with pytest.raises(InputError, match=r"x\.npy: no feature varies by as much as single precision"):
        build_dataset("array", path=tmp_path / "x.npy")


def test_a_large_offset_is_no_matter_where_it_is_subtracted(tmp_path):
    np.save(tmp_path / "x.npy", np.array([[1e9], [1e9 + 1]]))
    np.testing.assert_array_equal(
        build_dataset("array", path=tmp_path / "x.npy", standardize="center").x, [[-0.5], [0.5]]
    )


def test_from_path_finds_the_kind(tmp_path, raw):
    np.save(tmp_path / "x.npy", raw)
    built = dataset_from_path(tmp_path / "x.npy", standardize="center")
    save_dataset(built, tmp_path / "set")
    np.testing.assert_array_equal(dataset_from_path(tmp_path / "set").x, built.x)
    with pytest.raises(InputError, match="is a saved data set, must be used without standardize"):
        dataset_from_path(tmp_path / "set", standardize="center")
    with pytest.raises(InputError, match="nowhere: no such file or folder"):
        dataset_from_path(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"size: must be left out for .*x.npy, an array or table"):
        dataset_from_path(tmp_path / "x.npy", size=4)
    with pytest.raises(InputError, match=r"key: must be left out for .*, a folder or archive of images"):
        dataset_from_path(tmp_path, key="a")
