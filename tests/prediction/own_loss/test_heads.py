"""Decoders of several heads, each of which takes outputs of its own range."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from own_losses import LATENTS, explicit, factors, kl, whitened_rows
from torch.distributions import Normal
from torch.nn import functional

from phasevae import predict

RNG = np.random.default_rng(0)
FACTORS = RNG.normal(size=(1500, 2))
ON = (FACTORS @ RNG.normal(size=(2, 3)) + RNG.normal(size=(1500, 3)) > 0).astype(float)
COUNTS = RNG.poisson(np.exp(0.4 * FACTORS @ RNG.normal(size=(2, 3)) + 1.5)).astype(float)
BOTH = np.hstack([ON, COUNTS])


def switches_and_counts(of_switch):
    def loss(heads, x, mu, logvar):
        counts = functional.poisson_nll_loss(heads[1], x[:, 3:], reduction="sum")
        return (of_switch(heads[0], x[:, :3], reduction="sum") + counts) / len(x) + kl(mu, logvar)

    return loss


@pytest.mark.parametrize(
    "of_switch", [functional.binary_cross_entropy, functional.binary_cross_entropy_with_logits], ids=["share", "logit"]
)
def test_probabilities_beside_log_rates(of_switch):
    m = BOTH.mean(0)
    units = np.concatenate([m[:3] * (1 - m[:3]), m[3:]])
    prediction = predict(BOTH, LATENTS, loss=switches_and_counts(of_switch), output_shape=[(3,), (3,)])
    expected = explicit(np.cov(BOTH.T, bias=True) / np.sqrt(np.outer(units, units)))[:LATENTS]
    np.testing.assert_allclose(factors(prediction), expected, rtol=1e-6)


X = whitened_rows(np.array([4.0, 2.0, 1.0, 0.5])) - 0.05


@pytest.mark.parametrize(
    "error",
    [
        lambda m, s, x: functional.gaussian_nll_loss(m, x, s, reduction="sum"),
        lambda m, s, x: -Normal(m, s).log_prob(x).sum(),
        lambda m, s, x: functional.gaussian_nll_loss(m, x, s.exp(), reduction="sum"),
    ],
    ids=["variance", "standard deviation", "log variance"],
)
def test_a_positive_head_does_not_bound_the_means(error):
    def loss(heads, x, mu, logvar):
        return error(*heads, x) / len(x) + kl(mu, logvar)

    prediction = predict(X, 2, loss=loss, output_shape=[(4,), (4,)])
    named = predict(X, 2, loss="gaussian-variance")
    np.testing.assert_allclose(factors(prediction), factors(named), rtol=1e-5)


def test_fewer_features_than_outputs_in_float32():
    layer = torch.nn.Linear(4, 2, bias=False).requires_grad_(False)
    layer.weight.copy_(torch.tensor([[1.0, 0.5, 0.0, -1.0], [0.3, -1.0, 2.0, 0.1]]))

    def loss(recon, x, mu, logvar):
        return (layer(recon) - layer(x)).square().sum(1).mean() + 0.5 * kl(mu, logvar)

    w = layer.weight.double().numpy()
    expected = 4 * np.linalg.eigvalsh(w @ np.cov(X.T, bias=True) @ w.T)[::-1]
    np.testing.assert_allclose(factors(predict(X, 2, loss=loss)), expected, rtol=1e-4)
