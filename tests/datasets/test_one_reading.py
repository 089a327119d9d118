"""The same data give the same numbers, to the last digit, whichever way they are read; and every answer says what."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import phasevae
from phasevae import InputError
from phasevae.cli import main
from phasevae.datasets.reading import Reading, ReadingWarning, joined_reading
from phasevae.datasets.registry import dataset_from_path
from phasevae.datasets.samples import read_samples
from phasevae.datasets.store import load_dataset, save_dataset
from phasevae.spectrum.spectrum import compute_spectrum, read_spectrum

LATENTS, KL_WEIGHT = 3, 0.05
LOSS = {"loss": "mean-se", "kl_weight": KL_WEIGHT}


def colours(folder: Path) -> tuple[Path, np.ndarray]:
    rng = np.random.default_rng(0)
    (folder / "images").mkdir()
    pixels = rng.integers(0, 256, (40, 4, 5, 3), dtype=np.uint8)
    for i, image in enumerate(pixels):
        Image.fromarray(image).save(folder / "images" / f"{i:02}.png")
    return folder / "images", pixels.astype(np.float32) / np.float32(255)


def doubles(folder: Path) -> tuple[Path, np.ndarray]:
    x = np.random.default_rng(1).normal(size=(300, 3, 2)) @ np.array([[1.0, 0.4], [0.0, 0.3]]) + 3
    np.save(folder / "x.npy", x)
    return folder / "x.npy", x


def table(folder: Path) -> tuple[Path, np.ndarray]:
    x = np.random.default_rng(2).normal(size=(200, 4)) * [3, 1, 1, 0.1]
    pd.DataFrame(x, columns=list("abcd")).to_csv(folder / "x.csv", index=False)
    return folder / "x.csv", pd.read_csv(folder / "x.csv").to_numpy()


SOURCES = {"images": colours, "npy": doubles, "csv": table}
SENTENCES = {
    "images": "40 samples of 4 x 5 x 3, values 0 to 1",
    "npy": "300 samples of 3 x 2, values ",
    "csv": "200 samples of 4 features, values ",
}
MODES = [None, "center", "global", "per-feature"]


def run(capsys: pytest.CaptureFixture, *arguments: object) -> str:
    """What a command prints."""
    with mock.patch.object(sys, "argv", ["phasevae", *map(str, arguments)]), warnings.catch_warnings():
        try:
            main.main()
        except SystemExit as stop:
            assert not stop.code, capsys.readouterr().err
    return capsys.readouterr().out


def numbers(record: dict) -> dict:
    """An answer without the warnings and advice, which need the samples."""
    return {key: value for key, value in record.items() if key not in ("warnings", "advice")}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", SOURCES)
def test_every_way_gives_the_same_numbers(kind, mode, tmp_path, capsys):
    path, x = SOURCES[kind](tmp_path)
    options = [] if mode is None else ["--standardize", mode]
    loss = ["--latent", LATENTS, "--loss", "mean-se", "--kl-weight", KL_WEIGHT, "--json"]
    keywords = {"standardize": mode}
    kind_of_data = "images" if kind == "images" else "array"
    run(capsys, "spectrum", path, *options, "-o", tmp_path / "spectrum.json")
    run(capsys, "dataset", kind_of_data, path, *options, "-o", tmp_path / "saved")
    run(capsys, "spectrum", tmp_path / "saved", "-o", tmp_path / "of_saved.json")
    answers = {
        "command, path": json.loads(run(capsys, "predict", path, *options, *loss)),
        "command, spectrum": json.loads(run(capsys, "predict", tmp_path / "spectrum.json", *loss)),
        "command, saved": json.loads(run(capsys, "predict", tmp_path / "saved", *loss)),
        "command, spectrum of saved": json.loads(run(capsys, "predict", tmp_path / "of_saved.json", *loss)),
    }
    in_python = {
        "python, path": phasevae.predict(path, LATENTS, **LOSS, **keywords),
        "python, array": phasevae.predict(x, LATENTS, **LOSS, **keywords),
        "python, batches": phasevae.predict([x[:7], x[7:30], x[30:]], LATENTS, **LOSS, **keywords),
        "python, spectrum": phasevae.predict(str(tmp_path / "spectrum.json"), LATENTS, **LOSS),
        "python, saved": phasevae.predict(tmp_path / "saved", LATENTS, **LOSS),
    }
    answers |= {name: json.loads(phasevae_json(prediction)) for name, prediction in in_python.items()}
    expected = numbers(answers["command, path"])
    for name, answer in answers.items():
        actual = numbers(answer)
        if name in ("python, array", "python, batches"):  # arrays have no names of columns
            assert actual.pop("read")["sentence"].startswith(SENTENCES[kind] if mode is None else SENTENCES[kind][:20])
            assert actual == {key: value for key, value in expected.items() if key != "read"}, name
        else:
            assert actual == expected, name
    # The largest eigenvalue is that of numpy for the values in single precision.
    prepared = x.reshape(len(x), -1).astype(np.float64 if mode else np.float32).astype(np.float64)
    prepared -= prepared.mean(0) if mode else 0
    scale = {"global": np.sqrt(prepared.var(0).mean()), "per-feature": prepared.std(0)}.get(mode, 1.0)
    eigenvalue = np.linalg.eigvalsh(np.cov((prepared / scale).T, bias=True))[-1]
    assert expected["critical_variance"] == pytest.approx(eigenvalue, rel=3e-7)


def phasevae_json(prediction) -> str:
    from phasevae.artifacts.files import readable_json

    return readable_json(prediction.to_json())
