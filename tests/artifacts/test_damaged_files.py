"""Damaged JSON files and tables: every command that reads them fails with one line that names the file or key."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from damage import coarse_figures
from typer.testing import CliRunner

from phasevae import InputError
from phasevae.artifacts.files import read_json, write_json
from phasevae.cli.main import app

SETTINGS = ["--latent", "2", "--hidden", "4", "--samples", "640", "--batch", "64"]
POINT = "set/points/sigma2=2.0,seed=0/point.json"
READERS = {
    POINT: [
        ["collect", "set/points", "-o", "out.csv", "--dimensions", "out2.csv"],
        ["train", "set", "--sigma2", "2,3,5", *SETTINGS, "-o", "set/points"],
        ["verify", "set"],
    ],
    "set/data.json": [
        ["spectrum", "set", "-o", "out.json"],
        ["train", "set", "--sigma2", "2,3,5", *SETTINGS, "-o", "set/points"],
        ["plan", "--settings", '{"n_latent": 2, "sigma2": [1]}', "-o", "set/out.csv"],
        ["verify", "set"],
    ],
    "set/spectrum.json": [
        ["fit", "set/sweep.csv", "--spectrum", "set/spectrum.json", "-o", "out.json"],
        ["plot", "spectrum", "--spectrum", "set/spectrum.json", "-o", "out"],
        ["verify", "set"],
    ],
    "set/fit.json": [
        ["refine", "set/fit.json", "--settings", '{"n_latent": 2, "sigma2": [2, 3, 5]}', "-o", "out.csv"],
        ["export", "set", "-o", "out.zip"],
        ["verify", "set"],
    ],
}
VALUES = {"null": None, "text": "text", "list": [[]], "object": {"a": None}, "negative": -1, "true": True}


def run(arguments: list[str]):
    return CliRunner().invoke(app, arguments)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for arguments in (
            ["dataset", "synthetic", "--eigenvalues", "4,2,1", "--n-samples", "100", "-o", "set"],
            ["spectrum", "set", "-o", "set/spectrum.json"],
            ["train", "set", "--sigma2", "2,3,5", *SETTINGS, "-o", "set/points"],
            ["collect", "set/points", "-o", "set/sweep.csv"],
            ["fit", "set/sweep.csv", "--spectrum", "set/spectrum.json", "-o", "set/fit.json"],
        ):
            assert run(arguments).exit_code == 0
    return folder


@pytest.fixture
def copy(whole, tmp_path, monkeypatch):
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    with coarse_figures():
        yield


def set_aside(arguments: list[str]) -> str | None:
    """The file whose damage a command repairs without an error."""
    return POINT if arguments[0] == "train" else None


def assert_refused_or_read(arguments: list[str]) -> None:
    """The command works, if it does not read the damaged value, or fails with one line."""
    result = run(arguments)
    if result.exception is None or isinstance(result.exception, SystemExit):
        return
    assert isinstance(result.exception, InputError), (arguments, repr(result.exception))
    assert str(result.exception) and "\n" not in str(result.exception)


@pytest.mark.parametrize("file", READERS)
def test_an_edited_file_is_refused(copy, file):
    """The seal no longer fits. `train` makes a point again, `verify` lists the file."""
    text = Path(file).read_text()
    record = json.loads(text)
    key = next(key for key, value in record.items() if isinstance(value, int | float))
    Path(file).write_text(json.dumps(record | {key: record[key] + 1}))
    for arguments in sorted(READERS[file], key=lambda arguments: arguments[0] == "train"):
        result = run(arguments)
        if arguments[0] == "verify":
            assert result.exit_code == 1
        elif arguments[0] == "train" and file == POINT:
            assert result.exit_code == 0
            assert json.loads(Path(file).read_text()) == record
        else:
            assert isinstance(result.exception, InputError) and "altered after it was written" in str(result.exception)


@pytest.mark.parametrize("text", ["", "{", "[]", "nul", '{"sha256": 1e999}', '{"sha256": ' + "9" * 400 + "}", "\x00"])
@pytest.mark.parametrize("file", READERS)
def test_anything_but_a_json_object_is_refused(copy, file, text):
    Path(file).write_text(text)
    for arguments in READERS[file]:
        if file == set_aside(arguments):
            continue
        result = run(arguments)
        if arguments[0] == "verify":
            assert result.exit_code == 1
        else:
            assert isinstance(result.exception, InputError) and "\n" not in str(result.exception), arguments


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("file", READERS)
def test_any_value_of_any_key_is_refused_or_read(copy, file, value):
    """Damage with a right seal, as another program could write it."""
    record = read_json(file)
    for key in record:
        write_json(file, record | {key: VALUES[value]})
        for arguments in READERS[file]:
            if arguments[0] != "train" or key in ("convergence", "extended"):
                assert_refused_or_read(arguments)
            for path in Path().glob("out*"):
                path.unlink()


@pytest.mark.parametrize("value", ["text", "", "1e999", "-1", "[1]"])
def test_any_cell_of_a_table_is_refused_or_read(copy, value):
    sweep = Path("set/sweep.csv")
    header, first, *rest = sweep.read_text().splitlines()
    for column in range(len(header.split(","))):
        cells = first.split(",")
        cells[column] = value
        sweep.write_text("\n".join([header, ",".join(cells), *rest]) + "\n")
        assert_refused_or_read(["fit", "set/sweep.csv", "--spectrum", "set/spectrum.json", "-o", "out.json"])
