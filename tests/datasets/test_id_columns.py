from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scipy.io
import scipy.sparse
from readings import TABLE, X, assert_reads, assert_refuses

from phasevae import InputError
from phasevae.datasets.id_columns import check_ids
from phasevae.datasets.reading import RawSamples
from phasevae.datasets.registry import dataset_from_path
from phasevae.datasets.streams import sample_stream

RNG = np.random.default_rng(3)
N = len(X)
FILTERED = TABLE[TABLE["a"] > 1]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("id", np.arange(N)),
        ("ID", RNG.permutation(N) + 100),
        ("Id", RNG.integers(0, 5, N)),
        ("user_id", RNG.integers(0, 5, N)),
        ("PassengerId", np.arange(N) + 1),
        ("index", RNG.permutation(N) * 7),
        ("row", np.arange(N)),
        ("no.", np.arange(N)),
        ("anything", np.arange(N)),
        ("anything", np.cumsum(RNG.integers(1, 9, N))),
        ("anything", RNG.permutation(N) + 1),
        ("anything", np.arange(N) + 1e6),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_columns_of_ids_are_refused_with_two_remedies(tmp_path, name, values, ending):
    table = TABLE.assign(**{name: values})[["a", "b", name, "c", "d"]]
    path = tmp_path / f"x{ending}"
    table.to_csv(path, index=False) if ending == ".csv" else table.to_parquet(path, index=False)
    assert_refuses(
        path,
        rf"column '{name}' .*\(--drop '?{name}'?, in Python drop=\['{name}'\]\) or kept \(--drop none, drop=\[\]\)",
    )
    for drop in ([name], name, [2], 2, ["2"]):
        reading = assert_reads(path, drop=drop).reading
        assert reading.columns == ("a", "b", "c", "d") and reading.left_out == (f"column {name}",)
    for drop in ([], ["none"], "none"):
        assert_reads(path, table.to_numpy(), drop=drop)
    assert_reads(path, table[["a", "b", name]].to_numpy(), drop=["c", "d", "none"])
    assert_refuses(path, f"column '{name}'", drop=["d"])


@pytest.mark.parametrize(
    "table",
    [TABLE, FILTERED, TABLE.sample(frac=1, random_state=0), FILTERED.set_axis([f"s{i}" for i in range(len(FILTERED))])],
    ids=["whole", "filtered", "shuffled", "named rows"],
)
def test_the_index_of_a_table(tmp_path, table):
    table.to_csv(tmp_path / "x.csv")
    assert_refuses(tmp_path / "x.csv", r"column 'Unnamed: 0' .*--drop 'Unnamed: 0'")
    assert_reads(tmp_path / "x.csv", table.to_numpy(), drop="Unnamed: 0")
    table.to_parquet(tmp_path / "x.parquet")
    assert assert_reads(tmp_path / "x.parquet", table.to_numpy()).reading.columns == ("a", "b", "c", "d")


@pytest.mark.parametrize("place", [0, 4])
def test_an_array_that_begins_or_ends_with_ids(tmp_path, place):
    x = np.insert(X, place, np.cumsum(RNG.integers(1, 9, N)), axis=1)
    np.save(tmp_path / "x.npy", x)
    assert_refuses(
        tmp_path / "x.npy", rf"column {place} \(counted from 0\) holds whole numbers that rise.*--drop {place}"
    )
    assert assert_reads(tmp_path / "x.npy", drop=[place]).reading.left_out == (f"column {place}",)
    assert_reads(tmp_path / "x.npy", drop=[place - 5])
    assert_reads(tmp_path / "x.npy", x, drop=[])


def test_sparse_matrices_in_memory_and_on_disk(tmp_path):
    matrix = scipy.sparse.csr_array(np.insert(X, 0, np.arange(N) * 3, axis=1))
    scipy.sparse.save_npz(tmp_path / "x.npz", matrix)
    scipy.io.mmwrite(tmp_path / "x.mtx", matrix, precision=17)
    for data in (matrix, tmp_path / "x.npz", tmp_path / "x.mtx"):
        with pytest.raises(InputError, match=r"column 0 \(counted from 0\) holds whole numbers that rise.*--drop 0"):
            sample_stream(data)
        kept = sample_stream(data, drop=0)
        np.testing.assert_allclose(np.concatenate(list(kept.read())), X, rtol=1e-6)
        assert kept.origin.left_out == ("column 0",)


def test_ids_that_rise_over_several_files_only(tmp_path):
    paths = []
    for number, rows in enumerate(np.split(np.insert(X, 0, np.arange(N), axis=1), N // 2)):
        paths.append(tmp_path / f"{number}.npy")
        np.save(paths[-1], rows)
    with pytest.raises(InputError, match="column 0"):
        dataset_from_path(tmp_path)
    assert_reads(tmp_path, drop=0)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("Id", RNG.normal(size=N)),
        ("fluid", RNG.integers(0, 5, N)),
        ("acid", RNG.integers(0, 5, N)),
        ("refractive_index", RNG.integers(0, 9, N)),
        ("sample", RNG.integers(0, 5, N)),
        ("age", RNG.integers(20, 90, N)),
        ("count", RNG.poisson(40, N)),
        ("time", np.linspace(0, 1, N)),
        ("pixel", RNG.integers(0, 256, N)),
        ("rank", np.arange(N) // 2),
    ],
)
def test_other_columns_are_data(tmp_path, name, values):
    table = pd.concat([pd.Series(values, name=name), TABLE], axis=1)
    table.to_csv(tmp_path / "x.csv", index=False)
    assert_reads(tmp_path / "x.csv", table.to_numpy())


@pytest.mark.parametrize(
    "x", [np.arange(40.0).reshape(20, 2), np.arange(9.0).reshape(3, 3), np.arange(8)[:, None], np.ones((20, 2, 2))]
)
def test_a_ramp_of_all_columns_is_no_table_with_ids(x):
    check_ids(RawSamples(x, "x"))


@pytest.mark.parametrize(
    ("drop", "message"),
    [
        ("z", "drop: 'z', must be one of a, b, c, d, or a number from 0 to 3"),
        (9, "drop: 9, must be"),
        ([0, 1, 2, 3], "drop: leaves out all 4 columns"),
        ([1.5], r"drop: \[1.5\], must be names of columns"),
        (True, "drop: True, must be names"),
    ],
)
def test_wrong_columns_to_leave_out(tmp_path, drop, message):
    TABLE.to_csv(tmp_path / "x.csv", index=False)
    assert_refuses(tmp_path / "x.csv", message, drop=drop)


def test_the_column_that_was_meant(tmp_path):
    TABLE.rename(columns={"a": "weight"}).to_csv(tmp_path / "x.csv", index=False)
    assert_refuses(
        tmp_path / "x.csv", r"drop: 'wieght', did you mean 'weight'\? \(must be one of weight, b", drop="wieght"
    )


def test_samples_of_several_axes_have_no_columns(tmp_path):
    np.save(tmp_path / "x.npy", X.reshape(N, 2, 2))
    assert_refuses(tmp_path / "x.npy", "drop: must be left out for samples of several axes", drop=0)


@pytest.mark.parametrize("label", [2, 5, -1])
def test_a_number_that_may_be_a_place_or_a_name(tmp_path, label):
    table = TABLE.set_axis([0, 2, label if label < 0 else 3, 5], axis=1)
    path = tmp_path / "x.csv"
    table.to_csv(path, index=False)
    place = {2: "3", -1: "5"}.get(label)
    message = f"must be a name in quotes: it may be the column at that place, '{place}', or that named '{label}'"
    if place is None:  # there is no such place
        assert sample_stream(table, drop=[5]).origin.columns == ("0", "2", "3")
    else:
        assert_refuses(path, message, header=True, drop=[label])
        with pytest.raises(InputError, match=message):
            sample_stream(table, drop=[label])
    read = assert_reads(path, X[:, [0, 2, 3]], drop=["2"], header=True)
    assert read.reading.columns == tuple(map(str, table.columns[[0, 2, 3]]))
    assert sample_stream(table, drop=0).origin.columns == tuple(map(str, table.columns[1:]))


@pytest.mark.parametrize("held", [True, False])
def test_a_column_that_is_called_none(tmp_path, held):
    table = TABLE.assign(none=1.5 * np.arange(N), id=np.arange(N))
    path = tmp_path / "x.parquet"
    table.to_parquet(path)
    data = table if held else path
    with pytest.raises(InputError, match="column 'id'"):
        sample_stream(data, drop="none")
    assert sample_stream(data, drop=["none", "id"]).origin.columns == tuple("abcd")
    assert sample_stream(data, drop=[]).dimension == 6
