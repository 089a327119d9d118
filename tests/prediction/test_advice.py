"""The headline of a prediction, and the further advice."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phasevae.prediction.libraries import LIBRARIES
from phasevae.prediction.losses import LOSSES
from phasevae.prediction.predict import Prediction, predict
from phasevae.spectrum.spectrum import Spectrum, assemble_spectrum

FOUR = (4.0, 2.0, 1.0, 0.5)


def spectrum(*eigenvalues: float) -> Spectrum:
    lam = np.array(eigenvalues)
    return assemble_spectrum(lam, float(lam.sum()), 10_000, np.zeros(lam.size), np.zeros(lam.size), None)


def predicted(n_latent: int, eigenvalues: tuple[float, ...] = FOUR, **loss) -> Prediction:
    return predict(spectrum(*eigenvalues), n_latent, **loss)


COLLAPSE = "Your VAE will collapse: "


@pytest.mark.parametrize(
    ("prediction", "expected"),
    [
        # Collapsed
        (
            predicted(3, loss="mean-se", kl_weight=6.8),
            COLLAPSE + "its KL weight 6.8 is 3.4 times the critical 2, at which the last latent dies. "
            "Use a KL weight below 0.5 to keep all 3 latents.",
        ),
        (
            predicted(2, loss="sse", kl_weight=96.0),
            COLLAPSE + "its KL weight 96 is 12 times the critical 8, at which the last latent dies. "
            "Use a KL weight below 4 to keep both latents.",
        ),
        (
            predicted(1, loss="half-sse", kl_weight=1e5),
            COLLAPSE + "its KL weight 100000 is 25000 times the critical 4. "
            "Use a KL weight below 4 to keep the latent.",
        ),
        (
            predicted(2, beta=4.0),
            COLLAPSE + "its KL weight reaches the critical value 4. Use a KL weight below 2 to keep both latents.",
        ),
        (
            predicted(2, sigma2=5.2),
            COLLAPSE + "its decoder variance 5.2 is 1.3 times the critical 4, at which the last latent dies. "
            "Use a decoder variance below 2 to keep both latents.",
        ),
        (
            predicted(3, sigma2=4.1),
            COLLAPSE + "its decoder variance reaches the critical value 4. "
            "Use a decoder variance below 1 to keep all 3 latents.",
        ),
        # Some latents are active
        (
            predicted(3, loss="half-sse", kl_weight=1.5),
            "2 of 3 latents will carry information (0.634 nats). Use a KL weight below 1 to keep all 3.",
        ),
        (
            predicted(2, loss="half-sse", kl_weight=3.0),
            "1 of 2 latents will carry information (0.144 nats). Use a KL weight below 2 to keep both.",
        ),
        (
            predicted(3, sigma2=0.5, beta=3.0),
            "2 of 3 latents will carry information (0.634 nats). Use a decoder variance below 0.333 to keep all 3.",
        ),
        # All are active
        (predicted(3, loss="half-sse", kl_weight=0.1), "All 3 latents will carry information (4.49 nats)."),
        (predicted(2, loss="half-sse", kl_weight=0.1), "Both latents will carry information (3.34 nats)."),
        (predicted(1, loss="half-sse", kl_weight=0.1), "The latent will carry information (1.84 nats)."),
        # More latents than directions in which the data vary
        (
            predicted(6, loss="half-sse", kl_weight=0.1),
            "4 of 6 latents will carry information (5.3 nats): the data vary in only 4 directions.",
        ),
        (
            predicted(6, loss="half-sse", kl_weight=1.5),
            "2 of 6 latents will carry information (0.634 nats). "
            "Use a KL weight below 0.5 to keep 4: the data vary in only 4 directions.",
        ),
        (
            predicted(6, loss="half-sse", kl_weight=8.0),
            COLLAPSE + "its KL weight 8 is 2.0 times the critical 4, at which the last latent dies. "
            "Use a KL weight below 0.5 to keep 4 latents: the data vary in only 4 directions.",
        ),
        (
            predicted(2, (4.0, 0.0), loss="half-sse", kl_weight=8.0),
            COLLAPSE + "its KL weight 8 is 2.0 times the critical 4. "
            "Use a KL weight below 4 to keep 1 latent: the data vary in only 1 direction.",
        ),
        # A learned decoder variance
        (predicted(2, loss="gaussian-nll"), "Both latents will carry information (1.33 nats)."),
        (
            predicted(2, loss="gaussian-nll", kl_weight=1.7),
            "1 of 2 latents will carry information (0.218 nats). Use a KL weight below 1.45 to keep both.",
        ),
        (
            predicted(2, loss="gaussian-nll", kl_weight=4.0),
            COLLAPSE + "its KL weight 4 is 1.9 times the critical 2.13, at which the last latent dies. "
            "Use a KL weight below 1.45 to keep both latents.",
        ),
        # With as many latents as directions, the likelihood has no bound at small KL weights
        (
            predicted(4, loss="gaussian-nll"),
            "The learned variance will shrink to zero and KL will grow without limit. "
            "Give the variance a lower limit, or use at most 3 latents.",
        ),
        (
            predicted(1, (4.0,), loss="gaussian-nll"),
            "The learned variance will shrink to zero and KL will grow without limit. Give the variance a lower limit.",
        ),
        (
            predicted(5, loss="gaussian-nll", kl_weight=1.7),
            "1 of 5 latents will carry information (0.218 nats). Use a KL weight below 1.14 to keep 3.",
        ),
        (
            predicted(1, (4.0,), loss="gaussian-nll", kl_weight=2.0),
            COLLAPSE + "its KL weight 2 is 2.0 times the critical 1.",
        ),
    ],
)
def test_headline(prediction, expected):
    assert prediction.headline == expected
    assert prediction.to_json()["headline"] == expected


def test_headline_of_one_learned_variance_per_feature():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3000, 1)) * np.ones(6) + rng.normal(size=(3000, 6))
    alive, dead = (predict(x, 1, library="scvi-normal", kl_weight=weight).headline for weight in (1.0, 8.0))
    assert alive.startswith("The latent will carry information (")
    assert dead.startswith("Your VAE will collapse: its KL weight 8 is 2.3 times the critical 3.")
    # A small KL weight lets one latent explain a single feature completely.
    without_limit = predict(x, 3, library="scvi-normal", kl_weight=0.05).headline
    assert without_limit == (
        "The learned variance of at least one feature will shrink to zero and KL will grow without limit. "
        "Give the variances a lower limit."
    )


def test_headline_of_cross_entropy():
    """Two pairs of equal pixels: both eigenvalues in units of p (1 - p) are 2, and the loss averages over 4 pixels."""
    x = np.array([[a, a, b, b] for a in (0.0, 1.0) for b in (0.0, 1.0)])
    remedy = "its KL weight 1 is 2.0 times the critical 0.5. Use a KL weight below 0.5 to keep the latent."
    assert predict(x, 1, loss="mean-bce").headline == f"{COLLAPSE}{remedy}"


@given(
    st.lists(st.floats(0.01, 10), min_size=2, max_size=6),
    st.integers(1, 6),
    st.sampled_from(["half-sse", "mean-se", "mean-se-mean-kl", "gaussian-nll"]),
    st.floats(0.01, 30),
)
def test_the_kl_weight_of_the_headline_keeps_as_many_latents_as_it_says(lam, n, loss, weight):
    prediction = predicted(n, tuple(sorted(lam, reverse=True)), loss=loss, kl_weight=weight)
    remedy = prediction.headline.partition("Use a KL weight below ")[2]
    if not remedy:
        return
    limit, kept = remedy.split(" to keep ")
    words = kept.rstrip(".").split(":")[0].split()
    latents = {"the": 1, "both": 2, "all": n}.get(words[0]) or int(words[0])
    assert prediction.at(float(limit) * (1 - 1e-5)).active_dims >= latents > prediction.active_dims


@pytest.mark.parametrize(
    ("n", "options", "words"),
    [
        (3, {"loss": "mean-se"}, ["Your loss averages over 4 features: the KL weight 1 is an effective variance of 2"]),
        (
            3,
            {"loss": "mean-se", "kl_weight": 3.0},
            [
                "1.5 times the critical one",
                "the decoder gives the mean of the data",
                "A KL weight below 2 keeps one latent; yours is 3.",
                "then an effective variance of 1.5 and keeps 2 of 3",
                "Annealing does not help",
            ],
        ),
        (3, {"loss": "mean-se-mean-kl"}, ["and KL over 3 latents"]),
        (3, {"loss": "mean-se-mean-kl", "kl_weight": 7.0}, ["sum the reconstruction loss over features, and KL over"]),
        (3, {"loss": "sse"}, ["would settle at 0.5 with 3 of 3 latents active, as the KL weight 1 does in your loss"]),
        (
            3,
            {"sigma2": 0.9},
            ["The weakest latent dies at a KL weight of 1.111, the strongest at 4.444", "A learned decoder"],
        ),
        (1, {"beta": 0.9}, ["The latent dies at a KL weight of 4."]),
        (3, {"loss": "gaussian-nll"}, ["The learned variance settles at 0.5"]),
        (3, {"sigma2": 1.5}, ["With this loss 2 latents would do as well as 3"]),
        (3, {"sigma2": 3.0}, ["With this loss 1 latent would do as well as 3"]),
        (
            5,
            {"loss": "gaussian-nll", "kl_weight": 1.7},
            ["there are 5 latents: with a KL weight of 1 or less the learned variance would shrink to zero"],
        ),
        (4, {"beta": 1.0}, ["A learned decoder variance would shrink to zero with this many latents"]),
    ],
)
def test_advice(n, options, words):
    advice = " ".join(predicted(n, **options).advice)
    for word in words:
        assert word in advice


def test_advice_about_one_learned_variance_per_feature():
    x = np.random.default_rng(0).normal(size=(500, 3)) @ np.array([[1.0, 0.5, 0.0], [0.0, 1.0, 0.5], [0.5, 0.0, 1.0]])
    assert any("Each feature learns its variance" in line for line in predict(x, 1, library="scvi-normal").advice)


@pytest.mark.parametrize("weight", [0.01, 1.5, 3.0, 30.0])
@pytest.mark.parametrize("n", [1, 2, 3, 6])
def test_the_advice_does_not_repeat_the_headline(n, weight):
    for loss in ("half-sse", "mean-se", "gaussian-nll"):
        prediction = predicted(n, loss=loss, kl_weight=weight)
        advice = " ".join(prediction.advice)
        assert "will carry information" not in advice and "will collapse" not in advice
        assert f"to keep {n}" not in advice and f"keeps all {n}" not in advice


def test_every_loss_has_a_headline_and_advice():
    x = np.repeat(np.random.default_rng(0).random((500, 3)) < 0.5, 2, axis=1).astype(float)
    losses = [{"loss": name} for name in LOSSES] + [{"library": name} for name in LIBRARIES]
    for options in losses:
        prediction = predict(0.5 * x if options == {"library": "scvi-normal"} else x, 2, **options)
        assert prediction.headline.endswith(".") and prediction.advice
        for line in (prediction.headline, *prediction.advice):
            assert "nan" not in line and "inf " not in line


def test_the_headline_follows_the_kl_weight():
    prediction = predicted(2, beta=5.0)
    assert prediction.at(0.1).headline == "Both latents will carry information (3.34 nats)."
    assert replace(prediction.setting, kl_weight=0.1) == prediction.at(0.1).setting
