"""Likelihoods as losses by name, against the same losses written in torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from own_losses import LATENTS, class_rows, count_rows, explicit, factors, gaussian_rows, kl
from torch import distributions as dist
from torch.nn import functional

from phasevae import InputError, predict
from phasevae.artifacts.files import readable_json
from phasevae.datasets.streams import sample_stream
from phasevae.likelihoods.registry import find_likelihood

COUNTS, CLASSES, GAUSSIAN = count_rows(), class_rows(), gaussian_rows()


def negative_binomial(log_mean, x, r=2.0):
    r = torch.as_tensor(r, dtype=torch.float64)
    return -dist.NegativeBinomial(r, logits=log_mean - r.log(), validate_args=False).log_prob(x)


def student_t(recon, x):
    return -dist.StudentT(4.0, recon).log_prob(x)


def gaussian_variance(heads, x):
    mean, log_variance = heads
    return 0.5 * ((x - mean) ** 2 / log_variance.exp() + log_variance + np.log(2 * np.pi))


CASES = {
    "poisson": (COUNTS, {}, lambda r, x: -dist.Poisson(r.exp()).log_prob(x), {}),
    "negative-binomial": (COUNTS, {"dispersion": 2.0}, negative_binomial, {}),
    "multinomial": (COUNTS, {}, lambda r, x: -functional.log_softmax(r, 1) * x, {}),
    "categorical": (
        CLASSES,
        {},
        lambda r, x: functional.cross_entropy(r, x, reduction="none"),
        {"output_shape": (3, 5)},
    ),
    "student-t": (GAUSSIAN, {"df": 4.0, "scale": 1.0}, student_t, {}),
    "gaussian-variance": (GAUSSIAN, {}, gaussian_variance, {"output_shape": [(6,), (6,)]}),
}


@pytest.mark.parametrize("name", CASES)
def test_thresholds_and_log_are_those_of_the_loss_in_torch(name):
    x, options, elements, shapes = CASES[name]

    def loss(recon, x, mu, logvar):
        return elements(recon, x).sum(1).mean() + 0.3 * kl(mu, logvar)

    own = predict(x, LATENTS, loss=loss, **shapes)
    named = predict(x, LATENTS, loss=name, loss_options=options, kl_weight=0.3)
    np.testing.assert_allclose(0.3 * factors(own), factors(named), rtol=1e-6)
    assert own.kl == pytest.approx(named.kl, rel=1e-6)
    if name != "multinomial":  # of which the loss leaves out the coefficient
        assert own.collapsed_log.reconstruction == pytest.approx(named.collapsed_log.reconstruction, rel=1e-6)
        assert own.log.total == pytest.approx(named.log.total, rel=1e-6)


def test_the_criterion_of_poisson_is_the_covariance_in_units_of_the_mean():
    unit = np.sqrt(COUNTS.mean(0))
    expected = explicit(np.cov(COUNTS.T, bias=True) / np.outer(unit, unit))
    np.testing.assert_allclose(factors(predict(COUNTS, LATENTS, loss="poisson")), expected[:LATENTS], rtol=1e-7)


@pytest.mark.parametrize(
    ("loss", "shape"),
    [
        (lambda r, x, mu, lv: functional.cross_entropy(r.reshape(-1, 3), x.reshape(-1)) + 0.2 * kl(mu, lv), (5, 3)),
        (lambda r, x, mu, lv: functional.cross_entropy(r, x) + 0.2 * kl(mu, lv), (3, 5)),
    ],
)
def test_classes_averaged_over_positions(loss, shape):
    own = predict(CLASSES, LATENTS, loss=loss, output_shape=shape)
    named = predict(CLASSES, LATENTS, loss="categorical")
    np.testing.assert_allclose(5 * 0.2 * factors(own), factors(named), rtol=1e-6)


def test_one_token_collapses_at_weight_one():
    def loss(recon, x, mu, logvar):
        return functional.cross_entropy(recon, x) + kl(mu, logvar)

    own = predict(CLASSES[:, 0], LATENTS, loss=loss, output_shape=(3,))
    np.testing.assert_allclose(factors(own), [1, 1], rtol=1e-6)
    named = predict(CLASSES[:, :1], LATENTS, loss="categorical")
    np.testing.assert_allclose(factors(named), [1, 1], rtol=1e-9)


def test_laplace_is_the_absolute_error_up_to_the_width_of_the_differences():
    def loss(recon, x, mu, logvar):
        return (recon - x).abs().sum(1).mean() + kl(mu, logvar)

    own, named = predict(GAUSSIAN, LATENTS, loss=loss), predict(GAUSSIAN, LATENTS, loss="laplace")
    np.testing.assert_allclose(factors(own), factors(named), rtol=0.05)
    assert own.collapsed_log.reconstruction == pytest.approx(named.collapsed_log.reconstruction, rel=1e-6)
    assert named.collapsed_log.reconstruction == pytest.approx(np.abs(GAUSSIAN - np.median(GAUSSIAN, 0)).sum(1).mean())


def test_size_factors_that_are_the_total():
    mean = COUNTS.sum(1).mean()

    def loss(recon, x, mu, logvar):
        size = x.sum(1, keepdim=True) / mean
        return negative_binomial(recon + size.log(), x).sum(1).mean() + kl(mu, logvar)

    options = {"dispersion": 2.0, "size_factors": "total"}
    own, named = predict(COUNTS, 3, loss=loss), predict(COUNTS, 3, loss="negative-binomial", loss_options=options)
    np.testing.assert_allclose(factors(own), factors(named), rtol=1e-6)


def cells() -> np.ndarray:
    """Counts with dropout in every gene."""
    rng = np.random.default_rng(5)
    rates = np.exp(0.3 * rng.normal(size=(1200, 2)) @ rng.normal(size=(2, 6)) + np.linspace(1.5, 2.5, 6))
    counts = rng.poisson(rates * rng.gamma(4, 0.25, size=rates.shape)) * (rng.random(rates.shape) > 0.3)
    return counts[counts.sum(1) > 0].astype(float)


def fitted_dispersion(x, family) -> np.ndarray:
    family = find_likelihood(family, normalised=True, size_factors="total")
    return family.fit(sample_stream(x)).constants["dispersion"]


def library_rates(logits, x):
    """Log means as in scvi-tools: the observed library size times a softmax over genes."""
    return x.sum(1, keepdim=True).log() + functional.log_softmax(logits, 1)


def test_scvi_nb():
    x = cells()
    r = fitted_dispersion(x, "negative-binomial")

    def loss(recon, x, mu, logvar):
        return negative_binomial(library_rates(recon, x), x, r).sum(-1).mean() + kl(mu, logvar)

    own, named = predict(x, LATENTS, loss=loss), predict(x, LATENTS, library="scvi-nb")
    np.testing.assert_allclose(factors(own), factors(named), rtol=1e-4)


def test_scvi_zinb():
    x = cells()
    r = fitted_dispersion(x, "zinb")

    def loss(recon, x, mu, logvar):
        logits, dropout = recon
        count = -negative_binomial(library_rates(logits, x), x, r)
        at_zero = torch.logaddexp(functional.logsigmoid(dropout), functional.logsigmoid(-dropout) + count)
        likelihood = torch.where(x == 0, at_zero, functional.logsigmoid(-dropout) + count)
        return -likelihood.sum(-1).mean() + kl(mu, logvar)

    own = predict(x, LATENTS, loss=loss, output_shape=[(6,), (6,)])
    named = predict(x, LATENTS, library="scvi")
    np.testing.assert_allclose(factors(own), factors(named), rtol=1e-4)


@pytest.mark.parametrize(("alias", "name"), [("gaussian", "half-sse"), ("bernoulli", "bce")])
def test_likelihoods_with_another_name(alias, name):
    x = np.rint(1 / (1 + np.exp(-GAUSSIAN)))
    one, other = (readable_json(predict(x, 2, loss=label).to_json()) for label in (alias, name))
    assert one == other


def test_where_latents_die_is_exact_and_the_rest_to_leading_order():
    prediction = predict(COUNTS, LATENTS, loss="poisson", kl_weight=0.5)
    assert "The weight at which the strongest latent dies is exact" in prediction.advice[0]
    (message,) = (warning.message for warning in prediction.warnings if warning.code == "non-gaussian")
    assert "may survive somewhat above the critical weight" in message


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"loss": "negative-binomial", "loss_options": {"spread": 1}}, "spread: no option of the likelihood"),
        ({"loss": "negative-binomial", "loss_options": {"dispersion": -1.0}}, "dispersion: -1.0, must be"),
        ({"loss": "half-sse", "loss_options": {"sigma2": 1.0}}, "loss_options: sigma2, must be left out for the loss"),
        ({"loss": "poisson", "data": GAUSSIAN}, "must be a count"),
        ({"loss": "poisson", "data": np.zeros((9, 2))}, "is constant"),
        ({"loss": "multinomial", "posterior_std": -1.0}, "posterior_std: -1.0, must be a positive number"),
    ],
)
def test_wrong_options_and_data(options, words):
    options = {"data": COUNTS, "n_latent": 2} | options
    with pytest.raises(InputError, match=words) as error:
        predict(options.pop("data"), options.pop("n_latent"), **options)
    assert "\n" not in str(error.value)
