"""Commands that need a folder of `phasevae dataset`, with something else in its place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from commands import phasevae

from phasevae.artifacts.files import write_json
from phasevae.cli.arguments import saved_folder
from phasevae.errors import InputError


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """An array, pictures, a saved data set with trained points, and files that are no data."""
    np.save(tmp_path / "x.npy", np.eye(3))
    for name in ("my pictures/cats/1.png", "notes.pdf", "pictures.zip", "texts/notes.txt.asc"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    write_json(tmp_path / "set" / "data.json", {})
    np.save(tmp_path / "set" / "data.npy", np.eye(3))
    for name in ("set/points/sigma2=1,seed=0", "points/sigma2=1,seed=0"):
        write_json(tmp_path / name / "point.json", {})
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("place", "remedy"),
    [
        ("x.npy", "; make one with: phasevae dataset array x.npy -o x_data"),
        ("my pictures", "; make one with: phasevae dataset images 'my pictures' -o 'my pictures_data'"),
        ("pictures.zip", "; make one with: phasevae dataset images pictures.zip -o pictures_data"),
        ("set/data.npy", ", here set"),
        ("set/points", ", holds trained points; its data are in set"),
        ("set/points/sigma2=1,seed=0", ", holds trained points; its data are in set"),
        ("points", ", holds trained points"),
        ("notes.pdf", ""),
        ("texts", ""),
    ],
)
def test_what_is_no_data_set_is_answered_with_what_would_be_one(place, remedy, folder):
    with pytest.raises(InputError) as raised:
        saved_folder(Path(place))
    assert str(raised.value) == f"{place}: must be a folder made by `phasevae dataset`{remedy}"


@pytest.mark.parametrize("verb", ["train", "hysteresis", "stability", "collect"])
def test_each_command_answers_in_one_line(verb, folder):
    arguments = {
        "train": ("x.npy", "--sigma2", "1", "--latent", "2"),
        "hysteresis": ("x.npy", "--ratio", "0.7,1.2", "--latent", "2"),
        "stability": ("point", "x.npy"),
        "collect": ("--plan", "p.csv", "--settings", '{"n_latent": 2}', "--data", "x.npy"),
    }
    done = phasevae(verb, *arguments[verb], "-o", "out", folder=folder)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("phasevae: x.npy: must be a folder made by `phasevae dataset`; make one with: phasevae ")
    assert not (folder / "out").exists()
