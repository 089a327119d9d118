"""Losses with trainable numbers of their own that are no variance of squared errors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from own_losses import LATENTS, codes, factors, gaussian_rows, kl
from torch import distributions as dist
from torch import nn

from phasevae import InputError, predict


def overdispersed() -> np.ndarray:
    rng = np.random.default_rng(0)
    rates = np.exp(0.4 * rng.normal(size=(1500, 2)) @ rng.normal(size=(2, 5)) + np.linspace(0.5, 2, 5))
    return rng.poisson(rates * rng.gamma(2, 0.5, size=rates.shape)).astype(float)


def test_the_dispersion_of_each_gene():
    log_r = nn.Parameter(torch.full((5,), 0.3, dtype=torch.float64))

    def loss(recon, x, mu, logvar):
        count = dist.NegativeBinomial(log_r.exp(), logits=recon - log_r, validate_args=False)
        return -count.log_prob(x).sum(1).mean() + kl(mu, logvar)

    x = overdispersed()
    prediction, named = predict(x, LATENTS, loss=loss), predict(x, LATENTS, loss="negative-binomial")
    np.testing.assert_allclose(factors(prediction), factors(named), rtol=1e-4)
    (message,) = (warning.message for warning in prediction.warnings if warning.code == "trainable-loss")
    assert message == "the loss has 5 trainable numbers of its own: held at the best value for a collapsed model"
    assert torch.equal(log_r, torch.full((5,), 0.3, dtype=torch.float64))


def test_the_scale_of_student_s_t():
    log_scale = nn.Parameter(torch.zeros(1))

    def loss(recon, x, mu, logvar):
        return -dist.StudentT(4.0, recon, log_scale.exp()).log_prob(x).sum(1).mean() + kl(mu, logvar)

    x = gaussian_rows()
    prediction = predict(x, LATENTS, loss=loss)

    def named(scale):
        return predict(x, LATENTS, loss="student-t", loss_options={"scale": float(scale)})

    assert "trainable-loss" in codes(prediction)
    scales = np.linspace(0.5, 2, 301)
    y = x[:, None] - named(1.0).setting.features.mean
    likelihood = [dist.StudentT(4.0, 0.0, scale).log_prob(torch.as_tensor(y)).sum() for scale in scales]
    best = scales[int(np.argmax(likelihood))]
    np.testing.assert_allclose(factors(prediction), factors(named(best)), rtol=0.02)


def test_a_frozen_network_in_the_loss_is_not_trainable():
    layer = nn.Linear(6, 6).double().requires_grad_(False)

    def loss(recon, x, mu, logvar):
        return (layer(recon) - layer(x)).square().sum(1).mean() + kl(mu, logvar)

    assert "trainable-loss" not in codes(predict(gaussian_rows(), LATENTS, loss=loss))


def test_a_network_in_the_loss_that_is_not_frozen():
    layer = nn.Linear(6, 6).double()

    def loss(recon, x, mu, logvar):
        return (layer(recon) - layer(x)).square().sum(1).mean() + kl(mu, logvar)

    before = layer.weight.detach().clone()
    with pytest.raises(InputError, match="must be frozen with requires_grad_"):
        predict(gaussian_rows(), LATENTS, loss=loss)
    assert torch.equal(layer.weight, before)
