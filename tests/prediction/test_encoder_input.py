"""Encoders that see something else than the decoder gives: noise, masks, other samples."""

from __future__ import annotations

import numpy as np
import pytest
from own_losses import LATENTS, codes, count_rows, explicit, factors, gaussian_rows, half_sse, kl

import phasevae
from phasevae import InputError, predict

NOISE, MASK = 0.8, 0.3


def loss(recon, x, mu, logvar):
    return half_sse(recon, x) + kl(mu, logvar)


@pytest.fixture(scope="module")
def x():
    return gaussian_rows(2000)


def regressed(cross, own):
    """Eigenvalues of the covariance of the best linear prediction."""
    return explicit(cross @ np.linalg.solve(own, cross.T))[:LATENTS]


def noisy(x):
    return regressed(c := np.cov(x.T, bias=True), c + NOISE**2 * np.eye(len(c)))


def masked(x):
    c, kept = np.cov(x.T, bias=True), 1 - MASK
    own = kept**2 * c + np.diag(kept * MASK * (np.diag(c) + x.mean(0) ** 2))
    return regressed(kept * c, own)


def test_noise(x):
    np.testing.assert_allclose(factors(predict(x, LATENTS, beta=1.0, input_noise=NOISE)), noisy(x), rtol=1e-8)
    np.testing.assert_allclose(factors(predict(x, LATENTS, loss=loss, input_noise=NOISE)), noisy(x), rtol=1e-8)


def test_a_mask(x):
    np.testing.assert_allclose(factors(predict(x, LATENTS, beta=1.0, input_mask=MASK)), masked(x), rtol=1e-8)
    np.testing.assert_allclose(factors(predict(x, LATENTS, loss=loss, input_mask=MASK)), masked(x), rtol=1e-8)


def test_sampled_noise_as_the_input_of_the_encoder(x):
    seen = x + NOISE * np.random.default_rng(1).normal(size=x.shape)
    prediction = predict(seen, LATENTS, loss=loss, target=x)
    joint = np.cov(np.hstack([x, seen]).T, bias=True)
    np.testing.assert_allclose(factors(prediction), regressed(joint[:6, 6:], joint[6:, 6:]), rtol=1e-8)
    np.testing.assert_allclose(factors(prediction), noisy(x), rtol=0.06)


def test_a_sampled_mask_as_the_input_of_the_encoder(x):
    seen = x * (np.random.default_rng(1).random(x.shape) > MASK)
    np.testing.assert_allclose(factors(predict(seen, LATENTS, loss=loss, target=x)), masked(x), rtol=0.06)


def test_scores_of_other_losses_are_regressed_too():
    x = count_rows()
    prediction = predict(x, LATENTS, loss="poisson", input_noise=NOISE)
    c, unit = np.cov(x.T, bias=True), np.diag(x.mean(0) ** -0.5)
    expected = regressed(unit @ c, c + NOISE**2 * np.eye(len(c)))
    np.testing.assert_allclose(factors(prediction), expected, rtol=1e-7)

    def poisson(recon, x, mu, logvar):
        return (recon.exp() - x * recon).sum(1).mean() + kl(mu, logvar)

    np.testing.assert_allclose(factors(predict(x, LATENTS, loss=poisson, input_noise=NOISE)), expected, rtol=1e-6)


def test_an_input_of_other_features(x):
    """The encoder sees the first two features, the decoder gives all."""
    joint = np.cov(x.T, bias=True)
    prediction = predict(x[:, :2], 2, loss=loss, target=x)
    np.testing.assert_allclose(factors(prediction), regressed(joint[:, :2], joint[:2, :2])[:2], rtol=1e-8)
    assert prediction.mse == pytest.approx(
        np.trace(joint) - np.sum(factors(prediction)) + prediction_errors(prediction)
    )


def prediction_errors(prediction):
    """What is left of the modes that the encoder sees."""
    lam = factors(prediction)
    return float(np.minimum(lam, 1.0).sum())


def test_a_warning_says_what_a_better_encoder_may_do(x):
    assert "encoder-input" in codes(predict(x, 2, beta=1.0, input_noise=2.0))
    assert "encoder-input" not in codes(predict(x, 2, beta=1.0, input_noise=1e-3))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"input_mask": 1.0}, "input_mask: 1.0, must be less than 1"),
        ({"input_mask": -0.1}, "input_mask: -0.1, must be a number, 0 or more"),
        ({"input_noise": float("nan")}, "input_noise: nan, must be a number, 0 or more"),
        ({"input_noise": "much"}, "input_noise: 'much', must be a number, 0 or more"),
    ],
)
def test_wrong_options(x, options, words):
    with pytest.raises(InputError, match=words):
        predict(x, 2, beta=1.0, **options)


def test_inputs_without_information(x):
    with pytest.raises(InputError, match="carries no information about it"):
        predict(
            np.tile([[1.0], [1.0], [-1.0], [-1.0]], (500, 1)), 2, loss=loss, target=np.tile([[1.0], [-1.0]], (1000, 1))
        )


def test_a_spectrum_is_not_enough(x):
    with pytest.raises(InputError, match="data: a spectrum, must be the samples for an encoder"):
        predict(phasevae.compute_spectrum(x), 2, beta=1.0, input_noise=1.0)
