from __future__ import annotations

import itertools
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest
from readings import NAMES, TABLE, X, assert_reads, assert_refuses

from phasevae.datasets import tables


def arrow_stream(path, table=TABLE):
    content = pa.Table.from_pandas(table)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, content.schema) as writer:
        writer.write_table(content, max_chunksize=7)


WRITERS = {
    "x.parquet": TABLE.to_parquet,
    "x.pq": lambda path: pa.parquet.write_table(pa.Table.from_pandas(TABLE), path, row_group_size=7),
    "x.feather": TABLE.to_feather,
    "plain.arrow": lambda path: pa.feather.write_feather(TABLE, path, compression="uncompressed"),
    "stream.arrow": arrow_stream,
    "x.ipc": arrow_stream,
}


@pytest.mark.parametrize("name", WRITERS)
def test_columnar_files(tmp_path, name):
    WRITERS[name](tmp_path / name)
    assert assert_reads(tmp_path / name).reading.columns == tuple(NAMES)
    assert_reads(tmp_path / name, X[:, [0, 2]], drop=["b", 3])


def test_the_first_version_of_feather_is_refused(tmp_path):
    pa.feather.write_feather(TABLE, tmp_path / "x.feather", version=1)
    assert_refuses(tmp_path / "x.feather", "is of version 1 of feather, must be written again")


def test_small_blocks_give_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "BLOCK_BYTES", 1)
    rows = np.random.default_rng(0).normal(size=(1050, 3))
    pd.DataFrame(rows, columns=list("abc")).to_parquet(tmp_path / "x.parquet")
    assert_reads(tmp_path / "x.parquet", rows)


@pytest.mark.parametrize(
    ("columns", "expected", "names"),
    [
        ({"v": list(X), "w": X[:, 0]}, np.c_[X, X[:, 0]], ["v[0]", "v[1]", "v[2]", "v[3]", "w"]),
        ({"v": pa.FixedSizeListArray.from_arrays(pa.array(X.ravel()), 4)}, X, ["v[0]", "v[1]", "v[2]", "v[3]"]),
        ({"v": [[list(pair) for pair in row.reshape(2, 2)] for row in X]}, X, ["v[0]", "v[1]", "v[2]", "v[3]"]),
        ({"v": pa.array([1, 2, 4], pa.int64()), "w": [True, False, True]}, [[1, 1], [2, 0], [4, 1]], ["v", "w"]),
        ({"v": pa.array([1.25, 2.5, 7]).cast(pa.decimal128(8, 2))}, [[1.25], [2.5], [7]], ["v"]),
        (
            {"v": pa.array([1, 2, 7], pa.uint8()), "w": pa.array([1, 3, 2], pa.float16())},
            [[1, 1], [2, 3], [7, 2]],
            "vw",
        ),
    ],
    ids=["lists", "fixed lists", "nested lists", "booleans", "decimals", "small types"],
)
def test_types_of_columns(tmp_path, columns, expected, names):
    pa.parquet.write_table(pa.table(columns), tmp_path / "x.parquet")
    assert assert_reads(tmp_path / "x.parquet", np.array(expected)).reading.columns == tuple(names)


def test_true_and_false_are_named(tmp_path):
    pa.parquet.write_table(pa.table({"a": [True, False, True]}), tmp_path / "x.parquet")
    assert assert_reads(tmp_path / "x.parquet", [[1], [0], [1]]).reading.preparation == ("true and false as 1 and 0",)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"a": ["u", None], "b": [1, 2]}, "column 'a' holds 'u' in row 0, must hold numbers only or be left out"),
        ({"a": pa.array([0, 1], pa.timestamp("s")), "b": [1, 2]}, r"column 'a' holds dates \(1970-01-01"),
        ({"a": pa.array([0, 1], pa.date32()), "b": [1, 2]}, r"column 'a' holds datetime.date\(1970"),
        ({"a": pa.array([0, 1], pa.duration("s")), "b": [1, 2]}, r"column 'a' holds times \(0 days"),
        ({"a": pa.array(["u", "v"]).dictionary_encode(), "b": [1, 2]}, r"column 'a' holds categories \(u\)"),
        ({"a": [b"u", b"v"], "b": [1, 2]}, "column 'a' holds b'u' in row 0"),
        ({"a": [{"x": 1}, {"x": 2}], "b": [1, 2]}, "column 'a' holds {'x': 1} in row 0"),
        ({"a": [[1, 2], [3]], "b": [1, 2]}, "column 'a' holds a list of 1 in row 1, and lists of 2"),
        ({"a": [[1, 2], None], "b": [1, 2]}, "column 'a' holds no list in row 1"),
        ({"a": [["u"], ["v"]], "b": [1, 2]}, "column 'a' holds lists of 'u'"),
        ({"a": [[[1], [2, 3]], [[1], [2, 3]]], "b": [1, 2]}, "column 'a' holds lists of lists of unequal length"),
        ({"a": pa.array([], pa.float64())}, "has no rows"),
        ({"a": [1.0, 2.0, None], "b": [3, 4, 6]}, "row 2"),
        ({"a": pa.array([None, None], pa.null()), "b": [1, 2]}, "row 0"),
        ({"a": [1.0], "b": [2.0]}, "at least 2 samples"),
    ],
    ids=itertools.count(),
)
def test_refused_columns(tmp_path, columns, message):
    pa.parquet.write_table(pa.table(columns), tmp_path / "x.parquet")
    assert_refuses(tmp_path / "x.parquet", message)


def test_all_refused_columns_are_named_at_once(tmp_path):
    TABLE.assign(u="x", v=pd.Timestamp(0), **{"two words": "y"}).to_parquet(tmp_path / "x.parquet")
    assert_refuses(tmp_path / "x.parquet", "'u' holds 'x'.*--drop 'u,v,two words', in Python")
    assert_reads(tmp_path / "x.parquet", drop="u,v,two words")


def test_an_index_of_pandas_is_left_out(tmp_path):
    TABLE.assign(id=np.arange(40) ** 2).set_index("id").to_parquet(tmp_path / "x.parquet")
    assert assert_reads(tmp_path / "x.parquet").reading.left_out == ("index id",)


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("cut", [0, 1, 8, -9])
def test_damaged_columnar_files(tmp_path, name, cut):
    WRITERS[name](tmp_path / name)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[:cut])
    if "stream" in name or name == "x.ipc":  # what is left of a stream may be one
        cut = max(cut, 0)
        (tmp_path / name).write_bytes(content[:cut])
    assert_refuses(tmp_path / name, "not an? .* table, or damaged|has no rows")


# Workbooks


def write_sheets(path, **sheets):
    with pd.ExcelWriter(path) as writer:
        for name, (table, options) in sheets.items():
            table.to_excel(writer, sheet_name=name, **options)


def test_workbooks(tmp_path):
    pytest.importorskip("openpyxl")
    path = tmp_path / "x.xlsx"
    write_sheets(path, one=(TABLE, {"index": False}))
    assert assert_reads(path).reading.columns == tuple(NAMES)
    write_sheets(path, one=(TABLE, {"index": False, "startrow": 2, "startcol": 3}))
    assert_reads(path)
    write_sheets(path, one=(TABLE, {"index": False, "header": False}))
    assert_reads(path)
    write_sheets(path, one=(TABLE, {}))
    assert_refuses(path, "column 'Unnamed: 0' has no name")
    assert_reads(path, drop="Unnamed: 0")
    write_sheets(path, one=(TABLE.set_axis([400, 402, 404, 406], axis=1), {"index": False}))
    assert_refuses(path, r"the first line \(400, 402, .*must be declared")
    assert_reads(path, header=True)
    write_sheets(path, one=(TABLE.assign(day=pd.Timestamp("2020-01-01"), name="x"), {"index": False}))
    assert_refuses(path, r"column 'day' holds dates \(2020-01-01.*--drop day,name,")


def test_sheets(tmp_path):
    pytest.importorskip("openpyxl")
    path = tmp_path / "x.xlsx"
    write_sheets(path, one=(TABLE, {"index": False}), two=(2 * TABLE, {"index": False}))
    assert_refuses(path, "holds several sheets: key must be one of one, two")
    assert_reads(path, 2 * X, key="two")
    write_sheets(path, empty=(pd.DataFrame(), {}))
    assert_refuses(path, "has no rows")
    path.write_bytes(b"hello")
    assert_refuses(path, "not an? .xlsx workbook, or damaged")


def test_without_its_library_a_workbook_is_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    (tmp_path / "x.xlsx").write_bytes(b"PK")
    assert_refuses(tmp_path / "x.xlsx", r"needs openpyxl, which is not installed \(pip install 'phasevae\[formats\]'\)")
