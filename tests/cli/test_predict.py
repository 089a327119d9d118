"""`phasevae predict`: what it reads, what it prints, and its errors for data that cannot be used."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from predict_commands import predict_command, save_rows

from phasevae.datasets.registry import dataset_from_path
from phasevae.datasets.store import save_dataset
from phasevae.prediction.predict import predict
from phasevae.spectrum.measure import spectrum_of
from phasevae.spectrum.spectrum_files import write_spectrum


def write_images(folder: Path, n: int = 12, colour: bool = True, side: int = 8) -> Path:
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for i in range(n):
        pixels = rng.integers(0, 256, (side, side, 3) if colour else (side, side), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return folder


@pytest.fixture
def table(tmp_path):
    return save_rows(tmp_path)


def test_json_is_the_prediction(table, tmp_path):
    done = predict_command(table, "--latent", 2, "--loss", "mean-se", "--kl-weight", 0.5, "--json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    expected = predict(np.load(table), 2, loss="mean-se", kl_weight=0.5)
    assert list(record)[:2] == ["read", "headline"] and record["headline"] == expected.headline
    assert record["verdict"] == expected.verdict and record["kl"] == pytest.approx(expected.kl, rel=1e-6)
    assert record["effective_variance"] == pytest.approx(0.75)
    assert record["thresholds"][0]["kl_weight"] == pytest.approx(expected.critical_kl_weight, rel=1e-6)


def test_the_table_and_the_page(table, tmp_path):
    options = ("--latent", 2, "--library", "pytorch-vae", "--html", "page.html")
    done = predict_command(table, *options, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    read, headline = done.stdout.splitlines()[:2]
    assert read.startswith("500 samples of 3 features, values ")
    assert headline.startswith("Both latents will carry information (")
    for word in ("critical KL weight", "all 2 latents active", "Your loss averages over 3 features"):
        assert word in done.stdout
    page = (tmp_path / "page.html").read_text()
    assert page.startswith("<!doctype html>") and f"<h1>{headline}</h1>" in page


def test_the_table_says_which_kl_weights_keep_how_many_latents(tmp_path):
    x = np.repeat(np.eye(2) - 0.5, 2, axis=0) @ np.array([[2.0, 0.0], [0.0, 2.0]])
    np.save(tmp_path / "tied.npy", np.vstack([x, -x, x * [1, -1], x * [-1, 1]]))
    done = predict_command("tied.npy", "--latent", 2, "--beta", 9, folder=tmp_path)
    rows = [line.split() for line in done.stdout.splitlines() if line[:2] in ("1 ", "2 ")]
    assert rows == [["1", "1.00", "1.00", "none", "0"], ["2", "1.00", "1.00", "below", "1.00", "0"]]


def test_a_spectrum_file_and_a_saved_data_set(table, tmp_path):
    write_spectrum(tmp_path / "spectrum.json", spectrum_of(dataset_from_path(table)))
    save_dataset(dataset_from_path(table), tmp_path / "saved")
    kl = []
    for source in (table, "spectrum.json", "saved"):
        done = predict_command(source, "--latent", 2, "--sigma2", 0.3, "--json", folder=tmp_path)
        kl.append(json.loads(done.stdout)["kl"])
    assert kl[0] == pytest.approx(kl[1]) == pytest.approx(kl[2])


def dimension(done: subprocess.CompletedProcess) -> str:
    assert done.returncode == 0, done.stderr
    return re.search(r"^data +\d+ samples of (\d+)", done.stdout, re.MULTILINE).group(1)


def test_images_are_used_as_stored_unless_options_say_otherwise(tmp_path):
    write_images(tmp_path / "colour"), write_images(tmp_path / "grey", colour=False)
    run = ("--latent", 2, "--beta", 0.01)
    assert dimension(predict_command("colour", *run, folder=tmp_path)) == "192"
    assert dimension(predict_command("grey", *run, folder=tmp_path)) == "64"
    assert dimension(predict_command("colour", *run, "--grey", "--size", 4, folder=tmp_path)) == "16"
    assert dimension(predict_command("grey", *run, "--colour", folder=tmp_path)) == "192"


def test_a_damaged_image_is_named_and_left_out_on_request(tmp_path):
    folder = write_images(tmp_path / "images")
    (folder / "7.png").write_bytes((folder / "7.png").read_bytes()[:60])
    refused = predict_command("images", "--latent", 2, "--beta", 0.01, folder=tmp_path)
    assert refused.returncode == 2
    assert "7.png: not an image, or damaged" in refused.stderr and len(refused.stderr.splitlines()) == 1
    done = predict_command("images", "--latent", 2, "--beta", 0.01, "--skip-damaged", folder=tmp_path)
    assert "11 samples" in done.stdout
    assert "7.png" in done.stderr and "left out" in done.stderr


def one_size(folder):
    write_images(folder / "images")
    Image.new("RGB", (5, 9)).save(folder / "images" / "large.png")
    return "images"


def empty(folder):
    (folder / "images").mkdir()
    return "images"


def one_sample(folder):
    np.save(folder / "x.npy", np.ones((1, 3)))
    return "x.npy"


def all_constant(folder):
    pd.DataFrame({"a": [1.0] * 5, "b": [2.0] * 5}).to_csv(folder / "x.csv", index=False)
    return "x.csv"


def one_image(folder):
    write_images(folder / "images", n=1)
    return "images"


def truncated(folder):
    np.save(folder / "x.npy", np.ones((50, 3)))
    content = (folder / "x.npy").read_bytes()
    (folder / "x.npy").write_bytes(content[:200])
    return "x.npy"


def words_in_a_table(folder):
    (folder / "x.csv").write_text("a,b\n1,2\n3,four\n")
    return "x.csv"


def not_finite(folder):
    np.save(folder / "x.npy", np.array([[1.0, 2.0], [np.inf, 3.0], [0.0, 1.0]]))
    return "x.npy"


def a_photo(folder):
    Image.new("RGB", (5, 9)).save(folder / "photo.png")
    return "photo.png"


def other_json(folder):
    (folder / "x.json").write_text("{}")
    return "x.json"


def rows_as_json(folder):
    (folder / "x.json").write_text("[[1, 2], [3, 4]]")
    return "x.json"


@pytest.mark.parametrize(
    ("make", "options", "words"),
    [
        (one_size, (), "large.png is 5 x 9 pixels"),
        (empty, (), "has no arrays, tables or images"),
        (one_sample, (), "must have at least 2 samples"),
        (one_image, (), "must have at least 2 samples"),
        (all_constant, (), "every feature is constant"),
        (truncated, (), "x.npy: not a .npy file of numbers, or damaged"),
        (words_in_a_table, (), "column 'b' holds 'four' in row 1, must hold numbers only"),
        (words_in_a_table, ("--size", 8), "size: must be left out for x.csv, an array or table"),
        (a_photo, (), "photo.png: is one image, must be a folder or archive of images"),
        (not_finite, (), "must be finite"),
        (other_json, (), "key 'eigenvalues' is missing, must be a spectrum.json of `phasevae spectrum` with this key"),
        (rows_as_json, (), "x.json: holds a list, must be a spectrum.json of `phasevae spectrum`"),
        (lambda folder: "absent.npy", (), "absent.npy: no such file"),
        (lambda folder: "absent", (), "absent: no such file or folder"),
        (words_in_a_table, ("--key", "a"), "key: 'a', must be left out"),
    ],
)
def test_bad_input_is_one_line_exit_code_2_and_no_page(make, options, words, tmp_path):
    name = make(tmp_path)
    done = predict_command(name, "--latent", 2, "--beta", 1, *options, "--html", "page.html", folder=tmp_path)
    assert done.returncode == 2
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "page.html").exists()


def test_anndata_files(tmp_path):
    anndata = pytest.importorskip("anndata")
    from scipy import sparse

    x = np.random.default_rng(0).poisson(1.0, (200, 6)).astype(np.float32)
    with pd.option_context("future.infer_string", False):
        cells = anndata.AnnData(sparse.csr_matrix(x), layers={"dense": 2 * x})
        cells.write_h5ad(tmp_path / "cells.h5ad")
    for options, expected in (({}, x), ({"key": "dense"}, 2 * x)):
        np.testing.assert_array_equal(dataset_from_path(tmp_path / "cells.h5ad", **options).x, expected)
    done = predict_command("cells.h5ad", "--latent", 2, "--beta", 1, "--key", "absent", folder=tmp_path)
    assert done.returncode == 2 and "must be one of X, layers/dense" in done.stderr
    (tmp_path / "bad.h5ad").write_bytes(b"no")
    done = predict_command("bad.h5ad", "--latent", 2, "--beta", 1, folder=tmp_path)
    assert done.returncode == 2 and "not a .h5ad file" in done.stderr


def test_the_error_without_anndata_names_it(tmp_path, monkeypatch):
    (tmp_path / "x.h5ad").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "anndata", None)
    with pytest.raises(ValueError, match="needs anndata, which is not installed"):
        dataset_from_path(tmp_path / "x.h5ad")
