"""Limits of the encoder in `predict`: fixed or bounded posterior variances and scaled noise."""

from __future__ import annotations

import numpy as np
import pytest
from own_losses import factors, half_sse, kl, whitened_rows

from phasevae import InputError, predict
from phasevae.theory.limited_encoder import EncoderLimits, limited_modes

LAM = np.array([4.0, 2.0, 1.0, 0.5])


@pytest.fixture(scope="module")
def x():
    return whitened_rows(LAM)


@pytest.mark.parametrize(
    ("options", "factor"),
    [
        ({}, 1.0),
        ({"posterior_std": 0.5}, 4.0),
        ({"posterior_std": 2.0}, 0.25),
        ({"least_logvar": -3.0}, 1.0),
        ({"least_logvar": 0.0}, 1.0),
        ({"least_logvar": np.log(2)}, 0.5),
        ({"noise_scale": 0.5}, 4.0),
        ({"noise_scale": 0.5, "posterior_std": 0.5}, 16.0),
    ],
)
def test_limits_multiply_every_threshold(x, options, factor):
    for named in ({"beta": 0.3}, {"loss": "mean-se", "kl_weight": 0.1}, {"library": "pythae"}):
        limited, free = predict(x, 3, **named, **options), predict(x, 3, **named)
        np.testing.assert_allclose(factors(limited), factor * factors(free), rtol=1e-9)
    own = predict(x, 3, loss=lambda r, x, mu, lv: half_sse(r, x) + kl(mu, lv), **options)
    np.testing.assert_allclose(factors(own), factor * LAM[:3], rtol=1e-7)  # rows in single precision


@pytest.mark.parametrize("options", [{"posterior_std": 0.7}, {"least_logvar": -1.0}, {"noise_scale": 0.6}])
def test_kl_and_error_are_those_of_the_modes(x, options):
    prediction = predict(x, 3, beta=0.4, **options)
    least = float(np.exp(options["least_logvar"])) if "least_logvar" in options else 0.0
    limits = EncoderLimits(options.get("posterior_std"), least, options.get("noise_scale", 1.0))
    modes = limited_modes(LAM[:3], 0.4, limits)
    np.testing.assert_allclose(prediction.kl_per_dim, modes.kl, rtol=1e-7)
    assert prediction.mse == pytest.approx(modes.error.sum() + LAM[3], rel=1e-7)


def test_thresholds_are_where_latents_die(x):
    prediction = predict(x, 3, sigma2=0.4, posterior_std=0.5)
    for threshold in prediction.thresholds:
        alive, dead = (prediction.at(threshold.kl_weight * part).active_dims for part in (1 - 1e-6, 1 + 1e-6))
        assert alive == threshold.latents > dead


def test_the_advice_says_what_the_limit_does(x):
    lines = " ".join(predict(x, 3, beta=1.0, posterior_std=2.0).advice)
    assert "noise of standard deviation 2 instead of 1: every threshold is 0.25 times" in lines
    assert "Less noise keeps more latents" in lines
    assert "threshold is" not in " ".join(predict(x, 3, beta=1.0).advice)
    assert "learned decoder variance" not in lines


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"beta": 1.0, "posterior_std": 0}, "posterior_std: 0, must be a positive number"),
        ({"beta": 1.0, "posterior_std": 1.0, "least_logvar": -2.0}, "least_logvar: -2.0, cannot be given together"),
        ({"beta": 1.0, "least_logvar": "low"}, "least_logvar: 'low', must be a number"),
        ({"beta": 1.0, "noise_scale": 1.5}, "noise_scale: 1.5, must be at most 1.4"),
        ({"beta": 1.0, "noise_scale": 0.0}, "noise_scale: 0.0, must be a positive number"),
        ({"loss": "gaussian-nll", "posterior_std": 0.5}, "loss gaussian-nll: learns its variance, for which limits"),
        ({"library": "scvi-normal", "noise_scale": 0.5}, "loss scvi-normal: learns its variance, for which limits"),
        ({"loss": "gaussian-nll", "input_noise": 0.5}, "loss gaussian-nll: learns its variance, for which limits"),
    ],
)
def test_wrong_limits(x, options, words):
    with pytest.raises(InputError, match=words):
        predict(x, 2, **options)


def test_every_sentence_counts_the_limits_of_the_encoder(x):
    prediction = predict(x, 3, sigma2=1.3 * LAM[0], posterior_std=0.5)
    assert prediction.verdict != "collapsed"
    assert prediction.effective_variance / prediction.critical_variance == pytest.approx(1.3 * 0.25)
    assert "0.325 times the critical one" in prediction.advice[0]
    assert not {"sampling-error", "first-order"} & {warning.code for warning in prediction.warnings}


def test_the_log_has_the_kl_of_a_variance_that_is_not_free(x):
    prediction = predict(x, 3, beta=50.0, posterior_std=2.0)
    constant = 3 * 0.5 * (4 - 1 - np.log(4))
    assert prediction.verdict == "collapsed" and prediction.kl == 0
    assert (prediction.log.kl, prediction.log.kl_term) == pytest.approx((constant, 50 * constant))


def test_the_monitor_leaves_out_the_kl_of_a_variance_that_is_not_free(x):
    import torch

    from phasevae import CollapseMonitor

    monitor = CollapseMonitor(predict(x, 3, beta=50.0, posterior_std=0.5))
    monitor.update(torch.zeros(10, 3), torch.full((10, 3), 2 * np.log(0.5)))
    report = monitor.end_epoch()
    assert report.active_units == 0 and report.kl == pytest.approx(0, abs=1e-6)
