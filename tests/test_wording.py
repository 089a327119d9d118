"""How messages say numbers and names."""

from __future__ import annotations

import math
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phasevae.errors import no_such_choice
from phasevae.prediction.libraries import LIBRARIES, LIBRARY_SYNONYMS
from phasevae.prediction.losses import LOSS_NAMES, LOSS_SYNONYMS
from phasevae.prediction.predict import predict
from phasevae.wording import MOST_DIGITS, counted, nats, plain, rounded, suggestion, with_error


@pytest.mark.parametrize(
    ("n", "words", "said"),
    [(1, ("latent",), "1 latent"), (0, ("latent",), "0 latents"), (2, ("class", "classes"), "2 classes")],
)
def test_plurals(n, words, said):
    assert counted(n, *words) == said


def test_the_unit_of_kl():
    assert (nats("1"), nats("1.5"), nats("0")) == ("1 nat", "1.5 nats", "0 nats")


@pytest.mark.parametrize(
    ("value", "error", "said"),
    [
        (0.15841, 0.00123, "0.1584 +- 0.0012"),
        (9.52998, 0.26, "9.53 +- 0.26"),
        (73406.9, 2400, "73400 +- 2400"),
        (0.2, 0.01, "0.200 +- 0.010"),
        (7.36, 12, "7 +- 12"),
        (1.23456e-7, 1e-9, "1.235e-07 +- 1e-09"),
        (0.2978118, math.nan, "0.2978"),
        (32.0, 0.0, "32"),
        (math.inf, 1.0, "inf +- 1"),
    ],
)
def test_numbers_with_their_errors(value, error, said):
    assert with_error(value, error) == said


@given(st.floats(1e-9, 1e9), st.floats(1e-9, 1e9), st.sampled_from([1, -1]))
def test_a_number_is_rounded_to_a_tenth_of_its_error(value, error, sign):
    text = rounded(sign * value, error)
    digits = Decimal(text).as_tuple().digits
    assert len(str(int("".join(map(str, digits)) or 0))) <= MOST_DIGITS + 1
    least = max(0.05 * error, 0.6 * 10 ** (math.floor(math.log10(value)) - MOST_DIGITS + 1))
    at_least_one_digit = 0.5 * 10 ** math.floor(math.log10(value)) if error > value else 0
    assert abs(float(text) - sign * value) <= max(least * (1 + 1e-9), at_least_one_digit * 1.01)


@given(st.floats(-1e12, 1e12, allow_subnormal=False))
def test_a_number_of_unknown_error_has_four_digits(value):
    assert float(plain(value)) == pytest.approx(value, rel=5e-4)


@pytest.mark.parametrize(
    ("loss", "meant"),
    [
        ("mse", "'mean-se'"),
        ("MSE", "'mean-se'"),
        ("mse_loss", "'mean-se'"),
        ("L1", "'laplace'"),
        ("mae", "'laplace'"),
        ("l2", "'sse'"),
        ("nll", "'gaussian-nll'"),
        ("ce", "'bce' or 'categorical'"),
        ("cross entropy", "'bce' or 'categorical'"),
        ("nb", "'negative-binomial'"),
        ("negative_binomial", "'negative-binomial'"),
        ("laplac", "'laplace'"),
        ("gausian", "'gaussian'"),
    ],
)
def test_a_loss_that_was_meant(loss, meant):
    with pytest.raises(ValueError, match=f"^loss: '{loss}', did you mean {meant}\\? \\(must be one of half-sse, "):
        predict(np.eye(3), 1, loss=loss)


@pytest.mark.parametrize(
    ("library", "meant"), [("scvi-tools", "scvi"), ("PyTorch-VAE", "pytorch-vae"), ("keras", "keras-io")]
)
def test_a_library_that_was_meant(library, meant):
    with pytest.raises(ValueError, match=f"^library: '{library}', did you mean '{meant}'\\? "):
        predict(np.eye(3), 1, library=library)


def test_synonyms_mean_what_there_is():
    for synonyms, known in ((LOSS_SYNONYMS, LOSS_NAMES), (LIBRARY_SYNONYMS, LIBRARIES)):
        assert {name for meant in synonyms.values() for name in meant} <= set(known)
        assert not set(synonyms) & set(known)
        assert all(word == word.lower().replace("_", "-").replace(" ", "-") for word in synonyms)


def test_a_name_that_nobody_can_mean_gets_the_list():
    assert str(no_such_choice("kind", "zzz", ("one", "two"))) == "kind: 'zzz', must be one of one, two"
    assert suggestion("tow", ("one", "two")) == "did you mean 'two'? (known: one, two)"
