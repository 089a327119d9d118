"""KL terms that are not the usual KL: what they do to thresholds, KL and the log."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from own_losses import LATENTS, codes, factors, half_sse, kl, kl_of_latents, whitened_rows
from scipy.optimize import brentq, minimize_scalar
from torch.nn import functional

from phasevae import InputError, predict

LAM = np.array([4.0, 2.0, 1.0, 0.5])
TOP = LAM[:LATENTS]
X = whitened_rows(LAM, 1200)


def predicted(term, **options):
    """The prediction for half the squared error with a KL term, and its message about this term."""
    prediction = predict(X, LATENTS, loss=lambda r, x, mu, lv: half_sse(r, x) + term(mu, lv), **options)
    messages = [warning.message for warning in prediction.warnings if warning.code == "kl-term"]
    return prediction, messages[0] if messages else ""


def water_filling(nats):
    """KL of each latent where all together hold a number of nats."""

    def of(level):
        return np.maximum(0, 0.5 * np.log(TOP / level))

    return of(brentq(lambda level: of(level).sum() - nats, 1e-9, LAM[0]))


def test_the_usual_term_is_not_worth_a_warning():
    prediction, message = predicted(lambda mu, lv: 0.3 * kl(mu, lv))
    assert not message and "kl-term" not in codes(prediction)
    np.testing.assert_allclose(0.3 * factors(prediction), TOP, rtol=1e-7)  # rows in single precision


@pytest.mark.parametrize(
    "term",
    [
        lambda mu, lv: 1.5 * kl_of_latents(mu, lv).clamp(min=0.25).sum(1).mean(),
        lambda mu, lv: 1.5 * kl_of_latents(mu, lv).mean(0).clamp(min=0.25).sum(),
        lambda mu, lv: 1.5 * torch.maximum(kl_of_latents(mu, lv), torch.tensor(0.25)).sum() / len(mu),
    ],
)
def test_free_bits_in_each_latent(term):
    prediction, message = predicted(term)
    assert message == "the KL term is not the usual one: free bits: 0.25 nats in each latent cost nothing"

    def cost(nats, lam):
        return 0.5 * lam * np.exp(-2 * nats) + 1.5 * max(nats, 0.25)

    best = [minimize_scalar(cost, bounds=(0, 5), args=(lam,), method="bounded", options={"xatol": 1e-9}) for lam in TOP]
    np.testing.assert_allclose(prediction.kl_per_dim, [result.x for result in best], atol=1e-6)
    assert np.isinf(factors(prediction)).all(), "no weight takes these nats from a latent"
    assert prediction.log.total == pytest.approx(sum(result.fun for result in best) + 0.5 * LAM[3], rel=1e-6)
    assert prediction.collapsed_log.reconstruction == pytest.approx(0.5 * LAM.sum(), rel=1e-6)


def test_free_bits_of_all_latents_together():
    prediction, message = predicted(lambda mu, lv: 1.5 * kl_of_latents(mu, lv).sum(1).clamp(min=2.0).mean())
    assert "free bits: 2 nats of all latents together cost nothing" in message
    np.testing.assert_allclose(prediction.kl_per_dim, water_filling(2.0), rtol=1e-6)
    alive = water_filling(2.0) > 0
    np.testing.assert_allclose(1.5 * factors(prediction), np.where(alive, np.inf, TOP), rtol=1e-6)
    weak = prediction.at(0.1 / 1.5)  # at a small weight KL is above the free nats
    np.testing.assert_allclose(weak.kl_per_dim, 0.5 * np.log(TOP / 0.1), rtol=1e-6)


@pytest.mark.parametrize(
    "distance", [lambda nats: (nats - 1.5).abs(), lambda nats: 5 * (nats - 1.5) ** 2], ids=["absolute", "squared"]
)
def test_a_capacity_is_filled(distance):
    prediction, message = predicted(lambda mu, lv: 100 * distance(kl_of_latents(mu, lv).sum(1).mean()))
    assert "capacity: it draws KL to 1.5 nats" in message
    np.testing.assert_allclose(prediction.kl_per_dim, water_filling(1.5), rtol=1e-5)
    assert prediction.log.kl_term == pytest.approx(0, abs=1e-3)
    assert prediction.log.kl == pytest.approx(1.5, rel=1e-5)


def test_a_weak_capacity_lets_kl_rise_above_it():
    prediction, _ = predicted(lambda mu, lv: 0.1 * (kl_of_latents(mu, lv).sum(1).mean() - 1.5).abs())
    np.testing.assert_allclose(prediction.kl_per_dim, 0.5 * np.log(TOP / 0.1), rtol=1e-5)
    assert prediction.log.kl_term == pytest.approx(0.1 * (prediction.kl - 1.5), rel=1e-5)


def test_a_clamped_log_variance():
    prediction, message = predicted(lambda mu, lv: 0.01 * kl(mu, lv.clamp(-3, 2)))
    assert "its log variance is clamped to [-3, 2]" in message
    np.testing.assert_allclose(0.01 * factors(prediction), TOP, rtol=1e-6)
    q, s = np.exp(-3.0), 0.01
    for lam, found in zip(TOP, prediction.kl_per_dim, strict=True):
        # The best variance of the means at the bound, of lambda q / (m + q) + s m.
        m = np.sqrt(lam * q / s) - q
        assert found == pytest.approx(0.5 * (m + q - 1 + 3), rel=1e-6)
    assert predict(X, LATENTS, beta=0.01, least_logvar=-3.0).kl == pytest.approx(prediction.kl, rel=1e-6)


def test_a_rectified_log_variance():
    prediction, message = predicted(lambda mu, lv: 0.25 * kl(mu, functional.relu(lv)))
    assert "its log variance is rectified at 0" in message
    np.testing.assert_allclose(0.25 * factors(prediction), TOP, rtol=1e-6)
    np.testing.assert_allclose(prediction.kl_per_dim, 0.5 * (np.sqrt(TOP / 0.25) - 1), rtol=1e-6)


def test_a_log_standard_deviation():
    prediction, message = predicted(lambda mu, log_std: 0.5 * kl(mu, 2 * log_std))
    assert "its fourth argument is a log standard deviation" in message
    np.testing.assert_allclose(0.5 * factors(prediction), TOP, rtol=1e-6)
    np.testing.assert_allclose(prediction.kl_per_dim, 0.5 * np.log(TOP / 0.5), rtol=1e-6)


def test_a_variance_instead_of_its_logarithm_is_named():
    with pytest.raises(InputError, match="is its fourth argument the log variance"):
        predicted(lambda mu, variance: kl(mu, variance.log()))


def test_an_average_over_latents():
    prediction, message = predicted(lambda mu, lv: 0.9 * kl_of_latents(mu, lv).mean())
    assert message.endswith("it averages KL over the 3 latents")
    np.testing.assert_allclose(0.3 * factors(prediction), TOP, rtol=1e-6)
    assert prediction.log.kl_term == pytest.approx(0.9 * prediction.kl / LATENTS, rel=1e-6)


def test_uneven_weights_of_latents():
    weights = torch.tensor([2.0, 0.5, 1.0], dtype=torch.float64)
    prediction, message = predicted(lambda mu, lv: (weights * kl_of_latents(mu, lv)).sum(1).mean())
    assert "its weight differs between latents, by a factor of 4" in message
    sorted_weights = np.array([0.5, 1.0, 2.0])
    np.testing.assert_allclose(factors(prediction), TOP / sorted_weights, rtol=1e-6)
    expected = np.maximum(0, 0.5 * np.log(TOP / sorted_weights))
    np.testing.assert_allclose(prediction.kl_per_dim, expected, rtol=1e-6)
    assert prediction.log.kl_term == pytest.approx((sorted_weights * expected).sum(), rel=1e-6)
    error = np.where(expected > 0, sorted_weights, TOP).sum() + LAM[3]
    assert prediction.log.reconstruction == pytest.approx(0.5 * error, rel=1e-6)


@pytest.mark.parametrize(("options", "std"), [({}, 1.0), ({"posterior_std": 0.5}, 0.5)])
def test_a_term_without_logvar_means_a_fixed_variance(options, std):
    prediction, message = predicted(lambda mu, lv: 0.3 * 0.5 * mu.pow(2).sum(1).mean(), **options)
    assert "it does not depend on logvar, as where the posterior variance is fixed" in message
    np.testing.assert_allclose(0.3 * factors(prediction), TOP / std**2, rtol=1e-6)
    np.testing.assert_allclose(prediction.kl_per_dim, 0.5 * std * (np.sqrt(TOP / 0.3) - std), rtol=1e-6)


def test_other_weights_of_mu_and_logvar():
    """The smaller of the two second derivatives decides."""
    prediction, message = predicted(lambda mu, lv: (0.5 * mu**2 + 0.4 * (lv.exp() - lv - 1)).sum(1).mean())
    assert "2 d2/dlogvar2 is 0.8 times d2/dmu2: the smaller of the two decides" in message
    np.testing.assert_allclose(factors(prediction), TOP / 0.8, rtol=1e-3)


def test_a_regulariser_that_is_no_kl():
    with pytest.raises(InputError, match="its regulariser is not the usual KL"):
        predicted(lambda mu, lv: (mu.abs() + lv.abs()).sum(1).mean())


def test_sums_and_means_need_the_batch_size():
    def loss(recon, x, mu, logvar):
        return functional.mse_loss(recon, x) + 0.01 * kl_of_latents(mu, logvar).sum()

    with pytest.raises(InputError, match="batch_size: missing, must be that of the training"):
        predict(X, LATENTS, loss=loss)
    for size in (16, 128):
        prediction = predict(X, LATENTS, loss=loss, batch_size=size)
        # Mean over N D numbers beside a sum over the batch: effective variance D B w / 2.
        np.testing.assert_allclose(4 * size * 0.01 / 2 * factors(prediction), TOP, rtol=1e-6)


def test_a_squared_capacity_costs_its_square_when_collapsed():
    prediction, message = predicted(lambda mu, lv: 5 * (kl_of_latents(mu, lv).sum(1).mean() - 2) ** 2)
    assert "a squared capacity: it draws KL to 2 nats" in message
    assert prediction.collapsed_log.kl_term == pytest.approx(20, rel=1e-6)


def test_latents_without_a_term():
    with pytest.raises(InputError, match="has no KL term for 1 latent, must have one for each"):
        predicted(lambda mu, lv: kl_of_latents(mu, lv)[:, 1:].sum(1).mean())


def test_a_term_of_the_wrong_sign():
    with pytest.raises(InputError, match="its KL term falls with mu, must rise"):
        predicted(lambda mu, lv: -kl(mu, lv))
