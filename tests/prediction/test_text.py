"""What `print` shows of predictions, spectra and data sets."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

import phasevae
from phasevae.cli.main import app
from phasevae.datasets.registry import build_dataset
from phasevae.prediction import rough_kl
from phasevae.prediction.optimum import find_optimum
from phasevae.prediction.predict import predict
from phasevae.prediction.text import WIDTH, show, summary
from phasevae.theory.ppca import ppca_kl

GALLERY = Path(__file__).parents[2] / "docs" / "guide" / "gallery.csv"


def gaussian(n: int, lam: tuple[float, ...]) -> np.ndarray:
    """Samples whose covariance is exactly diag(lam)."""
    z = np.random.default_rng(0).normal(size=(n, len(lam)))
    z -= z.mean(0)
    return z @ np.linalg.inv(np.linalg.cholesky(z.T @ z / n)).T * np.sqrt(lam)


@pytest.fixture(scope="module")
def x():
    return gaussian(4000, (4.0, 2.0, 1.0, 0.5))


def test_print_is_the_command(x, tmp_path, capsys, monkeypatch):
    np.save(tmp_path / "x.npy", x)
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    with pytest.raises(SystemExit):
        app(["predict", str(tmp_path / "x.npy"), "--latent", "3", "--loss", "mean-se", "--kl-weight", "0.7"])
    printed = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert str(predict(tmp_path / "x.npy", 3, loss="mean-se", kl_weight=0.7)).splitlines() == printed


def test_the_text_does_not_take_names_for_markup(x):
    spectrum = replace(phasevae.compute_spectrum(x), name="[bold]x[/]")
    text = str(predict(spectrum, 2, sigma2=1.0))
    stream = io.StringIO()
    show(predict(spectrum, 2, sigma2=1.0), Console(file=stream, width=WIDTH, force_terminal=True))
    assert "\x1b[" not in text and "\x1b[" in stream.getvalue()


def test_representations_are_short(x):
    prediction = predict(x, 3, sigma2=1.5)
    assert repr(prediction).startswith(
        "<Prediction: 2 of 3 latents active, KL 0.6343 nats, critical KL weight 2.667 +- "
    )
    optimum = find_optimum(prediction.setting)
    assert repr(optimum) == repr(prediction).replace("Prediction", "Optimum")
    spectrum = phasevae.compute_spectrum(x)
    assert repr(spectrum).startswith("<Spectrum: 4000 samples of 4 features, critical variance 4.00")
    dataset = build_dataset("digits")
    assert repr(dataset) == "<Dataset digits: 1797 samples of 64 features, standardize global>"
    for thing in (prediction, optimum, spectrum, dataset, prediction.setting):
        assert len(repr(thing)) < 1500


def test_one_latent_is_singular(x):
    for weight in (0.5, 50.0):
        for options in ({"loss": "mean-se"}, {"loss": "mean-se-mean-kl"}, {"loss": "laplace"}):
            prediction = predict(x, 1, kl_weight=weight, **options)
            assert "1 latents" not in str(prediction) + repr(prediction) + phasevae.prediction_page(prediction)
    assert "the latent is active" in str(predict(x, 1, sigma2=1.0))


def test_nothing_is_advised_that_keeps_no_latent(x):
    for weight in (3.0, 300.0):
        text = str(predict(x / 10, 3, loss="mean-se", kl_weight=weight))
        assert "keeps 0 of" not in text


@pytest.mark.parametrize("n", [200, 4000])
def test_digits_follow_the_standard_error(n):
    prediction = predict(gaussian(n, (4.0, 2.0, 1.0)), 2, sigma2=1.0)
    value, error = dict(summary(prediction))["critical KL weight"].split(" +- ")
    expected = prediction.setting.spectrum.standard_errors[0]
    assert float(error) == pytest.approx(expected, rel=0.06)
    assert abs(float(value) - 4) <= 0.05 * expected
    assert len(value.split(".")[1]) == (2 if n == 200 else 3) - (float(error) >= 0.1 and n == 4000)


# How rough KL is


@pytest.mark.parametrize(
    ("data", "options", "rough"),
    [
        ("gaussian", {"loss": "half-sse", "kl_weight": 0.01}, False),
        ("gaussian", {"loss": "gaussian-nll"}, False),
        ("skewed", {"loss": "half-sse", "kl_weight": 0.5}, True),
        ("skewed", {"loss": "half-sse", "kl_weight": 3.9}, False),  # near the critical weight
        ("skewed", {"loss": "half-sse", "kl_weight": 40.0}, False),  # collapsed
        ("binary", {"loss": "bce", "kl_weight": 0.02}, True),
        ("binary", {"loss": "bce", "kl_weight": 90.0}, False),
        ("gaussian", {"loss": "laplace", "kl_weight": 0.1}, True),
        ("gaussian", {"loss": "student-t", "kl_weight": 0.1}, True),
    ],
)
def test_kl_is_rough_unless_data_are_gaussian_and_the_error_squared(x, data, options, rough):
    skewed = np.random.default_rng(1).exponential(size=(4000, 3)) * [2.0, 1.0, 0.7]
    binary = np.repeat(np.random.default_rng(2).random((4000, 3)) < 0.5, 2, axis=1).astype(float)
    prediction = predict({"gaussian": x, "skewed": skewed, "binary": binary}[data], 2, **options)
    page, text, record = phasevae.prediction_page(prediction), str(prediction), prediction.to_json()
    assert rough_kl.kl_is_rough(prediction) == rough
    assert ("rough-kl" in text) == ("rough-kl" in page) == rough
    assert ("rough-kl" in [warning["code"] for warning in record["warnings"]]) == rough
    assert ("(rough)" in text) == ("about" in prediction.headline) == rough
    if options == {"loss": "half-sse", "kl_weight": 0.01}:
        assert record["kl"] == pytest.approx(ppca_kl(np.array([4.0, 2.0, 1.0, 0.5]), 0.01, 2))


def test_trained_networks_are_as_rough_as_the_warning_says():
    with GALLERY.open() as stream:
        cases = [case for case in csv.DictReader(stream) if float(case["predicted_kl"]) > 0]
    for case in cases:
        predicted, trained = float(case["predicted_kl"]), float(case["kl"])
        low, high = rough_kl.KL_ERROR if predicted >= 1 else rough_kl.SMALL_KL_ERROR
        if case["loss"] != "gaussian-nll":  # its learned variance follows
            assert 0.99 * low <= trained / predicted <= 1.01 * high, case
    assert any(float(case["kl"]) < 0.65 * float(case["predicted_kl"]) for case in cases)
