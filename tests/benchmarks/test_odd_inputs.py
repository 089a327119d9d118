"""A sample of benchmarks/odd_inputs.py: odd files and objects are refused in one line, or read as they are."""

from __future__ import annotations

import numpy as np
import odd_inputs
import pandas as pd
import pytest
from odd_files import Case
from odd_formats import FORMATS

import phasevae


@pytest.mark.parametrize("first", range(0, 135, 27))
def test_odd_inputs_are_refused_or_read_as_they_are(first):
    faults = [found for found in odd_inputs.verdicts(range(first, first + 27)) if found[2].state == "FAULT"]
    assert faults == []


@pytest.mark.parametrize("format_", FORMATS, ids=lambda format_: format_.ending)
def test_the_independent_readings_give_back_what_was_written(tmp_path, format_):
    table = pd.DataFrame(np.random.default_rng(0).normal(size=(5, 4)), columns=["a", "b", "c", "d"])
    path = tmp_path / f"x{format_.ending}"
    format_.write(path, table)
    read = format_.read(path, ())
    assert len(read) == 5
    rtol = 1e-15 if format_.ending == ".xlsx" else 0  # a spreadsheet keeps 16 digits
    if read.shape == (5, 4) and "idx" not in format_.ending:
        np.testing.assert_allclose(read, table, rtol)
    if format_.texts:
        np.testing.assert_allclose(format_.read(path, ("c", "a")), table[["c", "a"]], rtol)


def judged(data, expected=None, must=""):
    def read(names):
        if expected is None:
            raise ValueError("nothing")
        return expected

    return odd_inputs.judge(Case("", data, {}, read, must)).state


def test_the_judgement():
    x = np.random.default_rng(0).normal(size=(9, 3))
    assert judged(x, x) == judged(x, x, "read") == "read"
    assert judged(x[0]) == judged(x[0], must="refuse") == "refused"
    wrong = (x[:8], x[:, :2], 2 * x, np.where(np.arange(9)[:, None] == x.argmax(0), 0.5 * x, x), None)
    assert [judged(x, expected) for expected in wrong] == ["FAULT"] * 5
    assert judged(x, x, "refuse") == judged(x[0], must="read") == "FAULT"


def test_other_exceptions_are_faults(monkeypatch):
    monkeypatch.setattr(phasevae, "compute_spectrum", lambda *_, **__: 1 / 0)
    assert "ZeroDivisionError" in odd_inputs.judge(Case("", None, {}, lambda names: None)).words


def test_the_same_number_is_the_same_input(tmp_path):
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        odd_inputs.make(2, folder)
    first, second = (sorted(folder.rglob("*")) for folder in (tmp_path / "a", tmp_path / "b"))
    assert [path.name for path in first] == [path.name for path in second]
