"""Schedules of the KL weight and target KL in `predict`."""

from __future__ import annotations

import numpy as np
import pytest
from own_losses import LATENTS, codes, count_rows, gaussian_rows, half_sse, kl

from phasevae import InputError, predict

X = gaussian_rows()


def loss(recon, x, mu, logvar):
    return half_sse(recon, x) + 0.5 * kl(mu, logvar)


@pytest.mark.parametrize(
    ("schedule", "length", "weight", "warns"),
    [
        ("linear:0,1.5,100", None, 1.5, False),
        ("linear:0,1.5,100", 200, 1.5, False),
        ("linear:0,1.5,100", 50, 0.75, True),
        ("cosine:0,1.5,100", 50, 0.75, True),
        ("cyclic:0,2,10", None, 2.0, False),
        ("cyclic:0,2,10", 40, 2.0, False),
        ("cyclic:0,2,10", 42, 0.8, True),
        ("cyclic:0,2,10,1", 45, 1.0, True),
    ],
)
def test_the_weight_at_the_end_decides(schedule, length, weight, warns):
    for options in ({"loss": "half-sse"}, {"loss": loss}):
        scheduled = predict(X, LATENTS, kl_schedule=schedule, training_length=length, **options)
        fixed = predict(X, LATENTS, kl_weight=weight, **options)
        assert scheduled.setting.kl_weight == pytest.approx(weight)
        assert scheduled.kl == pytest.approx(fixed.kl)
        assert ("schedule" in codes(scheduled)) == warns


def test_the_warning_names_both_weights():
    prediction = predict(X, LATENTS, loss="half-sse", kl_schedule="linear:0,1.5,100", training_length=50)
    (message,) = (warning.message for warning in prediction.warnings if warning.code == "schedule")
    assert message == ("the training ends at 50 with the KL weight 0.75, not with 1.5: the schedule is not over")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kl_schedule": "linear:0,1,10", "kl_weight": 1.0}, "kl_schedule: cannot be given together with kl_weight"),
        ({"kl_schedule": "linear:0,1"}, "kl_schedule: 'linear:0,1', must be linear:START,END,LENGTH"),
        ({"training_length": 5.0}, "training_length: goes with a kl_schedule"),
        ({"kl_schedule": "linear:0,1,10", "training_length": -1}, "training_length: -1, must be a positive number"),
        ({"kl_schedule": "linear:1,0,10"}, "kl_schedule: END 0.0, must be a positive number"),
    ],
)
def test_wrong_schedules(options, words):
    with pytest.raises(InputError, match=words):
        predict(X, 2, loss="half-sse", **options)


SETTINGS = {
    "half-sse": {"loss": "half-sse"},
    "own": {"loss": loss},
    "gaussian-nll": {"loss": "gaussian-nll"},
    "fixed variance": {"beta": 1.0, "posterior_std": 0.7},
    "noise": {"beta": 1.0, "input_noise": 0.5},
}


@pytest.mark.parametrize("label", SETTINGS)
@pytest.mark.parametrize("wanted", [0.05, 0.7, 3.0])
def test_the_weight_for_a_kl_gives_this_kl(label, wanted):
    prediction = predict(X, LATENTS, **SETTINGS[label])
    weight = prediction.kl_weight_for(wanted)
    assert prediction.at(weight).kl == pytest.approx(wanted, rel=1e-6)


def test_the_weight_for_a_kl_of_counts():
    prediction = predict(count_rows(), LATENTS, loss="poisson")
    assert prediction.at(prediction.kl_weight_for(1.0)).kl == pytest.approx(1.0)


@pytest.mark.parametrize("kl_wanted", [0.0, -1.0, float("nan"), float("inf"), "much"])
def test_a_kl_must_be_positive(kl_wanted):
    with pytest.raises(InputError, match=r"target_kl: .*, must be a positive number"):
        predict(X, 2, loss="half-sse").kl_weight_for(kl_wanted)


def test_a_kl_that_takes_a_weight_of_no_use():
    """A weight of 1e-12 times the critical one gives ln(1e12) / 2 = 13.8 nats of a latent."""
    prediction = predict(X, 1, loss="half-sse")
    with pytest.raises(
        InputError, match=r"15 nats, must be at most 13\.7; more takes a KL weight below .*e-1[12], which"
    ):
        prediction.kl_weight_for(15)
    assert prediction.at(prediction.kl_weight_for(13.7)).kl == pytest.approx(13.7)


def test_a_kl_beyond_which_it_has_no_limit():
    """With a latent for each direction the learned variance shrinks to zero from some weight on."""
    prediction = predict(X, X.shape[1], loss="gaussian-nll")
    with pytest.raises(InputError, match=r"target_kl: 500 nats, must be at most \d+\.?\d*; no KL weight") as raised:
        prediction.kl_weight_for(500)
    most = float(str(raised.value).partition("at most ")[2].partition(";")[0])
    assert prediction.at(prediction.kl_weight_for(most)).kl == pytest.approx(most)


def test_a_kl_that_jumps_from_zero_to_no_bound():
    """One direction and one learned variance: below the critical weight the decoder's variance shrinks to zero."""
    prediction = predict(X[:, :1], 1, loss="gaussian-nll")
    with pytest.raises(InputError, match=r"target_kl: 1 nats, must be left out, as every KL here is 0 or has no bound"):
        prediction.kl_weight_for(1)


def test_free_bits_cost_nothing_at_any_weight():
    def free(recon, x, mu, logvar):
        each = 0.5 * (mu**2 + logvar.exp() - logvar - 1)
        return half_sse(recon, x) + each.clamp(min=0.5).sum(1).mean()

    prediction = predict(X, 2, loss=free)
    assert prediction.at(prediction.kl_weight_for(2.5)).kl == pytest.approx(2.5)
    with pytest.raises(InputError, match=r"target_kl: 0\.3 nats, must be more than the 1 that every KL weight leaves"):
        predict(X, 2, loss=free).kl_weight_for(0.3)


def test_kl_falls_with_the_weight():
    prediction = predict(X, LATENTS, loss="half-sse")
    weights = [prediction.kl_weight_for(kl) for kl in (0.1, 1.0, 2.0, 5.0)]
    assert np.all(np.diff(weights) < 0) and weights[0] < prediction.critical_kl_weight
