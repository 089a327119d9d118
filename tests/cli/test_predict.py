from __future__ import annotations

import contextlib
import io
import json
import re
import subprocess
import sys
import warnings
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from phasevae.cli import main
from phasevae.datasets.registry import dataset_from_path
from phasevae.datasets.store import save_dataset
from phasevae.prediction.predict import predict
from phasevae.spectrum.measure import spectrum_of
from phasevae.spectrum.spectrum_files import write_spectrum


def phasevae(*arguments: object, folder: Path) -> subprocess.CompletedProcess:
    """What the command would print and return, without the start of a process."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with (
        contextlib.chdir(folder),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        warnings.catch_warnings(),
        mock.patch.object(sys, "argv", ["phasevae", "predict", *map(str, arguments)]),
    ):
        warnings.simplefilter("default")
        try:
            main.main()
        except SystemExit as stop:
            code = stop.code
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


def write_images(folder: Path, n: int = 12, colour: bool = True, side: int = 8) -> Path:
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for i in range(n):
        pixels = rng.integers(0, 256, (side, side, 3) if colour else (side, side), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return folder


@pytest.fixture
def table(tmp_path):
    x = np.random.default_rng(0).normal(size=(500, 3)) * [2, 1, 0.5]
    np.save(tmp_path / "x.npy", x)
    return tmp_path / "x.npy"


def test_json_is_the_prediction(table, tmp_path):
    done = phasevae(table, "--latent", 2, "--loss", "mean-se", "--kl-weight", 0.5, "--json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    expected = predict(np.load(table), 2, loss="mean-se", kl_weight=0.5)
    assert list(record)[:2] == ["read", "headline"] and record["headline"] == expected.headline
    assert record["verdict"] == expected.verdict and record["kl"] == pytest.approx(expected.kl, rel=1e-6)
    assert record["effective_variance"] == pytest.approx(0.75)
    assert record["thresholds"][0]["kl_weight"] == pytest.approx(expected.critical_kl_weight, rel=1e-6)


def test_the_table_and_the_page(table, tmp_path):
    options = ("--latent", 2, "--library", "pytorch-vae", "--html", "page.html")
    done = phasevae(table, *options, folder=tmp_path)
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
    done = phasevae("tied.npy", "--latent", 2, "--beta", 9, folder=tmp_path)
    rows = [line.split() for line in done.stdout.splitlines() if line[:2] in ("1 ", "2 ")]
    assert rows == [["1", "1.00", "1.00", "none", "0"], ["2", "1.00", "1.00", "below", "1.00", "0"]]


def test_a_spectrum_file_and_a_saved_data_set(table, tmp_path):
    write_spectrum(tmp_path / "spectrum.json", spectrum_of(dataset_from_path(table)))
    save_dataset(dataset_from_path(table), tmp_path / "saved")
    kl = []
    for source in (table, "spectrum.json", "saved"):
        done = phasevae(source, "--latent", 2, "--sigma2", 0.3, "--json", folder=tmp_path)
        kl.append(json.loads(done.stdout)["kl"])
    assert kl[0] == pytest.approx(kl[1]) == pytest.approx(kl[2])


def dimension(done: subprocess.CompletedProcess) -> str:
    assert done.returncode == 0, done.stderr
    return re.search(r"^data +\d+ samples of (\d+)", done.stdout, re.MULTILINE).group(1)


def test_images_are_used_as_stored_unless_options_say_otherwise(tmp_path):
    write_images(tmp_path / "colour"), write_images(tmp_path / "grey", colour=False)
    run = ("--latent", 2, "--beta", 0.01)
    assert dimension(phasevae("colour", *run, folder=tmp_path)) == "192"
    assert dimension(phasevae("grey", *run, folder=tmp_path)) == "64"
    assert dimension(phasevae("colour", *run, "--grey", "--size", 4, folder=tmp_path)) == "16"
    assert dimension(phasevae("grey", *run, "--colour", folder=tmp_path)) == "192"


def test_a_damaged_image_is_named_and_left_out_on_request(tmp_path):
    folder = write_images(tmp_path / "images")
    (folder / "7.png").write_bytes((folder / "7.png").read_bytes()[:60])
    refused = phasevae("images", "--latent", 2, "--beta", 0.01, folder=tmp_path)
    assert refused.returncode == 2
    assert "7.png: not an image, or damaged" in refused.stderr and len(refused.stderr.splitlines()) == 1
    done = phasevae("images", "--latent", 2, "--beta", 0.01, "--skip-damaged", folder=tmp_path)
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
    done = phasevae(name, "--latent", 2, "--beta", 1, *options, "--html", "page.html", folder=tmp_path)
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
    done = phasevae("cells.h5ad", "--latent", 2, "--beta", 1, "--key", "absent", folder=tmp_path)
    assert done.returncode == 2 and "must be one of X, layers/dense" in done.stderr
    (tmp_path / "bad.h5ad").write_bytes(b"no")
    done = phasevae("bad.h5ad", "--latent", 2, "--beta", 1, folder=tmp_path)
    assert done.returncode == 2 and "not a .h5ad file" in done.stderr


def test_the_error_without_anndata_names_it(tmp_path, monkeypatch):
    (tmp_path / "x.h5ad").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "anndata", None)
    with pytest.raises(ValueError, match="needs anndata, which is not installed"):
        dataset_from_path(tmp_path / "x.h5ad")


# Loss functions, likelihoods and targets


LOSS_FILE = """
import torch
import torch.nn.functional as F


def kl(mu, logvar):
    return -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp(), 1).mean()


def mse(recon, x, mu, logvar):
    return F.mse_loss(recon, x) + 0.5 * kl(mu, logvar)


def classes(recon, x, mu, logvar):
    return F.cross_entropy(recon, x) + 0.1 * kl(mu, logvar)


def summed(recon, x, mu, logvar):
    return F.mse_loss(recon, x) + 0.001 * kl(mu, logvar) * len(x)


def two_heads(recon, x, mu, logvar):
    mean, log_variance = recon
    return (0.5 * (x - mean) ** 2 / log_variance.exp() + 0.5 * log_variance).sum(1).mean() + kl(mu, logvar)


def broken(recon, x, mu, logvar):
    raise RuntimeError("first line\\nsecond line")
"""


@pytest.fixture
def losses(table, tmp_path):
    (tmp_path / "losses.py").write_text(LOSS_FILE)
    (tmp_path / "raises.py").write_text("raise OSError('no\\nweights')")
    return tmp_path


def predicted_json(*arguments: object, folder: Path) -> dict:
    done = phasevae(*arguments, "--json", folder=folder)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_loss_function(losses):
    record = predicted_json("x.npy", "--latent", 2, "--loss-function", "losses.py:mse", folder=losses)
    named = predict(np.load(losses / "x.npy"), 2, loss="mean-se", kl_weight=0.5)
    assert 0.5 * record["critical_kl_weight"] == pytest.approx(named.critical_kl_weight, rel=1e-6)
    assert record["kl"] == pytest.approx(named.kl, rel=1e-6)
    for key in ("log", "collapsed_log"):
        assert list(record[key]) == ["reconstruction", "kl_term", "total", "kl"]
        assert record[key] == pytest.approx(vars(getattr(named, key)), rel=1e-6)


def test_the_summary_shows_the_expected_log(losses):
    done = phasevae("x.npy", "--latent", 2, "--loss-function", "losses.py:mse", folder=losses)
    assert done.returncode == 0, done.stderr
    log = predict(np.load(losses / "x.npy"), 2, loss="mean-se", kl_weight=0.5).log
    values = f"reconstruction {log.reconstruction:.4g}, KL term {log.kl_term:.4g}, total {log.total:.4g}"
    assert f"your log will show  {values}" in done.stdout
    assert "mse(recon, x, mu, logvar), its KL term times w" in done.stdout
    page = ("--loss-function", "losses.py:mse", "--html", "page.html")
    assert phasevae("x.npy", "--latent", 2, *page, folder=losses).returncode == 0
    assert (losses / "page.html").read_text().startswith("<!doctype html>")


def test_classes_need_the_shape_of_the_output(losses):
    rng = np.random.default_rng(0)
    tokens = (rng.normal(size=(400, 1)) + rng.normal(size=(400, 4)) > 0).astype(int)
    np.save(losses / "tokens.npy", tokens)
    options = ("--latent", 1, "--loss-function", "losses.py:classes")
    record = predicted_json("tokens.npy", *options, "--output-shape", "2,4", folder=losses)
    named = predict(tokens, 1, loss="categorical")
    assert 4 * 0.1 * record["critical_kl_weight"] == pytest.approx(named.critical_kl_weight, rel=1e-6)
    done = phasevae("tokens.npy", *options, folder=losses)
    assert done.returncode == 2 and "give output_shape" in done.stderr


def test_several_heads_and_the_batch_size(losses):
    heads = ("--loss-function", "losses.py:two_heads", "--output-shape", "3/3")
    record = predicted_json("x.npy", "--latent", 2, *heads, folder=losses)
    named = predict(np.load(losses / "x.npy"), 2, loss="gaussian-variance")
    assert record["critical_kl_weight"] == pytest.approx(named.critical_kl_weight, rel=1e-6)
    summed = ("--loss-function", "losses.py:summed", "--batch-size", 64)
    record = predicted_json("x.npy", "--latent", 2, *summed, folder=losses)
    named = predict(np.load(losses / "x.npy"), 2, loss="mean-se")
    assert 0.064 * record["critical_kl_weight"] == pytest.approx(named.critical_kl_weight, rel=1e-6)


def test_a_target_for_the_loss(losses):
    x = np.load(losses / "x.npy")
    np.save(losses / "noisy.npy", x + np.random.default_rng(1).normal(size=x.shape))
    options = ("--latent", 2, "--loss-function", "losses.py:mse")
    record = predicted_json("noisy.npy", *options, "--target", "x.npy", folder=losses)
    clean = predicted_json("x.npy", *options, folder=losses)
    assert record["critical_kl_weight"] < clean["critical_kl_weight"]


def test_a_target_kl(losses):
    record = predicted_json("x.npy", "--latent", 2, "--loss", "sse", "--target-kl", 0.5, folder=losses)
    named = predict(np.load(losses / "x.npy"), 2, loss="sse")
    assert record["kl_weight_for_target"] == pytest.approx(named.kl_weight_for(0.5), rel=1e-6)
    done = phasevae("x.npy", "--latent", 2, "--loss", "sse", "--target-kl", 0.5, folder=losses)
    weight = named.kl_weight_for(0.5)
    assert done.stdout.splitlines()[-1] == f"A KL of 0.5 nats takes the KL weight {weight:.4g}."
    done = phasevae("x.npy", "--latent", 1, "--loss", "sse", "--target-kl", -1, folder=losses)
    assert done.returncode == 2 and "target_kl: -1.0, must be a positive number" in done.stderr


def test_a_schedule(losses):
    options = ("--latent", 2, "--loss", "half-sse", "--kl-schedule", "linear:0,2,100", "--training-length", 50)
    record = predicted_json("x.npy", *options, folder=losses)
    assert record["effective_variance"] == pytest.approx(1.0)
    assert "schedule" in [warning["code"] for warning in record["warnings"]]


def test_options_of_likelihoods_and_encoders(losses):
    counts = np.random.default_rng(0).poisson(np.exp(np.random.default_rng(1).normal(size=(500, 4))))
    np.save(losses / "counts.npy", counts)
    named = ("--latent", 2, "--loss", "negative-binomial", "--loss-options", "dispersion=2,size_factors=total")
    record = predicted_json("counts.npy", *named, folder=losses)
    options = {"dispersion": 2, "size_factors": "total"}
    expected = predict(counts, 2, loss="negative-binomial", loss_options=options)
    assert record["critical_kl_weight"] == pytest.approx(expected.critical_kl_weight, rel=1e-6)
    for option, keyword in (("--posterior-std", "posterior_std"), ("--input-noise", "input_noise")):
        record = predicted_json("x.npy", "--latent", 2, "--beta", 1, option, 0.5, folder=losses)
        expected = predict(np.load(losses / "x.npy"), 2, beta=1.0, **{keyword: 0.5})
        assert record["critical_kl_weight"] == pytest.approx(expected.critical_kl_weight, rel=1e-6)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--loss-function", "absent.py:mse"), "absent.py: no such file"),
        (("--loss-function", "losses.py:absent"), "losses.py: has no function 'absent'"),
        (("--loss-function", "losses.py"), "loss-function: 'losses.py', must be FILE.py:FUNCTION"),
        (("--loss-function", "raises.py:mse"), "raises.py: cannot be run (OSError: no)"),
        (("--loss-function", "losses.py:broken"), "loss broken: fails for outputs of shape"),
        (("--loss-function", "losses.py:summed"), "batch_size: missing, must be that of the training"),
        (("--loss-function", "losses.py:mse", "--loss", "sse"), "loss-function: cannot be given together with loss"),
        (("--loss-function", "losses.py:mse", "--output-shape", "3,x"), "output-shape: '3,x', must be whole numbers"),
        (("--loss-function", "losses.py:mse", "--input-shape", "0"), "input-shape: '0', must be whole numbers"),
        (("--loss-function", "losses.py:mse", "--target", "absent.npy"), "absent.npy: no such file"),
        (("--loss", "sse", "--batch-size", 8), "batch_size: must be left out unless the loss is a function"),
        (("--loss", "poisson"), "must be a count"),
        (("--loss", "poisson", "--loss-options", "dispersion"), "loss-options: 'dispersion', must be NAME=VALUE"),
        (("--loss", "sse", "--kl-schedule", "ramp"), "kl_schedule: 'ramp', must be linear:START,END,LENGTH"),
        (("--loss", "sse", "--input-mask", 1), "input_mask: 1.0, must be less than 1"),
        (("--beta", 1, "--noise-scale", 2), "noise_scale: 2.0, must be at most 1.4"),
    ],
)
def test_wrong_losses_are_one_line_and_exit_code_2(options, words, losses):
    done = phasevae("x.npy", "--latent", 2, *options, folder=losses)
    assert done.returncode == 2
    assert words in done.stderr and "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
