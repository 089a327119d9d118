"""Losses written as users write them, against the conventions and presets of the same losses by name."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from own_losses import LATENTS, count_rows, factors, gaussian_rows, half_sse, kl, kl_of_latents, pixel_rows
from torch import distributions as dist
from torch import nn
from torch.nn import functional

from phasevae import predict
from phasevae.prediction.libraries import LIBRARIES

DATA = {"gaussian": gaussian_rows(), "pixels": pixel_rows(), "binary": np.rint(pixel_rows()), "counts": count_rows()}


def kl_sum(mu, logvar):
    """As in PyTorch's examples: summed over the batch."""
    return -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())


def bce(recon, x, **options):
    return functional.binary_cross_entropy(recon, x, **options)


def logits(recon, x, **options):
    return functional.binary_cross_entropy_with_logits(recon, x, **options)


def mse(recon, x, **options):
    return functional.mse_loss(recon, x, **options)


CONVENTIONS = {
    "half-sse": ("gaussian", 0.7, lambda r, x, mu, lv: half_sse(r, x) + 0.7 * kl(mu, lv)),
    "half-sse, summed over the batch": (
        "gaussian",
        0.7,
        lambda r, x, mu, lv: 0.5 * mse(r, x, reduction="sum") + 0.7 * kl_sum(mu, lv),
    ),
    "sse": ("gaussian", 2.0, lambda r, x, mu, lv: mse(r, x, reduction="sum") / len(x) + 2 * kl_sum(mu, lv) / len(x)),
    "mean-se": ("gaussian", 0.1, lambda r, x, mu, lv: mse(r, x) + 0.1 * kl(mu, lv)),
    "mean-se-mean-kl": ("gaussian", 0.1, lambda r, x, mu, lv: mse(r, x) + 0.1 * kl_of_latents(mu, lv).mean()),
    "bce": ("pixels", 1.5, lambda r, x, mu, lv: bce(r, x, reduction="sum") + 1.5 * kl_sum(mu, lv)),
    "bce, of logits": (
        "pixels",
        1.0,
        lambda r, x, mu, lv: logits(r, x, reduction="none").sum(1).mean() + kl(mu, lv),
    ),
    "mean-bce": ("binary", 0.3, lambda r, x, mu, lv: bce(r, x) + 0.3 * kl(mu, lv)),
    "mean-bce, of logits": ("binary", 0.3, lambda r, x, mu, lv: logits(r, x) + 0.3 * kl(mu, lv)),
}


@pytest.mark.parametrize("label", CONVENTIONS)
def test_thresholds_are_those_of_the_convention(label):
    data, weight, loss = CONVENTIONS[label]
    own, named = predict(DATA[data], LATENTS, loss=loss), predict(DATA[data], LATENTS, loss=label.partition(",")[0])
    np.testing.assert_allclose(weight * factors(own), factors(named), rtol=1e-6)


def test_a_learned_variance_is_that_of_gaussian_nll():
    log_sigma = nn.Parameter(torch.zeros(1))

    def loss(recon, x, mu, logvar):
        return -dist.Normal(recon, log_sigma.exp()).log_prob(x).sum(1).mean() + 0.8 * kl(mu, logvar)

    x = DATA["gaussian"]
    own, named = predict(x, LATENTS, loss=loss), predict(x, LATENTS, loss="gaussian-nll")
    np.testing.assert_allclose(0.8 * factors(own), factors(named), rtol=1e-6)
    assert own.kl == pytest.approx(named.at(0.8).kl, rel=1e-5)
    assert float(log_sigma.detach()) == 0  # left as it was


PRESETS = {
    "pythae": ("gaussian", lambda r, x, mu, lv: (0.5 * mse(r, x, reduction="none").sum(-1) + each(mu, lv)).mean(0)),
    "pythae-bce": ("pixels", lambda r, x, mu, lv: (bce(r, x, reduction="none").sum(-1) + each(mu, lv)).mean(0)),
    "pytorch-vae": ("pixels", lambda r, x, mu, lv: mse(r, x) + 0.00025 * torch.mean(each(mu, lv), dim=0)),
    "disentangling-vae": (
        "pixels",
        lambda r, x, mu, lv: bce(r, x, reduction="sum") / len(x) + 4 * kl_of_latents(mu, lv).mean(0).sum(),
    ),
    "disentangling-vae-gaussian": (
        "pixels",
        lambda r, x, mu, lv: (
            mse(255 * r, 255 * x, reduction="sum") / 255 / len(x) + 4 * kl_of_latents(mu, lv).mean(0).sum()
        ),
    ),
    "pyro": ("binary", lambda r, x, mu, lv: -dist.Bernoulli(r).log_prob(x).sum() + normal_kl(mu, lv).sum()),
    "mlcolvar": ("gaussian", lambda r, x, mu, lv: (r - x).square().mean(1).mean() + kl(mu, lv)),
    "beta-vae": ("gaussian", lambda r, x, mu, lv: mse(r, x, reduction="sum").div(len(x)) + 4 * kl(mu, lv)),
    "pytorch-examples": ("binary", lambda r, x, mu, lv: bce(r, x, reduction="sum") + kl_sum(mu, lv)),
    "keras-io": ("binary", lambda r, x, mu, lv: bce(r, x, reduction="none").sum(1).mean() + kl(mu, lv)),
    "mult-vae": (
        "counts",
        lambda r, x, mu, lv: -torch.mean(torch.sum(functional.log_softmax(r, 1) * x, -1)) + 0.2 * kl(mu, lv),
    ),
    "recommenders": (
        "counts",
        lambda r, x, mu, lv: torch.mean(torch.sum(-x * functional.log_softmax(r, 1), -1)) + kl(mu, lv),
    ),
    "act": ("gaussian", lambda r, x, mu, lv: functional.l1_loss(x, r) + 10 * kl(mu, lv)),
    "diffusers": ("pixels", lambda r, x, mu, lv: mse(r, x, reduction="sum") / len(x) + 1e-6 * kl(mu, lv)),
    "compvis": ("gaussian", lambda r, x, mu, lv: (r - x).abs().sum() / len(x) + 1e-6 * kl_sum(mu, lv) / len(x)),
}
ELSEWHERE = {"scvi", "scvi-nb", "scvi-normal"}  # below, and test_likelihood_losses


def each(mu, logvar):
    """As in pythae and PyTorch-VAE: KL of each sample."""
    return -0.5 * torch.sum(1 + logvar - mu**2 - logvar.exp(), dim=1)


def normal_kl(mu, logvar):
    """As torch.distributions gives it."""
    posterior = dist.Normal(mu, torch.exp(0.5 * logvar))
    return dist.kl_divergence(posterior, dist.Normal(torch.zeros_like(mu), torch.ones_like(mu)))


@pytest.mark.parametrize("name", PRESETS)
def test_thresholds_are_those_of_the_preset(name):
    data, loss = PRESETS[name]
    x = DATA[data]
    own, named = predict(x, LATENTS, loss=loss), predict(x, LATENTS, library=name)
    tolerance = 0.05 if named.setting.loss.family == "laplace" else 1e-6  # differences over other widths
    np.testing.assert_allclose(LIBRARIES[name].kl_weight * factors(own), factors(named), rtol=tolerance)


def test_one_learned_variance_per_feature_is_the_preset_of_scvi():
    log_sigma = nn.Parameter(torch.zeros(6))

    def loss(recon, x, mu, logvar):
        return (-dist.Normal(recon, log_sigma.exp()).log_prob(x).sum(-1) + normal_kl(mu, logvar).sum(1)).mean()

    x = DATA["gaussian"]
    own, named = predict(x, LATENTS, loss=loss), predict(x, LATENTS, library="scvi-normal")
    np.testing.assert_allclose(factors(own), factors(named), rtol=1e-6)
    assert own.kl == pytest.approx(named.kl, rel=1e-5)


def test_every_preset_is_compared():
    assert set(PRESETS) | ELSEWHERE == set(LIBRARIES)


def test_pytorch_s_example_on_binarised_digits():
    digits = pytest.importorskip("sklearn.datasets").load_digits().data / 16

    def loss_function(recon_x, x, mu, logvar):
        return functional.binary_cross_entropy(recon_x, x, reduction="sum") + kl_sum(mu, logvar)

    binary = (digits > 0.5).astype(np.float32)
    assert predict(binary, 20, loss=loss_function).critical_kl_weight == pytest.approx(4.762, abs=5e-4)


def test_the_mean_squared_error_of_digits():
    digits = pytest.importorskip("sklearn.datasets").load_digits().data / 16

    def loss(recons, x, mu, log_var):
        return functional.mse_loss(recons, x) + 0.00025 * each(mu, log_var).mean()

    assert predict(digits, 10, loss=loss).critical_kl_weight == pytest.approx(87.36, abs=5e-3)
