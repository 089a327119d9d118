"""Predictions with an eigenvalue at the effective variance: rounding changes no verdict and no count."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phasevae import CollapseMonitor
from phasevae.prediction.libraries import find_loss
from phasevae.prediction.optimum import Setting
from phasevae.prediction.predict import Prediction, predict, prediction_of
from phasevae.spectrum.spectrum import Spectrum, assemble_spectrum
from phasevae.theory.learned_variance import learned_threshold

LAM = np.array([4.0, 2.0, 1.0, 0.5])
LATENTS = 3


def ulps(value: float, steps: int) -> float:
    return value + steps * np.spacing(value)


def spectrum(lam: np.ndarray) -> Spectrum:
    return assemble_spectrum(lam, float(lam.sum()), 10_000, np.zeros(lam.size), np.zeros(lam.size), None)


def options_at(latent: int, name: str) -> dict:
    """A loss whose effective variance is the eigenvalue of this latent."""
    value = float(LAM[latent - 1])
    return {
        "sigma2": {"sigma2": value},
        "sigma2 and beta": {"sigma2": value / 0.3, "beta": 0.3},
        "beta": {"beta": value},
        "mean-se": {"loss": "mean-se", "kl_weight": value / 2},
        "mean-se-mean-kl": {"loss": "mean-se-mean-kl", "kl_weight": LATENTS * value / 2},
        "gaussian-nll": {"loss": "gaussian-nll", "kl_weight": learned_threshold(LAM, latent, LATENTS)},
    }[name]


NAMES = ("sigma2", "sigma2 and beta", "beta", "mean-se", "mean-se-mean-kl", "gaussian-nll")
few = st.integers(-8, 8)


def facts(prediction: Prediction) -> tuple:
    """Everything in a prediction that is not a number which may change by rounding."""
    codes = [warning.code for warning in prediction.warnings]
    alive = (prediction.kl_per_dim > 0).tolist()
    lines = prediction.headline, *prediction.advice
    return prediction.verdict, prediction.active_dims, alive, len(prediction.thresholds), codes, lines


@pytest.mark.parametrize("name", NAMES)
@given(st.integers(1, LATENTS), few)
def test_an_eigenvalue_at_the_threshold_may_differ_by_rounding(name, latent, steps):
    lam = LAM.copy()
    lam[latent - 1] = ulps(lam[latent - 1], steps)
    prediction = predict(spectrum(lam), LATENTS, **options_at(latent, name))
    assert facts(prediction) == facts(predict(spectrum(LAM), LATENTS, **options_at(latent, name)))
    assert prediction.active_dims == latent - 1
    assert prediction.verdict == ("collapsed" if latent == 1 else "partial")
    assert np.all(prediction.kl_per_dim[latent - 1 :] == 0)


@pytest.mark.parametrize("name", NAMES)
@given(st.integers(1, LATENTS), few)
def test_each_threshold_is_where_its_latent_is_dead(name, latent, steps):
    prediction = predict(spectrum(LAM), LATENTS, **options_at(1, name))
    weight = prediction.thresholds[latent - 1].kl_weight
    assert prediction.at(ulps(weight, steps)).active_dims == latent - 1
    assert prediction.at(weight * (1 - 1e-6)).active_dims == latent
    assert prediction.at(prediction.critical_kl_weight).verdict == "collapsed"


# Factor analysis converges slowly at its critical weight.
@settings(max_examples=2)
@given(few, few)
def test_one_learned_variance_per_feature_at_its_critical_weight(a, b):
    correlation = np.array([[1.0, 0.6, 0.2], [0.6, 1.0, 0.3], [0.2, 0.3, 1.0]])
    lam = np.linalg.eigvalsh(correlation)[::-1]
    setting = Setting(
        find_loss(library="scvi-normal"), 2, ulps(lam[0], b), spectrum(lam), None, np.ones(3), correlation
    )
    scaled = correlation * ulps(1.0, a)
    predictions = [prediction_of(setting), prediction_of(Setting(*list(vars(setting).values())[:-1], scaled))]
    assert [prediction.verdict for prediction in predictions] == ["collapsed", "collapsed"]
    assert predictions[0].kl == predictions[1].kl == 0


@given(few)
def test_a_direction_at_the_effective_variance_raises_no_warning_about_few_latents(steps):
    lam = LAM.copy()
    lam[2] = ulps(lam[2], steps)
    assert "few-latents" not in {warning.code for warning in predict(spectrum(lam), 2, beta=1.0).warnings}
    assert "few-latents" in {warning.code for warning in predict(spectrum(lam), 2, beta=1 - 1e-6).warnings}


@pytest.mark.parametrize("steps", [-4, 0, 4])
def test_the_monitor_expects_collapse_at_the_critical_weight(steps):
    monitor = CollapseMonitor(predict(spectrum(LAM), 2, beta=1.0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        monitor.update(np.full((5, 2), 0.5), np.zeros((5, 2)))
        report = monitor.end_epoch(kl_weight=ulps(4.0, steps))
    assert (report.status, report.predicted_kl, report.predicted_active_units) == ("expected-collapse", 0, 0)
