"""Absolute errors: the range of critical weights over the widths of the kinks, against explicit computations."""

from __future__ import annotations

import re

import numpy as np
import pytest

from phasevae.datasets.base import SampleStream
from phasevae.datasets.streams import sample_stream
from phasevae.likelihoods.kinks import FEWEST, KINK_WIDTH, WIDTHS
from phasevae.likelihoods.laplace import Laplace
from phasevae.prediction.predict import predict


def bimodal(n: int = 20_000) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, 1)) * 0.5 + rng.choice([-1.0, 1.0], (n, 6)) + 0.4 * rng.normal(size=(n, 6))


def zero_inflated(n: int = 20_000) -> np.ndarray:
    rng = np.random.default_rng(1)
    genes = rng.gamma(2.0, np.exp(rng.normal(size=(n, 1)) * 0.8), (n, 6))
    return np.log1p(genes) * (rng.random((n, 6)) > 0.6)


def gaussian(n: int = 20_000) -> np.ndarray:
    rng = np.random.default_rng(2)
    return 0.7 * rng.normal(size=(n, 1)) + rng.normal(size=(n, 6))


def critical_weight(x: np.ndarray, width: float) -> float:
    """The largest eigenvalue of H^-1 G, with H from the shares of values on each side of a width."""
    median, half = np.median(x, axis=0), 0.5 * width * x.std(0)
    slope = (np.sign(x - median + half) - np.sign(x - median - half)).mean(0) / (2 * half)
    whitened = np.sign(x - median) / np.sqrt(slope)
    return float(np.linalg.eigvalsh(np.cov(whitened.T, bias=True))[-1])


@pytest.mark.parametrize("data", [bimodal, zero_inflated, gaussian])
def test_the_range_is_that_of_the_widths(data):
    x = data().astype(np.float32).astype(float)
    weights = [critical_weight(x, width) for width in WIDTHS]
    prediction = predict(x, 2, loss="laplace")
    assert prediction.critical_kl_weight == pytest.approx(weights[WIDTHS.index(KINK_WIDTH)], rel=1e-3)
    np.testing.assert_allclose(prediction.critical_kl_weight_range, (min(weights), max(weights)), rtol=0.05)
    warned = [warning.message for warning in prediction.warnings if warning.code == "kinks"]
    assert bool(warned) == (data is not gaussian) == (max(weights) > 1.2 * min(weights))
    low, high = (f"{weight:.3g}" for weight in prediction.critical_kl_weight_range)
    assert all(f"from {low} to {high}" in message for message in warned)
    assert f"from {low} to {high} with its kinks" in str(prediction)


@pytest.mark.parametrize(
    ("factor", "verdict", "keeps"),
    [
        (0.9, "All 3 latents will carry information", False),
        (1.05, "Your VAE may collapse: its KL weight is between", True),
        (20.0, "Your VAE may collapse: its KL weight is between", True),
        (60.0, "Your VAE will collapse: its KL weight ", True),
    ],
)
def test_the_headline_claims_no_more_than_the_range(factor, verdict, keeps):
    """`factor` is the KL weight in units of the least critical one; the largest is 31 times that."""
    x = zero_inflated(4000)
    usual = predict(x, 3, loss="laplace")
    low, high = usual.critical_kl_weight_range
    assert high == pytest.approx(31 * low, rel=0.02)
    limit = low * usual.thresholds[-1].kl_weight / usual.critical_kl_weight
    prediction = predict(x, 3, loss="laplace", kl_weight=factor * low)
    assert prediction.headline.startswith(verdict)
    assert ("is 1.9 to 60 times the critical one, at which the last" in prediction.headline) == (factor == 60)
    recommended = re.search(r"below about ([\d.]+) to keep all 3 latents", prediction.headline)
    assert bool(recommended) == keeps
    if recommended:
        assert float(recommended[1]) == pytest.approx(limit, rel=0.01) and float(recommended[1]) <= limit
    assert ("not decided: 0 to 3 of 3 latents active" in str(prediction)) == ("may" in verdict)


def test_a_narrow_range_leaves_the_headline():
    prediction = predict(gaussian(4000), 2, loss="laplace", kl_weight=50)
    assert "about" not in prediction.headline and prediction.headline.startswith("Your VAE will collapse")


@pytest.mark.parametrize("data", [bimodal, zero_inflated])
def test_a_function_gives_a_range_that_covers_that_of_the_name(data):
    def loss(recon, x, mu, logvar):
        return (recon - x).abs().sum(1).mean() - 0.5 * (1 + logvar - mu**2 - logvar.exp()).sum(1).mean()

    own, named = predict(data(), 2, loss=loss), predict(data(), 2, loss="laplace")
    assert "kinks" in {warning.code for warning in own.warnings}
    (low, high), (least, most) = own.critical_kl_weight_range, named.critical_kl_weight_range
    assert high > 1.2 * low and low < most and high > least


def test_widths_with_few_values_are_left_out():
    """Of 2,000 Gaussian samples 24 lie within 0.03 standard deviations: their noise is no dependence on the width."""
    assert FEWEST > 2000 * 0.4 * 0.03
    for seed in range(5):
        x = np.random.default_rng(seed).normal(size=(2000, 1)) + np.random.default_rng(seed + 9).normal(size=(2000, 8))
        low, high = predict(x, 1, loss="laplace").setting.kink_range
        assert high < 1.2 * low


def test_smooth_losses_have_no_range():
    prediction = predict(gaussian(500), 2, loss="student-t")
    assert prediction.critical_kl_weight_range is None
    assert prediction.to_json()["critical_kl_weight_range"] is None


def test_all_widths_take_one_pass():
    x, passes = gaussian(3000), [0]
    rows = sample_stream(x)

    def read():
        passes[0] += 1
        return rows.read()

    counting = SampleStream(read, rows.dimension, rows.label)
    fitted = Laplace().fit(counting)
    assert fitted.width_units.shape == (len(WIDTHS), 6)
    medians = 2 + int(np.ceil(np.log2(3000))) + 20  # bisection ends between two values
    assert passes[0] < medians + 6
