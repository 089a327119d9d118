"""Data and networks that a loss is not meant for: raw counts, conditions, scaled noise."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch

from phasevae import CollapseMonitor, InputError, predict
from phasevae.prediction.conditions import conditions_of_encoder, conditions_of_loss
from phasevae.prediction.libraries import LIBRARIES
from phasevae.prediction.reports import report_on
from phasevae.theory.ppca import ACTIVE_KL

RNG = np.random.default_rng(0)
FACTOR = RNG.normal(size=(3000, 1))
COUNTS = RNG.poisson(np.exp(1.0 + 0.4 * FACTOR * np.linspace(-1, 1, 8)) * RNG.gamma(4, 0.25, (3000, 8)))
CORRECTED = np.log1p(COUNTS / COUNTS.sum(1, keepdims=True) * 50)


def codes(prediction):
    return [warning.code for warning in prediction.warnings]


def test_scvi_takes_raw_counts_as_counts():
    """The preset is the zero-inflated negative binomial of shares of the library size, as by its own name."""
    library = predict(COUNTS, 2, library="scvi")
    named = predict(COUNTS, 2, loss="zinb", loss_options={"normalised": True, "size_factors": "total"})
    assert library.critical_kl_weight == pytest.approx(named.critical_kl_weight)
    correlation = np.linalg.eigvalsh(np.corrcoef(COUNTS.T))[-1]
    assert abs(np.log(library.critical_kl_weight / correlation)) > 0.05  # what counts taken as normal would give


@pytest.mark.parametrize(
    ("data", "library", "line"),
    [
        (
            COUNTS,
            "scvi-normal",
            "data: whole numbers, which look like raw counts, must be corrected for library ",
        ),
        (
            CORRECTED,
            "scvi",
            "data: not whole numbers, 0 or more, must be raw counts for the library scvi (or ",
        ),
        (
            -COUNTS,
            "scvi-nb",
            "data: not whole numbers, 0 or more, must be raw counts for the library scvi-nb (or ",
        ),
    ],
)
def test_the_other_kind_of_data_is_refused(data, library, line):
    with pytest.raises(InputError) as error:
        predict(data, 2, library=library)
    assert str(error.value).startswith(line) and "\n" not in str(error.value)
    other = str(error.value).rpartition("the library ")[2].rstrip(")")
    if data is not -COUNTS and library != "scvi-nb":
        assert predict(data, 2, library=other).critical_kl_weight > 0


def test_the_corrected_values_of_scvi_are_taken_as_normal():
    assert predict(CORRECTED, 2, library="scvi-normal").critical_kl_weight == pytest.approx(
        np.linalg.eigvalsh(np.corrcoef(CORRECTED.T))[-1], rel=1e-5
    )


# Conditions


def loss_of(recon, x, mu, logvar, *, c=None, beta=1.0):
    return (recon - x).square().sum(1).mean() - 0.5 * (1 + logvar - mu**2 - logvar.exp()).sum(1).mean()


@pytest.mark.parametrize(
    ("signature", "conditions"),
    [
        (lambda recon, x, mu, logvar: 0, ""),
        (lambda recon, x, mu, logvar, beta=1.0, reduction="sum": 0, ""),
        (lambda recon, x, mu, logvar, c=None: 0, "c"),
        (lambda recon, x, mu, logvar, labels=None, batch_index=None: 0, "labels and batch_index"),
        (lambda *inputs: 0, ""),
        (lambda recon, x, mu, logvar, *more, condition=None: 0, "condition"),
        (lambda recon, x, mu, logvar, **more: 0, ""),
        (loss_of, "c"),
        (functools.partial(loss_of, beta=2.0), "c"),
        (min, ""),
    ],
)
def test_conditions_are_found_by_name(signature, conditions):
    assert conditions_of_loss(signature) == conditions


def test_a_loss_that_needs_more_is_refused_in_one_line():
    def loss(recon, x, mu, logvar, c, weights):
        return recon.sum()

    with pytest.raises(InputError, match=r"^loss loss: needs c, weights as well, must take \(recon, x, mu, logvar\)"):
        predict(CORRECTED, 2, loss=loss)


def test_conditional_models_are_warned_about():
    prediction = predict(CORRECTED, 2, loss=loss_of)
    (message,) = (warning.message for warning in prediction.warnings if warning.code == "conditional")
    assert "can be given c as well" in message and "model without them" in message
    assert "conditional" not in codes(predict(CORRECTED, 2, loss="sse"))
    for name, preset in LIBRARIES.items():
        assert bool(preset.conditions) == (name.startswith("scvi") or name == "act")


def test_the_advice_for_a_condition_is_the_criterion_of_an_additive_decoder():
    """Samples less the mean of their condition have the pooled covariance within conditions."""
    condition = RNG.integers(0, 3, 3000)
    x = RNG.normal(size=(3000, 4)) * [1.2, 1.0, 0.8, 0.6] + RNG.normal(size=(3, 4))[condition] * 2
    means = np.stack([x[condition == c].mean(0) for c in range(3)])
    within = np.linalg.eigvalsh(np.cov((x - means[condition]).T, bias=True))[-1]
    assert predict(x - means[condition], 2, beta=1.0).critical_kl_weight == pytest.approx(within, rel=1e-5)
    assert within < predict(x, 2, beta=1.0).critical_kl_weight


class Encoder(torch.nn.Module):
    def forward(self, x, labels, scale=1.0):
        return x[:, :2] * scale, torch.zeros(len(x), 2)


def test_the_monitor_warns_about_a_conditional_encoder():
    assert conditions_of_encoder(Encoder().forward) == "labels"
    assert conditions_of_encoder(torch.nn.Linear(2, 2).forward) == ""
    monitor = CollapseMonitor(predict(CORRECTED, 2, loss="sse"), encoder="")
    with pytest.warns(UserWarning, match="the encoder takes labels as well: the prediction is for a model without"):
        monitor.watch(Encoder())
    monitor.unwatch()


# Noise


def test_with_little_noise_a_small_kl_is_no_collapse():
    """A linear VAE whose decoder sees mu + 0.01 sigma noise: errors of an autoencoder at a KL of 0.01 nats."""
    x = RNG.normal(size=(4000, 3)) * [2.0, 1.0, 0.5]
    prediction = predict(x, 3, beta=1.0, noise_scale=0.01)
    assert prediction.active_dims == 3 and prediction.kl < 0.05
    assert prediction.mse < 0.05 * prediction.setting.spectrum.trace
    (line,) = (line for line in prediction.advice if "a small KL is no sign of collapse" in line)
    share = prediction.mse / prediction.setting.spectrum.trace
    assert f"is {float(f'{share:.3g}'):g} times that of the collapsed state" in line
    limits = prediction.setting.limits
    assert prediction.kl_per_dim.min() > limits.active_kl
    assert not any("whatever the latents are" in line for line in prediction.advice)
    report = report_on(prediction.kl_per_dim, [], prediction, 1.0)
    assert (report.active_units, report.status) == (3, "ok")
    assert predict(x, 3, beta=1.0).setting.limits.active_kl == pytest.approx(ACTIVE_KL)
