from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from readings import NAMES, TABLE, X, assert_reads, assert_refuses

from phasevae import InputError
from phasevae.datasets.arrays import Stacked
from phasevae.datasets.registry import build_dataset, kind_of_path
from phasevae.datasets.store import save_dataset

WRITERS = {
    ".npy": lambda path, table: np.save(path, table.to_numpy()),
    ".csv": lambda path, table: table.to_csv(path, index=False),
    ".csv.gz": lambda path, table: table.to_csv(path, index=False),
    ".parquet": lambda path, table: table.to_parquet(path),
    ".feather": lambda path, table: table.reset_index(drop=True).to_feather(path),
}


def write_parts(folder, ending, tables):
    folder.mkdir()
    for number, table in enumerate(tables):
        WRITERS[ending](folder / f"part-{9 + number}{ending}", table)
    return folder


@pytest.mark.parametrize("ending", WRITERS)
@pytest.mark.parametrize("name", ["parts", "parts.parquet"])
def test_a_folder_of_parts_is_one_data_set_in_natural_order(tmp_path, ending, name):
    folder = write_parts(tmp_path / name, ending, [TABLE[:11], TABLE[11:12], TABLE[12:]])
    (folder / "_SUCCESS").touch()
    (folder / ".part-1.crc").write_text("1")
    (folder / "notes.md").write_text("mine")
    dataset = assert_reads(folder)
    assert dataset.reading.parts == tuple(zip([f"part-{n}{ending}" for n in (9, 10, 11)], [11, 1, 28], strict=True))
    assert dataset.reading.columns == (() if ending == ".npy" else tuple(NAMES))
    assert dataset.provenance["source"]["n_files"] == 3
    assert_reads(folder, X[:, 1:], drop=[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table[["a", "b", "c"]], r"part-10.csv: 3 features, must have 4 as .*part-9.csv has"),
        (lambda table: table[["b", "a", "c", "d"]], r"part-10.csv: other columns \(in another order\), must have a, b"),
        (lambda table: table.rename(columns={"b": "x"}), r"part-10.csv: other columns \(x\), must have a, b, c, d"),
        (lambda table: table.assign(a="u"), r"part-10.csv: column 'a' holds 'u'"),
    ],
)
def test_parts_that_do_not_fit_together(tmp_path, change, message):
    folder = write_parts(tmp_path / "parts", ".csv", [TABLE, change(TABLE)])
    with pytest.raises(InputError, match=message):
        build_dataset("array", path=folder)


def test_folders_of_other_things(tmp_path):
    folder = write_parts(tmp_path / "mixed", ".csv", [TABLE])
    np.save(folder / "x.npy", X)
    assert_refuses(folder, "holds .* and .*, must hold files of one kind")
    (folder / "picture.png").touch()
    assert kind_of_path(folder) == "images"
    (tmp_path / "nested" / "class").mkdir(parents=True)
    np.save(tmp_path / "nested" / "x.npy", X)
    assert kind_of_path(tmp_path / "nested") == "images"


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
    assert together.reading.shape == (2, 3)
    assert together.reading.parts == (("0.npy", 4), ("1.npy", 1), ("2.npy", 6))
    assert together.provenance["options"]["path"] == ["0.npy", "1.npy", "2.npy"]
    assert [source["file"] for source in together.provenance["source"]["files"]] == ["0.npy", "1.npy", "2.npy"]


def test_files_of_several_kinds_in_a_list(tmp_path):
    np.save(tmp_path / "x.npy", X)
    pd.DataFrame(X).to_csv(tmp_path / "y.csv", index=False, header=False)
    dataset = build_dataset("array", path=[tmp_path / "x.npy", tmp_path / "y.csv"])
    np.testing.assert_array_equal(dataset.x, np.concatenate([X, X]).astype(np.float32))


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
