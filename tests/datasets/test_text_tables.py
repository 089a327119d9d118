from __future__ import annotations

import bz2
import gzip
import lzma
import tracemalloc
import zipfile

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from readings import NAMES, TABLE, X, assert_reads, assert_refuses

from phasevae import InputError
from phasevae.datasets import base, repeats, standardize, text_tables
from phasevae.datasets.registry import dataset_from_path

WRITTEN = {
    "commas.csv": {},
    "UPPER.CSV": {},
    "tabs.tsv": {"sep": "\t"},
    "tabs.csv": {"sep": "\t"},
    "semicolons.csv": {"sep": ";"},
    "decimal_commas.csv": {"sep": ";", "decimal": ","},
    "decimal_commas.tsv": {"sep": "\t", "decimal": ","},
    "quoted_decimal_commas.csv": {"decimal": ","},
    "blanks.txt": {"sep": " "},
    "bars.dat": {"sep": "|"},
    "quoted.csv": {"quoting": 1},
    "windows.csv": {"lineterminator": "\r\n"},
    "old_mac.csv": {"lineterminator": "\r"},
    "mark.csv": {"encoding": "utf-8-sig"},
    "utf16.csv": {"encoding": "utf-16"},
    "packed.csv.gz": {},
    "packed.csv.bz2": {},
    "packed.tsv.xz": {"sep": "\t"},
    "packed.csv.zip": {},
}


@pytest.mark.parametrize("name", WRITTEN)
def test_dialects(tmp_path, name):
    TABLE.to_csv(tmp_path / name, index=False, **WRITTEN[name])
    assert assert_reads(tmp_path / name).reading.columns == tuple(NAMES)


@pytest.mark.parametrize("name", [name for name in WRITTEN if name != "UPPER.CSV"])
def test_dialects_without_names(tmp_path, name):
    TABLE.to_csv(tmp_path / name, index=False, header=False, **WRITTEN[name])
    assert assert_reads(tmp_path / name).reading.columns == ()


@given(
    st.sampled_from([",", ";", "\t", "|", " "]),
    st.sampled_from([".", ","]),
    st.booleans(),
    st.integers(1, 5),
    st.integers(0, 2**32 - 1),
    st.sampled_from(["%.6f", "%.17g", "%.3e"]),
)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_dialect_is_read_right_or_refused(tmp_path, separator, decimal, names, width, seed, number):
    table = pd.DataFrame(np.random.default_rng(seed).normal(size=(12, width)), columns=list("uvwxy")[:width])
    path = tmp_path / "any.csv"
    table.to_csv(path, sep=separator, decimal=decimal, index=False, header=names, float_format=number)
    if width == 1 and decimal == "," and separator != ",":
        # Without a name it may look exactly like two columns of whole numbers.
        if names:
            assert_refuses(path, "decimal commas|as the line of names has")
        return
    written = pd.read_csv(path, sep=separator, decimal=decimal, header=0 if names else None)
    np.testing.assert_array_equal(dataset_from_path(path).x, written.to_numpy(dtype=np.float32))


@pytest.mark.parametrize(
    ("text", "expected", "columns"),
    [
        ("1e-3,-2\n3,4\n5,7\n", [[1e-3, -2], [3, 4], [5, 7]], ""),
        ("x,2019\n3,4\n5,7\n", [[3, 4], [5, 7]], ["x", "2019"]),
        ("x\n1\n2\n5\n", [[1], [2], [5]], "x"),
        ("# made by hand\n\na,b\n1,2\n# inside\n3,4\n8,9\n", [[1, 2], [3, 4], [8, 9]], "ab"),
        ("# a b\n1 2.5\n3 4\n8 9\n", [[1, 2.5], [3, 4], [8, 9]], "ab"),
        ("  1   2.5\n 3  4\n  8 9 \n", [[1, 2.5], [3, 4], [8, 9]], ""),
        ("a, b\n1, 2\n3, 4\n8, 9\n", [[1, 2], [3, 4], [8, 9]], "ab"),
        ("sep=;\na;b\n1,5;2\n2,5;4\n3,5;9\n", [[1.5, 2], [2.5, 4], [3.5, 9]], "ab"),
        ("a,b,\n1,2.5,\n3,4,\n5,7,\n", [[1, 2.5], [3, 4], [5, 7]], "ab"),
        ("a,b\n1,True\n2,False\n5,True\n", [[1, 1], [2, 0], [5, 1]], "ab"),
        ("a,a\n1,2\n5,4\n", [[1, 2], [5, 4]], ["a", "a.1"]),
        ("3.5\t1,234\n4\t0,5\n1\t7\n".replace("3.5", "3,5"), [[3.5, 1.234], [4, 0.5], [1, 7]], ""),
        ("%change,b\n1,2.5\n5,4\n3,1\n", [[1, 2.5], [5, 4], [3, 1]], ["%change", "b"]),
        ("#CHROM\tpos\n1\t2.5\n5\t4\n3\t1\n", [[1, 2.5], [5, 4], [3, 1]], ["#CHROM", "pos"]),
        ("## a b\n1 2.5\n3 4\n8 9\n", [[1, 2.5], [3, 4], [8, 9]], "ab"),
        ("größe,b\n1,2\n5,4\n", [[1, 2], [5, 4]], ["größe", "b"]),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_texts(tmp_path, text, expected, columns, encoding):
    (tmp_path / "x.csv").write_bytes(text.encode(encoding))
    assert assert_reads(tmp_path / "x.csv", np.array(expected)).reading.columns == tuple(columns)


@pytest.mark.parametrize("header", ["", "a b c d"])
def test_what_numpy_writes(tmp_path, header):
    np.savetxt(tmp_path / "x.txt", X, header=header, fmt="%.18g")
    assert assert_reads(tmp_path / "x.txt").reading.columns == tuple(header.split())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no rows"),
        ("a,b\n", "has no rows"),
        ("\n\n# only\n", "has no rows"),
        ("a,b\n1,2\n", "shape .*at least 2 samples"),
        ("1,2\n3\n4,5,6\n", "line 3 has 3 cells, must have 2"),
        (
            "a,b\n1,2,3\n4,5,6\n",
            r"its first row has 3 cells, must have 2 as the line of names has \(the first column has no name, as R",
        ),
        ("a,b\n1,2,3,4\n4,5,6,7\n", "its first row has 4 cells, must have 2 as the line of names has$"),
        ('"a" "b"\n"1" 0.5 2\n"2" 0.25 3\n', "its first row has 3 cells, .* as R writes row names"),
        ("a,b\n1,2\n3,4\n5,6,7\n", "line 4 has 3 cells, must have 2"),
        ("a,b\n1,2\n3\n5,6\n", "column.*b|value nan at row 1"),
        (
            "a,b\nu,2\nv,3\n",
            r"column 'a' holds 'u' in row 0, must hold numbers only or be left out \(--drop a, in",
        ),
        ("a,b\n1,2\n3,four\n5,6\n", "column 'b' holds 'four' in row 1"),
        ("day,b,c\n2020-01-01,3,x\n2020-01-02,4,y\n", r"column 'day' holds '2020-01-01' in row 0, .*--drop day,c, in"),
        ("5.1,3.5,setosa\n4.9,3.0,setosa\n4.7,3.2,other\n", r"column 2 \(counted from 0\) holds 'setosa'.*--drop 2,"),
        ("a;b\n1,234;5,678\n2,345;6,789\n", "'1,234' may be a fraction or thousands, must be written with a decimal"),
        ('a,b\n"1,234,567",5\n"2,345",6\n', "'1,234,567', must be written without separators of thousands"),
        ("a;b\n1.234,5;2\n2.234,5;3\n", "column 'a' holds '1.234,5'"),
        ("a;b\n1,5;2.5\n2,5;3.5\n", "'1,5' has a comma where other numbers have a point"),
        ("0,5,1,25\n-0,5,1,05\n1,5,2,25\n", "its commas may be decimal commas"),
        ("a,b\n$1,2\n$3,4\n", r"column 'a' holds '\$1'"),
        ("a,b\n1+2j,2\n3,4\n", r"column 'a' holds '1\+2j'"),
        ("a,b\n1,2\n3,inf\n4,5\n", "inf"),
        ("a,b\n1,2\0\n3,4\n", "holds zero bytes"),
        ('a,b\n"1,2\n3,4\n', "damaged|holds|cells"),
    ],
)
def test_refused_texts(tmp_path, text, message):
    (tmp_path / "x.csv").write_text(text)
    assert_refuses(tmp_path / "x.csv", message)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.csv", bytes(range(256)) * 3),
        ("x.csv.gz", b"hello"),
        ("x.csv.gz", gzip.compress(b"a,b\n" + b"1,2\n" * 5000, mtime=0)[:-12]),
        ("x.csv.bz2", bz2.compress(b"a,b\n" + b"1,2\n3,4\n" * 5000)[:-12]),
        ("x.csv.xz", lzma.compress(b"a,b\n" + b"1,2\n3,4\n" * 5000)[:-12]),
        ("x.csv.zip", b"hello"),
        ("x.txt", b"\xff\xfe1"),
    ],
)
def test_damaged_files(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert_refuses(tmp_path / name, "damaged|zero bytes|has no rows|not text|holds")


def test_a_zip_of_two_tables_is_ambiguous(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.csv.zip", "w") as archive:
        for name in ("a.csv", "b.csv"):
            archive.writestr(name, "1,2\n3,4\n")
    assert_refuses(tmp_path / "x.csv.zip", "holds 2 files, must hold one")


def test_a_line_that_never_ends(tmp_path, monkeypatch):
    monkeypatch.setattr("phasevae.datasets.dialect._LONGEST_LINE", 1000)
    (tmp_path / "x.csv.gz").write_bytes(gzip.compress(b"1," * 5000))
    assert_refuses(tmp_path / "x.csv.gz", "line 1 is longer than 1000")


def test_memory_does_not_grow_with_the_table(tmp_path, monkeypatch):
    for module in (base, text_tables):
        monkeypatch.setattr(module, "BLOCK_BYTES", 2**16)
    monkeypatch.setattr(standardize, "IN_MEMORY_BYTES", 2**20)
    monkeypatch.setattr(repeats, "MOST_HASHES", 2**12)
    path = tmp_path / "x.csv"
    rows = np.random.default_rng(0).integers(0, 9, (120_000, 8))
    pd.DataFrame(rows, columns=list("abcdefgh")).to_csv(path, index=False)
    dataset_from_path(path)
    tracemalloc.start()
    read = dataset_from_path(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < rows.nbytes / 2
    np.testing.assert_array_equal(read.x[[0, 70_000, -1]], rows[[0, 70_000, -1]])


def test_text_far_down_is_named_with_its_row(tmp_path, monkeypatch):
    monkeypatch.setattr(text_tables, "BLOCK_BYTES", 2**10)
    (tmp_path / "x.csv").write_text("a,b\n" + "1,2\n" * 700 + "3,four\n" + "1,5\n" * 50)
    assert_refuses(tmp_path / "x.csv", "column 'b' holds 'four' in row 700")


# Headers of numbers

WAVELENGTHS = [400.0, 402.0, 404.0, 406.0]


@pytest.mark.parametrize(
    "columns",
    [WAVELENGTHS, range(4), range(1, 5), range(1990, 1994), [5e3, 1.2e3, 9e9, -4e4], WAVELENGTHS[::-1]],
    ids=str,
)
@pytest.mark.parametrize("index", [False, True])
def test_a_header_of_numbers_is_asked_for(tmp_path, columns, index):
    path = tmp_path / "x.csv"
    pd.DataFrame(X, columns=columns).to_csv(path, index=index)
    assert_refuses(path, r"the first line .* must be declared as names \(--header, header=True\) or as values")
    assert_reads(path, header=True, **({"drop": ["Unnamed: 0"]} if index else {}))
    if not index:
        assert_reads(path, np.vstack([list(columns), X]), header=False)


@pytest.mark.parametrize(
    "values",
    [
        np.random.default_rng(0).integers(0, 3, (30, 2)),
        np.random.default_rng(1).integers(0, 2, (30, 6)),
        np.random.default_rng(2).normal(size=(30, 3)),
        np.sort(np.random.default_rng(3).random((30, 8)), axis=1),
        np.linspace([0.0] * 30, np.random.default_rng(4).random(30), 5, axis=1),
        np.random.default_rng(5).integers(0, 256, (30, 64)),
    ],
    ids=["few counts", "binary", "normal", "sorted rows", "ramps", "pixels"],
)
def test_values_are_no_header(tmp_path, values):
    np.savetxt(tmp_path / "x.csv", values, delimiter=",", fmt="%.17g")
    assert_reads(tmp_path / "x.csv", values)


@pytest.mark.parametrize("odd", ["?", "-", "*", ".", "missing", "<0.01", "x3"])
@pytest.mark.parametrize("place", [0, 1, 3])
def test_one_odd_cell_makes_no_names_of_a_line_of_values(tmp_path, odd, place):
    cells = [[f"{value:.6f}" for value in row] for row in X]
    cells[0][place] = odd
    path = tmp_path / "x.csv"
    path.write_text("".join(",".join(row) + "\n" for row in cells))
    assert_refuses(
        path, r"the first line .* is like the other lines but for '.*', must be declared as names \(--header"
    )
    assert_refuses(path, rf"column {place} \(counted from 0\) holds ", header=False)
    assert_reads(path, np.delete(np.round(X, 6), place, axis=1), header=False, drop=[place])
    assert_reads(path, np.round(X[1:], 6), header=True)


def test_names_with_numbers_among_them_are_names(tmp_path):
    for columns in (["x", 2019, 2020, 2021], ["a", 400.5, "b", 500.5], ["a", "b", "c", "4e9"]):
        pd.DataFrame(X, columns=columns).to_csv(tmp_path / "x.csv", index=False)
        assert assert_reads(tmp_path / "x.csv").reading.columns == tuple(map(str, columns))


def test_comments_far_down(tmp_path):
    lines = [f"{a},{b}" for a, b in X[:, :2].repeat(20, axis=0)]
    path = tmp_path / "x.csv"
    path.write_text("\n".join(["a,b", *lines[:500], "# the second run", *lines[500:], ""]))
    assert_reads(path, X[:, :2].repeat(20, axis=0))
    path.write_text("\n".join(["a,b,c", *(f"{line},item #{i}" for i, line in enumerate(lines)), ""]))
    assert_reads(path, X[:, :2].repeat(20, axis=0), drop="c")


def test_the_user_knows_the_header_better(tmp_path):
    (tmp_path / "x.csv").write_text("a,b\n1,2\n5,4\n")
    assert_refuses(tmp_path / "x.csv", "column 0.*holds 'a' in row 0", header=False)
    with pytest.raises(InputError, match="header: 'yes', must be true or false"):
        dataset_from_path(tmp_path / "x.csv", header="yes")
    assert_refuses(tmp_path / "x.csv", "drop: 'z', must be one of a, b, or a number from 0 to 1", drop=["z"])


# Missing values


def test_missing_values_are_counted_with_their_columns(tmp_path):
    (tmp_path / "x.csv").write_text("a,b,c\n1,2,3\n4,,6\n7,NA,inf\n8,9,nan\n")
    assert_refuses(
        tmp_path / "x.csv",
        r"x.csv: value nan at row 1, column 'b' \(row counted from 0\), one of 4 that are missing or infinite, must be "
        r"finite: fill them, or leave out their rows \(dropna\) "
        r"or columns \(--drop b,c, in Python drop=\['b', 'c'\]\)$",
    )
    assert_reads(tmp_path / "x.csv", np.array([[1], [4], [7], [8]]), drop=["b", "c"])
    gaps = np.arange(1, 12)
    x = np.tile(X[:4], 3)
    x[0, gaps] = np.nan
    np.save(tmp_path / "x.npy", x)
    assert_refuses(
        tmp_path / "x.npy",
        r"value nan at row 0, column 1 \(counted from 0\), one of 11 .*\(--drop 1,2,3.*, 11 columns\)",
    )
    np.save(tmp_path / "x.npy", np.where(np.eye(4), np.nan, X[:4]))
    assert_refuses(tmp_path / "x.npy", r"one of 4 .* leave out their rows \(dropna\)$")
    np.save(tmp_path / "images.npy", x.reshape(4, 3, 4))
    assert_refuses(tmp_path / "images.npy", r"one of 11 .* leave out their rows \(dropna\)$")


def test_columns_without_any_value(tmp_path):
    (tmp_path / "x.csv").write_text("a,b,c\n1,,3\n4,,6\n7,,5\n")
    assert_refuses(tmp_path / "x.csv", r"one of 3 that are missing .*\(--drop b, in Python drop=\['b'\]\)")
