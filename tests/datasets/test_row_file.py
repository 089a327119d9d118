from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phasevae.datasets import row_file
from phasevae.datasets.row_file import RowFile, row_blocks
from phasevae.errors import InputError


def mapped(folder, x: np.ndarray) -> np.memmap:
    np.save(folder / "x.npy", x)
    return np.load(folder / "x.npy", mmap_mode="r")


@pytest.fixture(scope="module")
def x(tmp_path_factory) -> np.memmap:
    drawn = np.random.default_rng(0).normal(size=(500, 3)).astype(np.float32)
    return mapped(tmp_path_factory.mktemp("rows"), drawn)


@given(rows=st.lists(st.integers(0, 499), max_size=300), readers=st.sampled_from([7, 1000]))
def test_gathered_rows_are_those_of_the_array(x, rows, readers):
    rows = np.sort(np.array(rows, dtype=np.int64))
    out = np.empty((len(rows), 3), dtype=np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_file, "_ROWS_OF_A_READER", readers)
        RowFile.of(x).gather(rows, out)
    np.testing.assert_array_equal(out, x[rows])


def test_blocks_are_all_rows_in_order(x):
    np.testing.assert_array_equal(np.concatenate(list(row_blocks(x))), x)
    np.testing.assert_array_equal(RowFile.of(x).read(7, 31), x[7:31])


def test_rows_are_read_where_the_system_cannot_read_at_a_place(x, monkeypatch):
    monkeypatch.delattr(row_file.os, "preadv", raising=False)
    np.testing.assert_array_equal(RowFile.of(x).read(7, 31), x[7:31])


def test_arrays_in_memory_parts_and_other_types_have_no_file(tmp_path, x):
    values = np.ones((4, 3))
    assert RowFile.of(values.astype(np.float32)) is None
    assert RowFile.of(x[5:]) is None
    assert RowFile.of(mapped(tmp_path, values)) is None
    assert RowFile.of(mapped(tmp_path, np.asfortranarray(values.astype(np.float32)))) is None
    np.save(tmp_path / "w.npy", values.astype(np.float32))
    assert RowFile.of(np.load(tmp_path / "w.npy", mmap_mode="c")) is None


def test_a_file_that_was_cut_is_named(tmp_path):
    file = RowFile.of(mapped(tmp_path, np.ones((4, 3), dtype=np.float32)))
    path = tmp_path / "x.npy"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match=r"x\.npy: ends before row 4, has it been changed"):
        file.read(0, 4)
