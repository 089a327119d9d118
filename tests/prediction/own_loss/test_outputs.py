"""The expected log against the loss function itself, evaluated on the optimal linear VAE."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from own_losses import LATENTS, gaussian_rows, half_sse, kl, kl_of_latents, tensor
from torch.nn import functional

from phasevae import predict

X = gaussian_rows(1200)
DIMENSION = X.shape[1]


def half_sse_mean(recon, x, mu, logvar):
    return half_sse(recon, x) + 0.8 * kl(mu, logvar)


def half_sse_sum(recon, x, mu, logvar):
    return 0.5 * (recon - x).pow(2).sum() + 0.8 * kl_of_latents(mu, logvar).sum()


def mean_se(recon, x, mu, logvar):
    return functional.mse_loss(recon, x) + 0.05 * kl(mu, logvar)


def mean_se_mean_kl(recon, x, mu, logvar):
    return functional.mse_loss(recon, x) + 0.5 * kl_of_latents(mu, logvar).mean()


LOSSES = {  # with the effective variance
    half_sse_mean: 0.8,
    half_sse_sum: 0.8,
    mean_se: DIMENSION * 0.05 / 2,
    mean_se_mean_kl: DIMENSION * 0.5 / LATENTS / 2,
}


def linear_vae(s):
    """Probabilistic PCA: means [N, n] and variances [n] of the posterior, decoder [D, n]."""
    lam, vectors = np.linalg.eigh(np.cov(X.T, bias=True))
    lam, vectors = lam[::-1][:LATENTS], vectors[:, ::-1][:, :LATENTS]
    decoder = vectors * np.sqrt(np.maximum(lam - s, 0))
    mu = (X - X.mean(0)) @ decoder / np.maximum(lam, s)
    return mu, s / np.maximum(lam, s), decoder


def printed(loss, s):
    """The mean of the loss over the posterior: exact for squares, at two points on the axis of each latent."""
    mu, variance, decoder = linear_vae(s)
    logvar = tensor(np.broadcast_to(np.log(variance), mu.shape).copy())
    values = []
    for j in range(LATENTS):
        for sign in (-1, 1):
            z = mu.copy()
            z[:, j] += sign * np.sqrt(LATENTS * variance[j])
            values.append(float(loss(tensor(z @ decoder.T + X.mean(0)), tensor(X), tensor(mu), logvar)))
    return np.mean(values) / (len(X) if loss is half_sse_sum else 1)


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.__name__)
def test_the_total_is_what_the_loss_gives_at_the_optimum(loss):
    prediction = predict(X, LATENTS, loss=loss)
    assert prediction.active_dims > 0
    assert prediction.log.total == pytest.approx(printed(loss, LOSSES[loss]), rel=1e-6)
    assert prediction.log.total == pytest.approx(prediction.log.reconstruction + prediction.log.kl_term)
    assert prediction.log.kl == pytest.approx(prediction.kl)


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.__name__)
def test_the_collapsed_log_is_what_the_loss_gives_at_the_mean(loss):
    prediction = predict(X, LATENTS, loss=loss)
    zeros = torch.zeros(len(X), LATENTS, dtype=torch.float64)
    mean = tensor(np.broadcast_to(X.mean(0), X.shape).copy())
    value = float(loss(mean, tensor(X), zeros, zeros)) / (len(X) if loss is half_sse_sum else 1)
    assert prediction.collapsed_log.total == pytest.approx(value, rel=1e-6)
    assert prediction.collapsed_log.kl_term == prediction.collapsed_log.kl == 0
    dead = prediction.at(2 * prediction.critical_kl_weight)
    assert vars(dead.log) == pytest.approx(vars(dead.collapsed_log))


def test_the_optimum_is_the_minimum_of_the_loss():
    """Other linear VAEs, with another noise level, give a larger loss."""
    total = predict(X, LATENTS, loss=half_sse_mean).log.total
    assert all(printed(half_sse_mean, 0.8 * factor) > total for factor in (0.8, 1.25))


def test_the_log_of_a_named_loss():
    own, named = predict(X, LATENTS, loss=mean_se), predict(X, LATENTS, loss="mean-se", kl_weight=0.05)
    assert vars(own.log) == pytest.approx(vars(named.log), rel=1e-6)


def test_a_constant_in_the_loss_is_part_of_the_reconstruction():
    plain = predict(X, LATENTS, loss=half_sse_mean)
    shifted = predict(X, LATENTS, loss=lambda r, x, mu, lv: half_sse_mean(r, x, mu, lv) + 7.0)
    assert shifted.log.total == pytest.approx(plain.log.total + 7, rel=1e-6)
    assert shifted.collapsed_log.reconstruction == pytest.approx(plain.collapsed_log.reconstruction + 7, rel=1e-6)


def test_a_learned_variance():
    """The log of a trained variance is that of the likelihood at the variance that is left."""
    log_sigma = torch.nn.Parameter(torch.zeros(1))

    def loss(recon, x, mu, logvar):
        return -torch.distributions.Normal(recon, log_sigma.exp()).log_prob(x).sum(1).mean() + kl(mu, logvar)

    prediction = predict(X, LATENTS, loss=loss)
    s = prediction.effective_variance
    expected = 0.5 * DIMENSION * (np.log(2 * np.pi * s) + 1)
    assert prediction.log.reconstruction == pytest.approx(expected, rel=1e-6)


def test_the_kl_term_is_the_weighted_kl_of_the_user():
    prediction = predict(X, LATENTS, loss=half_sse_mean, kl_weight=0.5)
    assert prediction.setting.kl_weight == 0.5
    assert prediction.log.kl_term == pytest.approx(0.5 * 0.8 * prediction.kl)
    assert prediction.kl == pytest.approx(predict(X, LATENTS, beta=0.4).kl)


@pytest.mark.parametrize(("rows", "batch_size"), [(501, None), (501, 64), (50, 64), (501, 7)])
def test_every_row_counts_alike_whatever_the_batch_size(rows, batch_size):
    x = X[:rows].astype(np.float32).astype(float)
    prediction = predict(x, 1, loss=half_sse_mean, batch_size=batch_size)
    assert prediction.collapsed_log.total == pytest.approx(0.5 * x.var(0).sum(), rel=1e-9)
