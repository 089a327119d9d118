from __future__ import annotations

import json
import math
import os
import stat
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from phasevae import InputError
from phasevae.artifacts.figures import write_figure
from phasevae.artifacts.files import json_sha256, read_json, replacing, write_json
from phasevae.artifacts.tables import read_table, write_table
from phasevae.artifacts.tensors import check_tensors, read_tensors, write_tensors


@pytest.mark.parametrize("below", ["out.json", "folder/out.json"])
def test_a_file_in_the_place_of_a_folder_is_named(tmp_path, below):
    (tmp_path / "taken").write_text("")
    with pytest.raises(InputError, match=r"taken: is a file, must be a folder"), replacing(tmp_path / "taken" / below):
        pass


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "kept.json"
    write_json(path, {"a": 1})
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert read_json(path) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_files_have_the_permissions_of_the_users_umask(tmp_path):
    old = os.umask(0o027)
    try:
        write_json(tmp_path / "a.json", {})
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "a.json").stat().st_mode) == 0o640


def test_json_holds_null_for_what_is_not_finite(tmp_path):
    value = {"b": float("nan"), "a": [np.float64("inf"), np.int64(3)], "c": np.array([1.5, math.nan])}
    write_json(tmp_path / "a.json", value, sealed=False)
    text = (tmp_path / "a.json").read_text()
    assert "NaN" not in text
    assert "Infinity" not in text
    assert json.loads(text) == {"b": None, "a": [None, 3], "c": [1.5, None]}
    assert list(json.loads(text)) == ["b", "a", "c"]


@given(st.dictionaries(st.text(max_size=3), st.floats(allow_nan=False, allow_infinity=False) | st.integers()))
def test_digest_does_not_depend_on_key_order(value):
    backwards = dict(reversed(value.items()))
    assert json_sha256(value) == json_sha256(backwards)
    assert json_sha256({**value, "more": 1}) != json_sha256(value)


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "no such file"), ("{", "not a JSON file"), ("[1]", "must be a JSON object"), ("{}", "key 'x' is missing")],
)
def test_bad_json_is_named(tmp_path, content, words):
    path = tmp_path / "a.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=words) as caught:
        read_json(path, ("x",))
    assert str(path) in str(caught.value)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=20))
def test_tables_keep_floats_exactly(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("table") / "a.csv"
    write_table(path, pd.DataFrame({"x": values}))
    assert read_table(path, required=("x",))["x"].tolist() == values


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "no such file"), ("", "not a CSV"), ("y\n1\n", "column 'x' is missing"), ("x\n", "has no rows")],
)
def test_bad_tables_are_named(tmp_path, content, words):
    path = tmp_path / "a.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=words):
        read_table(path, required=("x",))


def test_tensors_come_back_with_their_metadata(tmp_path):
    tensors = {"w": np.arange(6, dtype=np.float32).reshape(2, 3)[:, ::2], "n": np.array([3])}
    write_tensors(tmp_path / "w.safetensors", tensors, {"sigma2": 0.1})
    back, metadata = read_tensors(tmp_path / "w.safetensors")
    assert metadata == {"sigma2": 0.1}
    assert all(np.array_equal(back[name], tensors[name]) for name in tensors)


def test_equal_figures_are_equal_files(tmp_path):
    for name in ("a", "b"):
        figure = Figure()
        figure.subplots().plot([1, 2], [3, 4])
        write_figure(tmp_path / name, figure)
    for suffix in (".pdf", ".png"):
        assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


READ = {"JSON": (read_json, '{"x": 1}\n', {"x": 1}), "table": (lambda path: read_table(path).x[0], "x\n1\n", 1)}


@pytest.mark.parametrize("kind", READ)
def test_a_pipe_that_is_open_is_read(kind):
    read, content, value = READ[kind]
    receive, send = os.pipe()
    with os.fdopen(send, "w") as writer:
        writer.write(content)
    try:
        assert read(f"/dev/fd/{receive}") == value
    finally:
        os.close(receive)


@pytest.mark.parametrize("kind", READ)
def test_what_would_be_waited_for_is_refused(kind, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, words in [
        (tmp_path / "pipe", "no regular file"),
        ("/dev/zero", "no regular file"),
        (tmp_path, "a folder"),
    ]:
        with pytest.raises(InputError, match=f"^{path}: is {words}, must be a (JSON file|CSV table)$"):
            READ[kind][0](path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"covariance": np.ones((3, 2))}, r"array 'covariance' has the shape \(3, 2\), which does not fit the others"),
        ({"covariance": np.ones(3)}, "array 'covariance' has the shape"),
        ({"powers": np.ones((3, 2))}, "array 'powers' has the shape"),
        ({"origin": np.array([1.0, np.nan, 0.0])}, "array 'origin' is float64, must hold finite numbers"),
        ({"origin": np.full(3, 1e200)}, "array 'origin' is float64, must hold finite numbers"),
        ({"origin": np.arange(3)}, "array 'origin' is int64, must hold finite numbers"),
    ],
)
def test_arrays_that_do_not_fit_are_named(changes, words):
    arrays = {
        "origin": np.ones(3),
        "covariance": np.eye(3),
        "powers": np.ones((4, 2)),
        "other": np.float32(2) * np.ones(7),
    }
    axes = {"origin": "D", "covariance": "DD", "powers": "4k"}
    metadata = {"sigma2": 1.0, "beta": 1.0, "architecture": {"dimension": 3, "n_latent": 1, "hidden": []}}
    check_tensors("a.safetensors", arrays, metadata, "weights", axes)
    with pytest.raises(InputError, match=words):
        check_tensors("a.safetensors", arrays | changes, metadata, "weights", axes)
    with pytest.raises(InputError, match=r"a\.safetensors: beta: 'x', must be a number"):
        check_tensors("a.safetensors", arrays, metadata | {"beta": "x"}, "weights", axes)


@pytest.mark.parametrize("write", [lambda path: write_json(path, {}), lambda path: write_tensors(path, {}, {})])
def test_a_file_that_is_written_again_leaves_nothing_of_killed_attempts(tmp_path, write):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    path = tmp_path / "a.json"
    for process in (ended.pid, os.getppid()):
        (tmp_path / f".a.json.{process}.partial.json").touch()
        (tmp_path / f".a.json.{process}.x.partial").mkdir()
    (tmp_path / f".other.json.{ended.pid}.partial.json").touch()
    write(path)
    kept = {
        f".a.json.{os.getppid()}.partial.json",
        f".a.json.{os.getppid()}.x.partial",
        f".other.json.{ended.pid}.partial.json",
    }
    assert {left.name for left in tmp_path.iterdir()} == {"a.json", *kept}
