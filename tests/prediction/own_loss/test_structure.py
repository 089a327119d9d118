"""Losses that couple outputs: fixed features, metrics, softmax; as matrices and from products alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from own_losses import LATENTS, codes, count_rows, explicit, factors, half_sse, kl, tensor

from phasevae import InputError, predict

SIDE = 7


@pytest.fixture(scope="module")
def images():
    """Smooth images [N, 1, 7, 7]."""
    rng = np.random.default_rng(0)
    line = np.arange(SIDE)
    smooth = np.exp(-0.5 * ((line[:, None] - line) / 1.5) ** 2)
    return (smooth @ rng.normal(size=(800, 1, SIDE, SIDE)) @ smooth).astype(np.float32)


@pytest.fixture(scope="module")
def convolution():
    """A fixed convolution with float32 weights."""
    layer = torch.nn.Conv2d(1, 4, 3, padding=1, bias=False).requires_grad_(False)
    layer.weight.copy_(0.3 * torch.randn(layer.weight.shape, generator=torch.Generator().manual_seed(0)))
    return layer


def perceptual(convolution):
    def loss(recon, x, mu, logvar):
        return (convolution(recon) - convolution(x)).square().sum((1, 2, 3)).mean() + 0.5 * kl(mu, logvar)

    return loss


def metric(convolution, size=SIDE):
    """The matrix of squared features: twice the convolution's matrix, times itself."""
    basis = torch.eye(size * size).reshape(-1, 1, size, size)
    matrix = convolution(basis).flatten(1).double().numpy()
    return 2 * matrix @ matrix.T


def expected_factors(images, convolution):
    flat, h = images.reshape(len(images), -1).astype(float), metric(convolution)
    root = np.linalg.cholesky(h + 1e-12 * np.eye(len(h)))
    return explicit(root.T @ np.cov(flat.T, bias=True) @ root)[:LATENTS] / 0.5


def test_features_of_a_fixed_network(images, convolution):
    prediction = predict(images, LATENTS, loss=perceptual(convolution))
    np.testing.assert_allclose(factors(prediction), expected_factors(images, convolution), rtol=1e-3)
    assert prediction.setting.loss.decoder == "scores" and "kinks" not in codes(prediction)


def test_the_weights_of_the_fixed_network_stay_as_they_are(images, convolution):
    before = convolution.weight.clone()
    predict(images[:100], 2, loss=perceptual(convolution))
    assert torch.equal(before, convolution.weight)


@pytest.fixture
def without_matrices(monkeypatch):
    """Every loss that couples more than 8 outputs counts as one whose second derivative is no matrix."""
    for module in ("curvature", "scores", "optimum"):
        monkeypatch.setattr(f"phasevae.prediction.own_loss.{module}.DENSE", 8)


def test_products_alone_give_the_same_eigenvalues(images, convolution, without_matrices):
    prediction = predict(images, LATENTS, loss=perceptual(convolution))
    np.testing.assert_allclose(factors(prediction), expected_factors(images, convolution), rtol=2e-3)


def test_products_alone_of_a_metric_in_double_precision(without_matrices):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(600, 40)) * np.geomspace(3, 0.3, 40)
    mixing = np.linalg.qr(rng.normal(size=(40, 40)))[0] * np.linspace(0.5, 2, 40)

    def loss(recon, x, mu, logvar):
        return 0.5 * ((recon - x) @ tensor(mixing)).square().sum(1).mean() + kl(mu, logvar)

    expected = explicit(np.cov((x @ mixing).T, bias=True))[:LATENTS]
    np.testing.assert_allclose(factors(predict(x, LATENTS, loss=loss)), expected, rtol=1e-3)


def test_products_alone_give_as_many_eigenvalues_as_latents(images, convolution, without_matrices):
    prediction = predict(images, 9, loss=perceptual(convolution))
    assert len(prediction.thresholds) == 9
    with pytest.raises(InputError, match="n_latent: 20, must be at most 9 for a loss that couples 49 outputs"):
        predict(images, 20, loss=perceptual(convolution))


def test_products_alone_need_an_encoder_that_sees_everything(images, convolution, without_matrices):
    with pytest.raises(InputError, match="couples too many outputs for an encoder that sees something else"):
        predict(images, LATENTS, loss=perceptual(convolution), input_noise=1.0)


def test_a_metric_of_few_outputs():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(800, 5)) @ rng.normal(size=(5, 5))
    square = rng.normal(size=(5, 5))

    def loss(recon, x, mu, logvar):
        return 0.5 * ((recon - x) @ tensor(square)).square().sum(1).mean() + kl(mu, logvar)

    expected = explicit(np.cov((x @ square).T, bias=True))[:LATENTS]
    np.testing.assert_allclose(factors(predict(x, LATENTS, loss=loss)), expected, rtol=1e-6)


def test_a_mask_in_the_loss_leaves_features_out():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(800, 5)) @ rng.normal(size=(5, 5))
    mask = torch.tensor([1.0, 1.0, 0.0, 1.0, 0.0], dtype=torch.float64)

    def loss(recon, x, mu, logvar):
        return half_sse(recon * mask, x * mask) + kl(mu, logvar)

    prediction = predict(x, 3, loss=loss)
    expected = explicit(np.cov(x[:, [0, 1, 3]].T, bias=True))
    np.testing.assert_allclose(factors(prediction), expected, rtol=1e-6)
    assert "constant-outputs" in codes(prediction)


def test_weights_of_features():
    rng = np.random.default_rng(4)
    x, weights = rng.normal(size=(800, 5)) @ rng.normal(size=(5, 5)), np.array([1.0, 2.0, 0.5, 3.0, 1.0])

    def loss(recon, x, mu, logvar):
        return 0.5 * (tensor(weights) * (recon - x).square()).sum(1).mean() + kl(mu, logvar)

    expected = explicit(np.cov(x.T, bias=True) * np.sqrt(np.outer(weights, weights)))[:LATENTS]
    np.testing.assert_allclose(factors(predict(x, LATENTS, loss=loss)), expected, rtol=1e-6)


def test_a_parametrisation_of_the_output_does_not_matter():
    """Rates, their logarithms and their softplus inverse have one criterion."""
    x = count_rows(800)

    def loss_of(rate):
        def loss(recon, x, mu, logvar):
            return (rate(recon) - x * rate(recon).log()).sum(1).mean() + kl(mu, logvar)

        return loss

    named = factors(predict(x, LATENTS, loss="poisson"))
    for rate in (torch.exp, torch.nn.functional.softplus, lambda recon: recon):
        np.testing.assert_allclose(factors(predict(x, LATENTS, loss=loss_of(rate))), named, rtol=1e-6)


def test_classes_that_are_rare_or_missing():
    """Classes without a row have no optimum; those with few rows are not to be taken for them."""
    rng = np.random.default_rng(5)
    z = rng.normal(size=(1000, 1)) + rng.normal(size=(1000, 4))
    x = np.clip(np.rint(3 * z), -8, 7).astype(np.int64) + 8
    x[x == 3] = 4

    def loss(recon, x, mu, logvar):
        return torch.nn.functional.cross_entropy(recon, x) + kl(mu, logvar)

    prediction = predict(x, LATENTS, loss=loss, output_shape=(16, 4))
    np.testing.assert_allclose(4 * factors(prediction), factors(predict(x, LATENTS, loss="categorical")), rtol=1e-5)
