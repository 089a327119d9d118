"""Tables are checked by their schemas when they are read: a line names the file, the line, the column and the value."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phasevae import InputError
from phasevae.artifacts.files import file_sha256, read_json, write_json
from phasevae.artifacts.table_schemas import LARGEST, TABLES
from phasevae.artifacts.tables import metadata_path, read_table, read_tables, write_table

RIGHT = {"number": 1.5, "whole": 3, "flag": True, "text": "text"}
RIGHT_TEXTS = {"branch": "up", "reading": "agree", "path": "points/sigma2=1.0,seed=0"}
WRONG = {
    "number": ("text", "inf", "-inf", "1e999", "nan", "True", "[1]", "1,5", "2e100", "-2e100", "0x1", "1 2"),
    "whole": ("text", "inf", "nan", "0.5", "-1", "9" * 30, "True", "1e20", "9007199254740993"),
    "flag": ("text", "1", "0.5", "nan", "no"),
}
COLUMNS = [(kind, name) for kind, schema in TABLES.items() for name in schema.columns]


def right_rows(kind: str) -> pd.DataFrame:
    """Two rows of a kind of table that meet its schema."""
    columns = TABLES[kind].columns
    row = {name: RIGHT_TEXTS.get(name, RIGHT[column.kind]) for name, column in columns.items()}
    row |= {name: each.high for name, each in columns.items() if each.kind == "whole" and row[name] > each.high}
    key = TABLES[kind].key[-1]
    return pd.DataFrame([row, row | {key: f"{row[key]}1" if isinstance(row[key], str) else row[key] + 1}])


def written(path, kind: str, cells: dict[str, str]):
    """A table with these cells in its second row."""
    table = right_rows(kind).astype(object)
    for name, cell in cells.items():
        table.loc[1, name] = cell
    write_table(path, table)
    return path


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.csv"


def message(path, kind: str, **options) -> str:
    with pytest.raises(InputError) as caught:
        read_table(path, kind, **options)
    text = str(caught.value)
    assert text.startswith(f"{path}: ") and "\n" not in text
    return text.removeprefix(f"{path}: ")


@pytest.mark.parametrize("kind", TABLES)
def test_columns_have_the_types_of_their_schema(path, kind):
    write_table(path, right_rows(kind))
    table = read_table(path, kind)
    pd.testing.assert_frame_equal(table, right_rows(kind), check_dtype=False)
    types = {"number": "f", "whole": "i", "flag": "b"}
    for name, column in TABLES[kind].columns.items():
        assert types.get(column.kind, table[name].dtype.kind) == table[name].dtype.kind


@pytest.mark.parametrize(("kind", "name"), COLUMNS)
def test_every_wrong_cell_is_named(path, kind, name):
    column = TABLES[kind].columns[name]
    for cell in WRONG.get(column.kind, ()):
        if column.high > LARGEST and "2e100" in cell:  # of a plan
            continue
        line = message(written(path, kind, {name: cell}), kind)
        assert line.startswith(f"line 3, column '{name}': ") and line.endswith(f", must be {column.words}")
    if column.kind in ("number", "whole") and column.low > -1e-3:
        assert f"column '{name}': -1" in message(written(path, kind, {name: "-1"}), kind)


@pytest.mark.parametrize(("kind", "name"), COLUMNS)
def test_only_undefined_numbers_and_flags_may_be_empty(path, kind, name):
    written(path, kind, {name: ""})
    column = TABLES[kind].columns[name]
    if not column.empty:
        assert message(path, kind) == f"line 3, column '{name}': is empty, must be {column.words}"
    else:
        first, second = read_table(path, kind)[name]
        assert first == RIGHT[column.kind] and (second in (None, "") or math.isnan(second))


@pytest.mark.parametrize(("kind", "name"), COLUMNS)
def test_a_column_is_missed_where_it_is_needed(path, kind, name):
    write_table(path, right_rows(kind).drop(columns=name))
    if TABLES[kind].columns[name].required:
        assert message(path, kind).startswith(f"column '{name}' is missing (its columns: ")
    else:
        assert name not in read_table(path, kind)
        assert f"column '{name}' is missing" in message(path, kind, required=(name,))


@pytest.mark.parametrize("kind", TABLES)
def test_a_row_given_twice_is_named(path, kind):
    rows = right_rows(kind)
    write_table(path, pd.concat([rows, rows.iloc[:1]]))
    line = message(path, kind)
    assert line.startswith("line 4: ") and line.endswith(" appears twice, must be one row")
    assert all(f"{name}=" in line for name in TABLES[kind].key)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b\n1,2\n3\n", "line 3: has 1 cells, must have 2"),
        ("a,b\n1,2\n3,4,5\n", "line 3: has 3 cells, must have 2"),
        ("a\n1,2\n3,4\n", "line 2: has 2 cells, must have 1"),
        ("a,b,a\n1,2,3\n", "column 'a' appears twice, must be one"),
        ('a,b\n1,"2\n', "not a CSV table (unexpected end of data)"),
        ("", "not a CSV table"),
        ("a,b\n", "has no rows"),
    ],
)
def test_the_form_of_a_table(path, text, words):
    path.write_text(text)
    assert message(path, None).startswith(words)


def test_other_columns_may_hold_anything(path):
    write_table(path, right_rows("sweep").assign(note=["", "nan"], sigma=[math.nan, 1.0]))
    assert read_table(path, "sweep")["note"].tolist() == ["", "nan"]


@given(st.lists(st.integers(0, 2**53 - 1), min_size=1, max_size=5, unique=True), st.data())
def test_numbers_are_exact(tmp_path_factory, seeds, data):
    path = tmp_path_factory.mktemp("table") / "a.csv"
    ranges = st.floats(-LARGEST, LARGEST)
    values = data.draw(st.lists(ranges, min_size=len(seeds), max_size=len(seeds)))
    row = right_rows("sweep").iloc[[0] * len(seeds)]
    write_table(path, row.assign(seed=seeds, elbo=values))
    table = read_table(path, "sweep")
    assert table["seed"].tolist() == seeds and table["elbo"].tolist() == values


def test_flags_are_read_in_any_case(path):
    write_table(path, right_rows("sweep").assign(converged=["TRUE", "false"]))
    assert read_table(path, "sweep")["converged"].tolist() == [True, False]


@pytest.mark.parametrize("at", range(0, 160, 7))
def test_an_altered_table_is_refused_by_its_metadata(path, at):
    write_table(path, right_rows("plan"), {"stage": "plan"})
    read_table(path, "plan")
    content = bytearray(path.read_bytes())
    content[at % len(content)] ^= 1 << at % 8
    path.write_bytes(content)
    assert "altered after it was written" in message(path, "plan")


def test_metadata_without_a_digest_are_refused(path):
    write_table(path, right_rows("plan"), {"stage": "plan"})
    metadata = read_json(metadata_path(path))
    write_json(metadata_path(path), metadata | {"notes": []})
    with pytest.raises(InputError, match=r"a.csv-metadata.json: notes: \[\], must not be empty"):
        read_table(path, "plan")


def test_a_digest_from_elsewhere(path):
    write_table(path, right_rows("history"))
    assert "altered after it was written" in message(path, "history", sha256="0")
    assert np.isfinite(read_table(path, "history")["kl"]).all()


HISTORY = "step,samples,sigma2,elbo,kl,mse\n"


def histories(folder, *rows: str):
    """A file of each of these texts, under the header of a history."""
    paths = [folder / f"{number}.csv" for number in range(len(rows))]
    for path, text in zip(paths, rows, strict=True):
        path.write_text(HISTORY + text)
    return paths


def read_histories(paths):
    return read_tables(paths, "history", ("mse", "elbo"), [file_sha256(path) for path in paths])


@pytest.mark.parametrize(
    "second",
    ["1,5,0.3,2,1,\n", "3,5,0.3,-1e-17,123456789.123456789,1\n\n2,5,1,1,1,1\n", "1.0,5,0.3,2,1,1"],
    ids=["empty cell", "blank line", "no end of line"],
)
def test_many_tables_are_read_as_each_is(tmp_path, second):
    paths = histories(tmp_path, "1,64,0.2,-14.25,0.1,5\n2,128,0.3,-9,0.2,5.5\n", second, "7,64,1,2,3,4\n")
    table, origin = read_histories(paths)
    each = [read_table(path, "history") for path in paths]
    pd.testing.assert_frame_equal(table, pd.concat(each, ignore_index=True))
    assert origin.tolist() == [number for number, rows in enumerate(each) for _ in range(len(rows))]


def test_ends_of_lines_that_make_up_for_each_other_leave_rows_with_their_table(tmp_path):
    rows = [f"{step},64,0.2,-14,0.1,5" for step in range(1, 6)]
    paths = histories(tmp_path, "", "")
    contents = "\n\n".join(rows[:2]) + "\n", "\n".join(rows[2:4]) + "\r" + rows[4] + "\n"
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes((HISTORY + content).encode())
    table, origin = read_histories(paths)
    assert table["step"].tolist() == [1, 2, 3, 4, 5] and origin.tolist() == [0, 0, 1, 1, 1]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (HISTORY + "1,64,0.2,-14,0.1\n", "line 2: has 5 cells"),
        (HISTORY + "1,64,0.2,-14,text,5\n", "line 2, column 'kl': 'text'"),
        (HISTORY + "inf,64,0.2,-14,0.1,5\n", "line 2, column 'step': inf"),
        (HISTORY + "1,64,0.2,-14,0.1,5\n1,64,0.2,-14,0.1,5\n", "line 3: step=1 appears twice"),
        (HISTORY, "has no rows"),
        ("step,samples,sigma2,kl,mse\n1,64,0.2,0.1,5\n", "column 'elbo' is missing"),
        ("", "not a CSV table"),
    ],
)
def test_the_wrong_one_of_many_tables_is_named(tmp_path, content, words):
    right = "1,64,0.2,-14,0.1,5\n"
    paths = histories(tmp_path, right, right, right)
    paths[1].write_text(content)
    with pytest.raises(InputError, match=f"^{paths[1]}: {words}") as caught:
        read_histories(paths)
    assert str(caught.value) == f"{paths[1]}: {message(paths[1], 'history', required=('mse', 'elbo'))}"


def test_an_altered_one_of_many_tables_is_named(tmp_path):
    paths = histories(tmp_path, "1,64,0.2,-14,0.1,5\n", "1,64,0.2,-14,0.1,5\n")
    with pytest.raises(InputError, match=f"^{paths[1]}: altered after it was written"):
        read_tables(paths, "history", (), [file_sha256(paths[0]), "0"])
