"""Losses whose gradient jumps: absolute, Huber and quantile errors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from own_losses import codes, explicit, factors, half_sse, kl
from scipy.stats import norm
from torch.nn import functional

from phasevae import predict

DIMENSION, CORRELATION = 8, 0.5


@pytest.fixture(scope="module")
def x():
    """Gaussian samples of equal correlation, with mean 3."""
    rng = np.random.default_rng(0)
    common, own = rng.normal(size=(20_000, 1)), rng.normal(size=(20_000, DIMENSION))
    return np.sqrt(CORRELATION) * common + np.sqrt(1 - CORRELATION) * own + 3


def test_absolute_errors_of_gaussian_data(x):
    """Signs of Gaussian data of correlation 1/2 have correlation 1/3, against a curvature of twice the density."""

    def loss(recon, x, mu, logvar):
        return functional.l1_loss(recon, x, reduction="sum") / len(x) + kl(mu, logvar)

    prediction = predict(x, 2, loss=loss)
    expected = (1 + (DIMENSION - 1) / 3) / (2 * norm.pdf(0))
    assert expected == pytest.approx(4.18, abs=0.01)
    assert prediction.critical_kl_weight == pytest.approx(expected, rel=0.05)
    assert "kinks" not in codes(prediction)
    summed = predict(x, 2, loss=lambda r, x, mu, lv: (r - x).abs().mean() + kl(mu, lv))
    assert summed.critical_kl_weight == pytest.approx(prediction.critical_kl_weight / DIMENSION)


@pytest.mark.parametrize("quantile", [0.5, 0.8])
def test_quantiles_of_gaussian_data(x, quantile):
    def loss(recon, x, mu, logvar):
        error = x - recon
        return torch.maximum(quantile * error, (quantile - 1) * error).sum(1).mean() + kl(mu, logvar)

    scores = np.where(x > np.quantile(x, quantile, axis=0), quantile, quantile - 1)
    density = norm.pdf(norm.ppf(quantile))
    expected = explicit(np.cov(scores.T))[0] / density
    assert predict(x, 1, loss=loss).critical_kl_weight == pytest.approx(expected, rel=0.06)


@pytest.mark.parametrize("delta", [0.5, 2.0])
def test_huber_errors_of_gaussian_data(x, delta):
    def loss(recon, x, mu, logvar):
        return functional.huber_loss(recon, x, reduction="sum", delta=delta) / len(x) + kl(mu, logvar)

    scores = np.clip(x - 3, -delta, delta)
    curvature = norm.cdf(delta) - norm.cdf(-delta)
    expected = explicit(np.cov(scores.T))[0] / curvature
    assert predict(x, 1, loss=loss).critical_kl_weight == pytest.approx(expected, rel=0.02)


def test_a_wide_huber_error_is_half_the_squared_error(x):
    def loss(recon, x, mu, logvar):
        return functional.huber_loss(recon, x, reduction="sum", delta=100.0) / len(x) + kl(mu, logvar)

    named = predict(x, 2, loss=lambda r, x, mu, lv: half_sse(r, x) + kl(mu, lv))
    np.testing.assert_allclose(factors(predict(x, 2, loss=loss)), factors(named), rtol=1e-6)


def test_absolute_and_squared_errors_together(x):
    def loss(recon, x, mu, logvar):
        error = recon - x
        return (error.abs() + 0.5 * error**2).sum(1).mean() + kl(mu, logvar)

    scores = np.sign(x - 3) + x - 3
    expected = explicit(np.cov(scores.T))[0] / (2 * norm.pdf(0) + 1)
    assert predict(x, 1, loss=loss).critical_kl_weight == pytest.approx(expected, rel=0.03)


def test_two_clusters_give_a_warning(x):
    """Nothing lies near the median, so that the curvature depends on the width that it is taken over."""
    clusters = np.sign(x[:4000] - 3) * 3 + 0.3 * x[:4000]
    prediction = predict(clusters, 2, loss=lambda r, x, mu, lv: (r - x).abs().mean() + kl(mu, lv))
    assert "kinks" in codes(prediction)
    (message,) = (warning.message for warning in prediction.warnings if warning.code == "kinks")
    assert "the critical weight depends on how far the outputs of a network spread" in message


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_absolute_errors_of_fixed_features(x, dtype):
    """Scores are sums of signs, against a curvature of densities of the features."""
    mixing = np.random.default_rng(1).normal(size=(DIMENSION, 12))
    layer = torch.as_tensor(mixing, dtype=dtype)

    def loss(recon, x, mu, logvar):
        return ((recon - x) @ layer).abs().sum(1).mean() + kl(mu, logvar)

    rows = x[:6000]
    features = (rows - 3) @ mixing
    scores = np.sign(features) @ mixing.T
    curvature = (mixing * 2 * norm.pdf(0) / features.std(0)) @ mixing.T
    expected = explicit(
        np.linalg.solve(root := np.linalg.cholesky(curvature), np.cov(scores.T)) @ np.linalg.inv(root).T
    )
    prediction = predict(rows, 1, loss=loss)
    assert prediction.critical_kl_weight == pytest.approx(expected[0], rel=0.06)


def test_a_jump_keeps_the_width_of_the_data():
    """Most values are the median: the curvature is that of the difference over a tenth of the deviation."""
    rng = np.random.default_rng(2)
    x = np.where(rng.random((2000, 4)) < 0.8, 0.0, rng.normal(size=(2000, 1)) + rng.normal(size=(2000, 4)))
    prediction = predict(x, 2, loss=lambda r, x, mu, lv: (r - x).abs().sum(1).mean() + kl(mu, lv))
    assert "kinks" in codes(prediction)
    least = 0.1 * x.std(0).min() / 2  # of the scores' variance
    assert least * 0.1 < prediction.critical_kl_weight < 1
