"""What a likelihood refuses, and what it leaves out."""

from __future__ import annotations

import numpy as np
import pytest

from phasevae.datasets.feature_statistics import feature_statistics
from phasevae.datasets.streams import sample_stream
from phasevae.errors import InputError
from phasevae.likelihoods import newton, normalised
from phasevae.likelihoods.registry import LIKELIHOODS, find_likelihood

COUNT_FAMILIES = ("poisson", "negative-binomial", "zinb", "multinomial")


def fit(x, name, **options):
    return find_likelihood(name, **options).fit(sample_stream(np.asarray(x, dtype=float)))


def counts(n: int = 60, d: int = 3) -> np.ndarray:
    return np.random.default_rng(0).negative_binomial(2, 0.3, size=(n, d)).astype(float)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("cauchy", {}, "likelihood: 'cauchy', must be one of gaussian, "),
        ("gaussian", {"sigma": 1}, "sigma: no option of the likelihood gaussian, did you mean 'sigma2'"),
        ("poisson", {"scale": 1}, "scale: no option of the likelihood poisson, must be left out"),
        ("gaussian", {"sigma2": 0}, "sigma2: 0, must be a positive number"),
        ("gaussian", {"sigma2": True}, "sigma2: True, must be a positive number"),
        ("laplace", {"scale": -1.0}, "scale: -1.0, must be a positive number"),
        ("student-t", {"df": float("inf")}, "df: inf, must be a positive number"),
        ("student-t", {"scale": "free"}, "scale: 'free', must be a positive number or 'fit'"),
        ("negative-binomial", {"dispersion": 0}, "dispersion: 0, must be a positive number or 'fit'"),
        ("zinb", {"size_factors": "sum"}, "size_factors: 'sum', must be one of none, total, last-column"),
        ("zinb", {"normalised": 1, "size_factors": "total"}, "normalised: 1, must be true or false"),
        ("negative-binomial", {"normalised": True}, "normalised: True, must be false without size factors"),
        ("categorical", {"n_classes": 1}, "n_classes: 1, must be an integer of at least 2"),
    ],
)
def test_options_that_cannot_be_used(name, options, message):
    with pytest.raises(InputError) as error:
        find_likelihood(name, **options)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize("name", COUNT_FAMILIES)
@pytest.mark.parametrize("value", [-1.0, 0.5])
def test_counts_are_whole_and_not_negative(name, value):
    x = counts()
    x[7, 2] = value
    with pytest.raises(InputError, match=rf"value {value:g} at row 7, column 2 .* must be a count"):
        fit(x, name)


@pytest.mark.parametrize("value", [-0.25, 1.5])
def test_chances_are_within_0_and_1(value):
    x = np.random.default_rng(0).random((20, 3))
    x[3, 1] = value
    with pytest.raises(InputError, match=rf"value {value:g} in column 1 .* must be within 0 and 1"):
        fit(x, "bernoulli")


@pytest.mark.parametrize(
    ("value", "options", "message"),
    [
        (-1, {}, r"value -1 in column 1 .* must be a class number"),
        (0.5, {}, r"value 0.5 at row 3, column 1 .* must be a class number"),
        (4, {"n_classes": 4}, r"value 4 in column 1 .* must be a class number below n_classes = 4"),
        (1e6, {}, r"value 1e\+06 in column 1 .* must be a class number below 100000"),
    ],
)
def test_class_numbers(value, options, message):
    x = np.random.default_rng(0).integers(0, 3, size=(20, 2)).astype(float)
    x[3, 1] = value
    with pytest.raises(InputError, match=message):
        fit(x, "categorical", **options)


@pytest.mark.parametrize("size", [0.0, -2.0])
def test_size_factors_are_positive(size):
    x = np.hstack([counts(), np.ones((60, 1))])
    x[5, 3] = size
    with pytest.raises(InputError, match=rf"value {size:g} at row 5, column 3 .* must be a positive size factor"):
        fit(x, "negative-binomial", size_factors="last-column")


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_some_feature_must_vary(name):
    with pytest.raises(InputError, match="every feature is constant"):
        fit(np.zeros((10, 3)), name)


def test_some_feature_must_have_counts_beside_the_size_factors():
    with pytest.raises(InputError, match="every feature is constant"):
        fit(np.hstack([np.zeros((10, 2)), np.linspace(0.5, 2, 10)[:, None]]), "zinb", size_factors="last-column")


def test_a_fitted_scale_needs_values_that_vary():
    x = np.random.default_rng(0).normal(size=(100, 2))
    x[:95, 1] = 0
    with pytest.raises(InputError, match=r"column 1 .* too many equal values for a fitted scale"):
        fit(x, "student-t", scale="fit")


def test_an_optimum_that_does_not_settle_is_an_error(monkeypatch):
    monkeypatch.setattr(newton, "MOST_PASSES", 1)
    with pytest.raises(InputError, match="did not settle in 1 passes"):
        fit(counts(), "negative-binomial")


def test_normalised_means_that_do_not_settle_are_an_error(monkeypatch):
    monkeypatch.setattr(normalised, "MOST_PASSES", 1)
    with pytest.raises(InputError, match="means that add up to the size factor did not settle in 1 passes"):
        fit(counts(), "zinb", size_factors="total", normalised=True)


def varying(name: str) -> np.ndarray:
    x = counts() if name in (*COUNT_FAMILIES, "categorical") else np.random.default_rng(0).random((60, 3))
    return np.minimum(x, 3) if name == "categorical" else x


OPTIONS = [
    *((name, {}) for name in LIKELIHOODS),
    ("student-t", {"scale": "fit"}),
    ("negative-binomial", {"size_factors": "total", "normalised": True}),
    ("zinb", {"size_factors": "total", "normalised": True}),
]


@pytest.mark.parametrize(("name", "options"), OPTIONS)
def test_a_feature_of_zeros_is_left_out(name, options):
    plain = varying(name)
    x = np.insert(plain, 1, 0.0, axis=1)
    fitted, without = fit(x, name, **options), fit(plain, name, **options)
    np.testing.assert_array_equal(fitted.constant, [False, True, False, False])
    scores, whitened = fitted.scores(x), fitted.whitened_scores(x)
    assert np.isfinite(scores).all() and np.isfinite(whitened).all() and np.isfinite(fitted.loss)
    per_feature = (fitted.n_scores // 4, 4) if name != "categorical" else (4, fitted.n_scores // 4)
    axis = 2 if name != "categorical" else 1
    parts = whitened.reshape(len(x), *per_feature)
    assert (np.take(parts, 1, axis) == 0).all()
    kept = np.delete(parts, 1, axis).reshape(len(x), -1)
    np.testing.assert_allclose(kept, without.whitened_scores(plain), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_known_statistics_change_nothing(name):
    rows = sample_stream(varying(name))
    family = find_likelihood(name)
    assert family.fit(rows, feature_statistics(rows)).loss == family.fit(rows).loss


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_every_family_says_what_it_is(name):
    family = LIKELIHOODS[name]
    assert family.name == name
    assert family.formula and family.meaning and "\n" not in family.formula + family.meaning
