"""The warning `not-centred`, against the mean and the spread that numpy computes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from phasevae import predict

RNG = np.random.default_rng(0)
FACTORS = RNG.normal(size=(300, 3)) @ RNG.normal(size=(3, 40)) + RNG.normal(size=(300, 40))
PIXELS = RNG.random((300, 400)) < 0.25 + 0.1 * (RNG.random((300, 1)) < 0.5)


def absolute(recon, x, mu, logvar):
    kl = 0.5 * (mu.square() + logvar.exp() - logvar - 1).sum(1).mean()
    return (recon - x).abs().sum(1).mean() + kl


def warning_of(data, **options):
    found = [w.message for w in predict(data, 3, **options).warnings if w.code == "not-centred"]
    assert len(found) <= 1
    return found[0] if found else None


def reach(data):
    mean = data.mean(0)
    return np.abs(mean).sum() * np.linalg.norm(mean) / np.sqrt(data.var(0).sum())


@settings(max_examples=30, deadline=None)
@given(st.floats(-4, 4), st.floats(0.1, 10), st.integers(1, 40))
def test_the_mean_is_held_against_the_spread(offset, scale, width):
    data = scale * (FACTORS[:, :width] + offset)
    if abs(reach(data) / 50 - 1) > 1e-6:
        assert (warning_of(data, loss="half-sse") is not None) == (reach(data) > 50)


@pytest.mark.parametrize(("offset", "warned"), [(0.0, False), (1.0, True)])
def test_the_mean_of_centred_data_is_sampling_noise(offset, warned):
    """30 samples of 2,000 features have a mean of 1 / sqrt(30) in each feature by chance, which is far enough."""
    data = RNG.normal(size=(30, 2000)) + offset
    assert reach(data) > 50
    assert (warning_of(data, loss="half-sse") is not None) == warned


LOSSES = {
    "half-sse": "bias at the mean,",
    "mean-se": "bias at the mean,",
    "gaussian-nll": "bias at the mean,",
    "scvi-normal": "bias at the mean,",
    "laplace": "bias at its best constant output,",
    absolute: "bias at its best constant output,",
}


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: getattr(loss, "__name__", loss))
def test_whatever_the_loss(loss):
    options = {"library": loss} if loss == "scvi-normal" else {"loss": loss}
    message = warning_of(FACTORS + 3, **options)
    assert LOSSES[loss] in message and "\n" not in message
    mean = (FACTORS + 3).mean(0)
    assert f"a norm of {np.linalg.norm(mean):.3g}" in message and "in 40 features" in message
    assert warning_of(FACTORS, **options) is None


def test_the_first_weight_is_a_tenth_of_the_critical_one():
    critical = predict(FACTORS, 3, loss="half-sse").critical_kl_weight
    assert f"KL weight at {critical / 10:.2g} (0.1 of the critical one)" in warning_of(FACTORS + 3, loss="half-sse")


def test_binary_pixels_start_at_logits():
    assert reach(PIXELS) > 50
    assert "bias at the logits of the mean" in warning_of(PIXELS.astype(float), loss="bce")
    assert warning_of(PIXELS[:, :20].astype(float), loss="bce") is None


def test_symbols_and_counts_are_not_what_the_encoder_sees():
    symbols = np.full((300, 60), 7)
    symbols[:, :4] = RNG.integers(0, 8, (300, 4))

    def cross_entropy(recon, x, mu, logvar):
        kl = 0.5 * (mu.square() + logvar.exp() - logvar - 1).sum(1).mean()
        return torch.nn.functional.cross_entropy(recon.flatten(0, 1), x.flatten(), reduction="sum") / len(x) + kl

    assert warning_of(symbols, loss="categorical") is None
    assert warning_of(symbols, loss="poisson") is None
    assert warning_of(symbols[:, :4] + 100 - 100, loss=cross_entropy, output_shape=(4, 8)) is None
