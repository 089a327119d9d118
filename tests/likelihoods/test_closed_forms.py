"""The criterion R = largest eigenvalue of H^-1 G against its closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phasevae.datasets.feature_statistics import stream_features
from phasevae.datasets.streams import sample_stream
from phasevae.likelihoods.laplace import medians
from phasevae.likelihoods.registry import LIKELIHOODS, find_likelihood


def fit(x: np.ndarray, name: str, **options):
    return find_likelihood(name, **options).fit(sample_stream(np.asarray(x, dtype=float), most_rows=700))


def eigenvalues(fitted, x: np.ndarray) -> np.ndarray:
    """Eigenvalues of H^-1 G, descending."""
    whitened = fitted.whitened_scores(np.asarray(x, dtype=float))
    assert whitened.shape == (len(x), fitted.n_scores)
    return np.linalg.eigvalsh(whitened.T @ whitened / len(x))[::-1]


def latent_rates(n: int = 2000) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.exp(0.5 * rng.normal(size=(n, 2)) @ rng.normal(size=(2, 6)))


def test_gaussian_has_the_covariance():
    x = np.random.default_rng(0).normal(size=(500, 4)) @ np.diag([3, 2, 1, 0.5])
    expected = np.linalg.eigvalsh(np.cov(x.T, bias=True))[::-1]
    np.testing.assert_allclose(eigenvalues(fit(x, "gaussian", sigma2=0.5), x), expected / 0.5)


def test_gaussian_variance_has_the_correlation_of_features_and_squares():
    x = np.random.default_rng(0).gamma(2, size=(500, 3))
    y = (x - x.mean(0)) / x.std(0)
    both = np.hstack([y, (y**2 - 1) / np.sqrt(2)])
    expected = np.linalg.eigvalsh(both.T @ both / len(x))[::-1]
    np.testing.assert_allclose(eigenvalues(fit(x, "gaussian-variance"), x), expected)


def test_bernoulli_has_the_covariance_in_units_of_the_chance():
    x = (np.random.default_rng(0).random((500, 5)) < 0.3).astype(float)
    x[:, 1] = x[:, 0]
    expected = np.linalg.eigvalsh(np.corrcoef(x.T))[::-1]
    np.testing.assert_allclose(eigenvalues(fit(x, "bernoulli"), x), expected, atol=1e-12)


def test_poisson_has_the_covariance_in_units_of_the_mean():
    x = np.random.default_rng(1).poisson(latent_rates())
    unit = np.sqrt(x.mean(0))
    expected = np.linalg.eigvalsh(np.cov(x.T, bias=True) / np.outer(unit, unit))[::-1]
    np.testing.assert_allclose(eigenvalues(fit(x, "poisson"), x), expected)


def test_negative_binomial_has_units_of_its_variance():
    x = np.random.default_rng(1).poisson(latent_rates())
    unit = np.sqrt(x.mean(0) + x.mean(0) ** 2 / 2.0)
    expected = np.linalg.eigvalsh(np.cov(x.T, bias=True) / np.outer(unit, unit))[::-1]
    np.testing.assert_allclose(eigenvalues(fit(x, "negative-binomial", dispersion=2.0), x), expected, rtol=1e-8)


def test_without_over_dispersion_the_negative_binomial_is_poisson():
    x = np.random.default_rng(2).binomial(5, 0.5, size=(1000, 4))
    fitted = fit(x, "negative-binomial")
    np.testing.assert_allclose(fitted.constants["dispersion"], 1e6)
    np.testing.assert_allclose(eigenvalues(fitted, x), eigenvalues(fit(x, "poisson"), x), rtol=1e-5)


def test_one_categorical_has_one_for_all_classes_but_one():
    x = np.random.default_rng(0).choice(5, p=[0.5, 0.2, 0.15, 0.1, 0.05], size=(800, 1))
    values = eigenvalues(fit(x, "categorical"), x)
    np.testing.assert_allclose(values, [1, 1, 1, 1, 0], atol=1e-12)


def test_copies_of_a_categorical_add_up_and_independent_ones_do_not():
    x = np.random.default_rng(0).integers(0, 4, size=(20_000, 6))
    assert 1 <= eigenvalues(fit(x, "categorical"), x)[0] < 1.1
    copies = np.repeat(x[:, :1], 6, axis=1)
    assert eigenvalues(fit(copies, "categorical"), copies)[0] == pytest.approx(6)


@settings(max_examples=10)
@given(st.integers(0, 2**31), st.integers(2, 5), st.integers(2, 5))
def test_categoricals_are_between_one_and_their_number(seed, positions, classes):
    x = np.random.default_rng(seed).integers(0, classes, size=(60, positions))
    top = eigenvalues(fit(x, "categorical"), x)[0]
    assert 1 - 1e-9 <= top <= positions + 1e-9


def test_a_multinomial_of_one_count_is_a_categorical():
    classes = np.random.default_rng(0).choice(4, p=[0.4, 0.3, 0.2, 0.1], size=(500, 1))
    counts = np.eye(4)[classes[:, 0]]
    multinomial, categorical = fit(counts, "multinomial"), fit(classes, "categorical")
    np.testing.assert_allclose(
        multinomial.whitened_scores(counts), categorical.whitened_scores(classes * 1.0), atol=1e-12
    )
    assert multinomial.loss == pytest.approx(categorical.loss)


def correlated_gaussians(n: int = 40_000, d: int = 8) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.sqrt(0.5) * (rng.normal(size=(n, d)) + rng.normal(size=(n, 1)))


def test_laplace_on_gaussian_data_of_equal_correlation():
    x = correlated_gaussians()
    fitted = fit(x, "laplace")
    assert eigenvalues(fitted, x)[0] == pytest.approx(4.18, rel=0.03)
    np.testing.assert_allclose(fitted.curvature().diagonal(), np.sqrt(2 / np.pi), rtol=0.06)


def test_laplace_scales_with_its_scale():
    x = correlated_gaussians(2000)
    np.testing.assert_allclose(
        eigenvalues(fit(x, "laplace", scale=2.0), x), eigenvalues(fit(x, "laplace"), x) / 2, rtol=1e-12
    )


def test_student_t_with_many_degrees_of_freedom_is_gaussian():
    x = correlated_gaussians(2000)
    found = eigenvalues(fit(x, "student-t", df=1e7, scale=1.0), x)
    np.testing.assert_allclose(found, eigenvalues(fit(x, "gaussian"), x), rtol=1e-4)


WELL_SPECIFIED = {
    "gaussian": lambda rng, n: rng.normal(size=(n, 5)),
    "gaussian-variance": lambda rng, n: rng.normal(size=(n, 5)),
    "bernoulli": lambda rng, n: (rng.random((n, 5)) < 0.3).astype(float),
    "poisson": lambda rng, n: rng.poisson(3, size=(n, 5)),
    "negative-binomial": lambda rng, n: rng.negative_binomial(2, 0.3, size=(n, 5)),
    "zinb": lambda rng, n: rng.negative_binomial(2, 0.3, size=(n, 5)) * (rng.random((n, 5)) < 0.7),
    "multinomial": lambda rng, n: rng.multinomial(20, [0.3, 0.3, 0.2, 0.1, 0.1], size=n),
    "categorical": lambda rng, n: rng.integers(0, 3, size=(n, 3)),
    "laplace": lambda rng, n: rng.laplace(size=(n, 5)),
    "student-t": lambda rng, n: rng.standard_t(4, size=(n, 5)),
}


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_a_model_that_is_right_without_latents_collapses_at_one(name):
    x = WELL_SPECIFIED[name](np.random.default_rng(5), 20_000)
    assert eigenvalues(fit(x, name), x)[0] == pytest.approx(1, abs=0.12)


def test_size_factors_explain_what_rows_share():
    rng = np.random.default_rng(0)
    sizes = rng.lognormal(0, 0.7, size=(5000, 1))
    counts = rng.negative_binomial(3.0, 3 / (3 + sizes * np.array([4.0, 6, 8, 10, 12, 20])))
    with_sizes = np.hstack([counts, sizes])
    assert eigenvalues(fit(counts, "negative-binomial"), counts)[0] > 2
    known = fit(with_sizes, "negative-binomial", size_factors="last-column")
    assert known.n_scores == 6 and known.constant.shape == (6,)
    assert eigenvalues(known, with_sizes)[0] == pytest.approx(1, abs=0.1)
    np.testing.assert_allclose(known.constants["dispersion"], 3, rtol=0.15)


def test_zero_inflation_is_found():
    rng = np.random.default_rng(0)
    x = rng.negative_binomial(5.0, 0.4, size=(20_000, 3)) * (rng.random((20_000, 3)) < 0.75)
    fitted = fit(x, "zinb")
    np.testing.assert_allclose(1 / (1 + np.exp(-fitted.outputs["dropout_logit"])), 0.25, atol=0.02)
    np.testing.assert_allclose(np.exp(fitted.outputs["log_mean"]), 7.5, rtol=0.02)
    np.testing.assert_allclose(fitted.constants["dispersion"], 5, rtol=0.1)


def test_without_zeros_dropout_carries_no_score():
    x = np.random.default_rng(0).negative_binomial(5.0, 0.4, size=(500, 3)) + 1.0
    fitted = fit(x, "zinb")
    np.testing.assert_array_equal(fitted.outputs["dropout_logit"], -10)
    np.testing.assert_array_equal(fitted.scores(x)[:, 3:], 0)
    np.testing.assert_allclose(
        fitted.whitened_scores(x)[:, :3], fit(x, "negative-binomial").whitened_scores(x), rtol=1e-3, atol=1e-3
    )


def test_means_of_normalised_rates_add_up():
    x = np.random.default_rng(1).poisson(latent_rates()) + 1.0
    for name in ("negative-binomial", "zinb"):
        fitted = fit(x, name, size_factors="total", normalised=True)
        assert np.exp(fitted.outputs["log_mean"]).sum() == pytest.approx(x.sum(1).mean(), rel=1e-12)
        np.testing.assert_allclose(fitted.scores(x)[:, :6].sum(1), 0, atol=1e-9)


@settings(max_examples=40)
@given(st.lists(st.one_of(st.integers(-3, 3).map(float), st.floats(-1e6, 1e6)), min_size=1, max_size=12))
def test_medians_leave_as_many_rows_above_as_below(values):
    x = np.array(values)[:, None]
    rows = sample_stream(x, most_rows=5)
    centre = medians(rows, stream_features(rows))[0]
    ordered = np.sort(x[:, 0])
    low, high = ordered[(len(x) - 1) // 2], ordered[len(x) // 2]
    spare = 1e-15 * np.ptp(ordered)
    assert low - spare <= centre <= high + spare
