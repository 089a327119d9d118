"""Outputs in other units than the data: log rates of large counts, log variances of large values."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from own_losses import LATENTS, codes, factors, gaussian_rows, half_sse, kl

from phasevae import predict


@pytest.fixture(scope="module")
def large_counts():
    rng = np.random.default_rng(0)
    rates = np.exp(0.5 * rng.normal(size=(1000, 2)) @ rng.normal(size=(2, 5)) + np.linspace(2, 7, 5))
    return rng.poisson(rates).astype(float)


def test_log_rates_of_large_counts(large_counts):
    def loss(recon, x, mu, logvar):
        return (recon.exp() - recon * x).sum(1).mean() + kl(mu, logvar)

    own = predict(large_counts, LATENTS, loss=loss)
    np.testing.assert_allclose(factors(own), factors(predict(large_counts, LATENTS, loss="poisson")), rtol=1e-6)
    assert "kinks" not in codes(own)


def test_logits_of_large_counts(large_counts):
    def loss(recon, x, mu, logvar):
        return -(torch.log_softmax(recon, 1) * x).sum(1).mean() + kl(mu, logvar)

    own = predict(large_counts, LATENTS, loss=loss)
    np.testing.assert_allclose(factors(own), factors(predict(large_counts, LATENTS, loss="multinomial")), rtol=1e-6)
    assert "kinks" not in codes(own)


@pytest.mark.parametrize("unit", [0.01, 50.0])
def test_the_unit_of_the_data_does_not_count_for_a_mean_and_a_log_variance(unit):
    def loss(heads, x, mu, logvar):
        mean, log_variance = heads
        return (0.5 * ((x - mean) ** 2 / log_variance.exp() + log_variance)).sum(1).mean() + kl(mu, logvar)

    x = unit * gaussian_rows()
    own = predict(x, LATENTS, loss=loss, output_shape=[(6,), (6,)])
    named = predict(x, LATENTS, loss="gaussian-variance")
    np.testing.assert_allclose(factors(own), factors(named), rtol=1e-6)


@pytest.mark.parametrize("unit", [1e-3, 1e3])
def test_thresholds_of_absolute_errors_follow_the_unit_of_the_data(unit):
    def loss(recon, x, mu, logvar):
        return (recon - x).abs().sum(1).mean() + kl(mu, logvar)

    x = gaussian_rows()
    own, scaled = predict(x, LATENTS, loss=loss), predict(unit * x, LATENTS, loss=loss)
    np.testing.assert_allclose(factors(scaled), unit * factors(own), rtol=1e-6)


@pytest.mark.parametrize("unit", [1e-4, 1e4])
def test_thresholds_of_squared_errors_follow_the_unit_of_the_data(unit):
    x = gaussian_rows()
    own, scaled = (
        predict(values, LATENTS, loss=lambda r, x, mu, lv: half_sse(r, x) + kl(mu, lv)) for values in (x, unit * x)
    )
    np.testing.assert_allclose(factors(scaled), unit**2 * factors(own), rtol=1e-6)


def test_probabilities_stay_within_their_domain():
    """Weighted cross entropy of pixels of which some are never on."""
    rng = np.random.default_rng(0)
    chances = 1 / (1 + np.exp(-rng.normal(size=(1500, 2)) @ rng.normal(size=(2, 6))))
    x = (rng.random(chances.shape) < chances * [1, 1, 0.1, 1, 0.5, 0]).astype(float)
    weights = torch.linspace(1, 2, 6, dtype=torch.float64)

    def loss(recon, x, mu, logvar):
        error = torch.nn.functional.binary_cross_entropy(recon, x, reduction="none")
        return (weights * error).sum(1).mean() + kl(mu, logvar)

    p = x[:, :5].mean(0)
    unit = np.sqrt(weights.numpy()[:5] / (p * (1 - p)))
    expected = np.linalg.eigvalsh(np.cov(x[:, :5].T, bias=True) * np.outer(unit, unit))[::-1]
    np.testing.assert_allclose(factors(predict(x, LATENTS, loss=loss)), expected[:LATENTS], rtol=1e-6)
