from __future__ import annotations

import tracemalloc

import numpy as np
import pandas as pd
import pytest

from phasevae import InputError
from phasevae.datasets import base, repeats, standardize
from phasevae.datasets.arrays import Stacked
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


def test_npz_keys(tmp_path, raw):
    np.savez(tmp_path / "two.npz", one=raw, two=2 * raw)
    actual = build_dataset("array", path=tmp_path / "two.npz", key="two")
    np.testing.assert_array_equal(actual.x, (2 * raw).astype(np.float32))
    for key, told in ((None, "holds several arrays: key"), ("three", "key 'three'")):
        with pytest.raises(InputError, match=f"two.npz: {told} must be one of one, two"):
            build_dataset("array", path=tmp_path / "two.npz", key=key)


def test_csv_of_nearly_numeric_first_lines(tmp_path):
    (tmp_path / "exp.csv").write_text("1e-3,-2\n3,4\n5,7\n")
    assert build_dataset("array", path=tmp_path / "exp.csv").x.shape == (3, 2)
    (tmp_path / "mark.csv").write_text("\ufeffx,2019\n3,4\n5,7\n", encoding="utf-8")
    assert build_dataset("array", path=tmp_path / "mark.csv").x.shape == (2, 2)


def test_nullable_and_boolean_columns(tmp_path):
    pd.DataFrame({"a": pd.array([1, 2, 3], dtype="Int64"), "b": [True, False, True]}).to_parquet(tmp_path / "t.parquet")
    np.testing.assert_array_equal(build_dataset("array", path=tmp_path / "t.parquet").x, [[1, 1], [2, 0], [3, 1]])


def csv_text(text):
    return lambda path: path.write_text(text)


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("x.npy", lambda path: None, "x.npy: no such file"),
        ("x.txt", csv_text("1"), r"x.txt: named \*.txt, must be one of \*.npy, \*.npz"),
        ("x.npy", csv_text("hello"), "x.npy: not a .npy file of numbers, or damaged"),
        ("x.npy", csv_text(""), "x.npy: not a .npy file of numbers, or damaged"),
        ("x.npz", csv_text("PK"), "x.npz: not a .npz file of numbers, or damaged"),
        ("x.npy", lambda path: np.save(path, np.array([[{}], [1]])), "x.npy: not a .npy file of numbers"),
        ("x.parquet", csv_text("hello"), "x.parquet: not a .parquet table, or damaged"),
        ("x.csv", csv_text(""), "x.csv: not a .csv table"),
        ("x.csv", csv_text("1,2\n3\n4,5,6\n"), "x.csv: not a .csv table"),
        ("x.csv", csv_text("a,b\n1,2\n"), "x.csv: shape .*at least 2 samples"),
        ("x.csv", csv_text("a,b\nu,2\nv,3\n"), "x.csv: column 'a' holds 'u', must hold numbers only"),
        ("x.csv", csv_text("a,b\n1,2\n1,\n"), "x.csv: value nan at row 1, column 1"),
        ("x.csv", csv_text("a,b\n1,2\n3,four\n"), "x.csv: column 'b' holds 'four', must hold numbers only"),
        ("x.csv", csv_text("a;b\n1;2\n3;4\n"), "x.csv: its columns are separated by semicolons, must be by commas"),
        ("x.csv", csv_text("a;b\n1,5;2\n3,5;4\n"), "x.csv: its columns are separated by semicolons"),
        ("x.csv", csv_text("a\tb\n1\t2\n3\t4\n"), "x.csv: its columns are separated by tabs"),
        ("x.csv", csv_text("a,b\n1,2,3\n4,5,6\n"), "x.csv: line 2 has 3 cells, must have 2 as the line of names has"),
        ("x.csv", csv_text(",a\n0,2\n1,4\n2,9\n"), "x.csv: the first column has no name and counts the rows"),
        (
            "x.parquet",
            lambda path: pd.DataFrame({"a": [None, "u"], "b": [1, 2]}).to_parquet(path),
            "column 'a' holds 'u'",
        ),
        ("x.npz", np.savez, "x.npz: holds no arrays"),
        ("x.npy", lambda path: np.save(path, np.array([[1e9], [1e9 + 1]])), "no feature varies by as much as single"),
        ("x.npy", lambda path: np.save(path, np.array([[1e-300], [2e-300]])), "no feature varies by as much"),
    ],
)
def test_unusable_files(tmp_path, name, make, message):
    make(tmp_path / name)
    with pytest.raises(InputError, match=message) as caught:
        build_dataset("array", path=tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_first_column_without_a_name_that_does_not_count(tmp_path):
    (tmp_path / "x.csv").write_text(",a\n3,2\n1,4\n2,9\n")
    assert build_dataset("array", path=tmp_path / "x.csv").x.shape == (3, 2)


def test_a_large_offset_is_no_matter_where_it_is_subtracted(tmp_path):
    np.save(tmp_path / "x.npy", np.array([[1e9], [1e9 + 1]]))
    np.testing.assert_array_equal(
        build_dataset("array", path=tmp_path / "x.npy", standardize="center").x, [[-0.5], [0.5]]
    )


def test_key_is_for_npz_alone(tmp_path, raw):
    np.save(tmp_path / "x.npy", raw)
    with pytest.raises(InputError, match=r"key: 'a', must be left out for a .npy file"):
        build_dataset("array", path=tmp_path / "x.npy", key="a")


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
    (tmp_path / "x.pt").write_bytes(b"PK")
    with pytest.raises(InputError, match=r"x.pt: named \*.pt, must be \*.npy, .*, or a folder, .zip or .tar of images"):
        dataset_from_path(tmp_path / "x.pt")


def test_a_list_of_files_is_one_data_set(tmp_path):
    rng = np.random.default_rng(5)
    parts = [rng.normal(size=(n, 2, 3)).astype(kind) for n, kind in ((4, np.float32), (1, np.float64), (6, np.float32))]
    paths = [tmp_path / f"{number}.npy" for number in range(3)]
    for path, part in zip(paths, parts, strict=True):
        np.save(path, part)
    whole = np.concatenate([part.reshape(len(part), -1) for part in parts])
    np.save(tmp_path / "whole.npy", whole)
    for mode in ("none", "per-feature"):
        together = build_dataset("array", path=paths, standardize=mode)
        alone = build_dataset("array", path=tmp_path / "whole.npy", standardize=mode)
        saved = [save_dataset(one, tmp_path / name) for one, name in ((together, "a"), (alone, "b"))]
        assert saved[0].sha256 == saved[1].sha256
    assert together.provenance["options"]["path"] == ["0.npy", "1.npy", "2.npy"]
    assert [source["file"] for source in together.provenance["source"]["files"]] == ["0.npy", "1.npy", "2.npy"]


def test_rows_of_stacked_arrays():
    parts = [np.arange(6).reshape(3, 2), np.arange(6, 10).reshape(2, 2)]
    whole, stacked = np.concatenate(parts), Stacked(parts)
    assert stacked.shape == whole.shape and len(stacked) == 5
    for rows in (slice(None), slice(1, 4), slice(3, 5), slice(0, 5, 2), slice(4, 9), slice(2, 2)):
        np.testing.assert_array_equal(stacked[rows], whole[rows])
    np.testing.assert_array_equal(stacked[4], whole[4])


def test_files_that_do_not_fit_together_are_refused(tmp_path):
    for name, shape in (("a", (3, 2)), ("b", (3, 4)), ("c", (3,))):
        np.save(tmp_path / f"{name}.npy", np.ones(shape))
    with pytest.raises(InputError, match=r"b\.npy: 4 features, must have 2 as .*a\.npy has"):
        build_dataset("array", path=[tmp_path / "a.npy", tmp_path / "b.npy"])
    with pytest.raises(InputError, match=r"c\.npy: float64 of shape \(3,\), must be"):
        build_dataset("array", path=[tmp_path / "a.npy", tmp_path / "c.npy"])
    with pytest.raises(InputError, match="path: an empty list"):
        build_dataset("array", path=[])
