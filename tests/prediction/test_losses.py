from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phasevae import InputError
from phasevae.prediction.libraries import LIBRARIES, find_loss
from phasevae.theory import factor_analysis
from phasevae.theory.learned_variance import learned_threshold, learned_variance
from phasevae.theory.ppca import effective_variance, ppca_elbo

DIMENSION, LATENTS, WEIGHT = 12, 3, 0.7


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("half-sse", WEIGHT),
        ("sse", WEIGHT / 2),
        ("mean-se", DIMENSION * WEIGHT / 2),
        ("mean-se-mean-kl", DIMENSION * WEIGHT / (2 * LATENTS)),
        ("bce", WEIGHT),
        ("mean-bce", DIMENSION * WEIGHT),
    ],
)
def test_effective_variances(name, expected):
    loss = find_loss(name)
    assert loss.effective_variance(WEIGHT, DIMENSION, LATENTS) == pytest.approx(expected)
    assert loss.kl_weight_of(expected, DIMENSION, LATENTS) == pytest.approx(WEIGHT)


def test_the_loss_is_the_paper_s_up_to_a_factor():
    """For equal networks each loss is an increasing function of -ELBO at its effective variance."""
    rng = np.random.default_rng(0)
    error, kl = rng.uniform(1, 9, 50), rng.uniform(0, 5, 50)
    for name in ("half-sse", "sse", "mean-se", "mean-se-mean-kl"):
        a, b = find_loss(name).weights(WEIGHT, DIMENSION, LATENTS)
        s = effective_variance(a, b)
        objective = -error / (2 * s) - kl
        assert np.corrcoef(a * error + b * kl, objective)[0, 1] == pytest.approx(-1)


def test_pytorch_vae_at_64_by_64_pixels():
    preset = find_loss(library="pytorch-vae")
    assert preset.effective_variance(preset.kl_weight, 3 * 64 * 64, 128) == pytest.approx(1.536)


def test_every_preset_says_what_it_models():
    for preset in LIBRARIES.values():
        assert "line" in preset.source or "lines" in preset.source
        assert preset.kl_weight > 0


@pytest.mark.parametrize(("loss", "library", "word"), [("mse", None, "half-sse"), (None, "keras", "pytorch-vae")])
def test_the_error_about_an_unknown_name_lists_the_known_names(loss, library, word):
    with pytest.raises(InputError, match=word):
        find_loss(loss, library)


@pytest.mark.parametrize("name", [["half-sse"], 3, {}])
def test_a_loss_must_be_named(name):
    with pytest.raises(InputError, match=r"loss: .*, must be the name of a loss"):
        find_loss(name)


spectra = st.lists(st.floats(0.01, 10), min_size=2, max_size=8).map(lambda lam: sorted(lam, reverse=True))


@given(spectra, st.integers(1, 8), st.floats(0.05, 12))
def test_learned_variance_solves_its_equation(lam, n, beta):
    s = learned_variance(lam, n, beta)
    right = beta / len(lam) * (np.minimum(lam[:n], s).sum() + np.sum(lam[n:]))
    assert s == pytest.approx(right, rel=1e-9, abs=1e-12)
    if s == 0:
        assert n >= len(lam) and beta <= 1 + 1e-9


@given(spectra, st.integers(1, 3), st.floats(0.3, 5))
def test_learned_variance_is_the_best_one(lam, n, beta):
    if n >= len(lam):
        return
    s = learned_variance(lam, n, beta)
    around = s / beta * np.array([0.98, 1.0, 1.02])
    values = ppca_elbo(lam, around, n, beta)
    assert values[1] >= values[0] and values[1] >= values[2]


@given(spectra, st.integers(1, 4))
def test_learned_thresholds(lam, n):
    n = min(n, len(lam) - 1)  # with n = D every variance below lambda_n is as good at beta = 1
    for latent in range(1, n + 1):
        beta = learned_threshold(lam, latent, n)
        assert learned_variance(lam, n, beta) == pytest.approx(lam[latent - 1])
    assert learned_threshold(lam, 1, n) == pytest.approx(len(lam) * lam[0] / np.sum(lam))


def test_learned_variance_from_the_leading_eigenvalues():
    lam = np.geomspace(5, 0.1, 30)
    whole = learned_variance(lam, 3, 1.5)
    assert learned_variance(lam[:4], 3, 1.5, lam.sum(), 30) == pytest.approx(whole)
    whole = learned_threshold(lam, 2, 3)
    assert learned_threshold(lam[:4], 2, 3, lam.sum(), 30) == pytest.approx(whole)


def test_factor_analysis_finds_the_variances_that_made_the_data():
    rng = np.random.default_rng(0)
    loadings, psi = rng.normal(size=(9, 2)), rng.uniform(0.3, 2, 9)
    factors = factor_analysis.fit(loadings @ loadings.T + np.diag(psi), 2, 1.0)
    np.testing.assert_allclose(factors.variances, psi, rtol=1e-4)
    assert factors.bounded


def test_factor_analysis_against_scikit_learn():
    from sklearn.decomposition import FactorAnalysis

    rng = np.random.default_rng(1)
    x = rng.normal(size=(500, 2)) @ rng.normal(size=(2, 8)) + rng.normal(size=(500, 8))
    expected = FactorAnalysis(2, tol=1e-6, svd_method="lapack").fit(x).noise_variance_
    np.testing.assert_allclose(factor_analysis.fit(np.cov(x.T, bias=True), 2, 1.0).variances, expected, rtol=1e-2)


def test_factor_analysis_collapses_at_the_largest_correlation_eigenvalue():
    x = np.random.default_rng(1).normal(size=(400, 6)) @ np.random.default_rng(2).normal(size=(6, 6))
    covariance = np.cov(x.T, bias=True)
    critical = np.linalg.eigvalsh(np.corrcoef(x.T))[-1]
    above, below = (factor_analysis.fit(covariance, 3, part * critical) for part in (1.01, 0.99))
    np.testing.assert_allclose(above.variances, np.diagonal(covariance))
    assert below.eigenvalues[0] > 0.99 * critical and np.all(below.variances < np.diagonal(covariance))


def test_factor_analysis_has_no_bound_with_as_many_latents_as_features():
    assert not factor_analysis.fit(np.array([[1.0, 0.5], [0.5, 2.0]]), 2, 0.5).bounded


def test_leading_vectors_of_a_large_matrix_are_those_of_a_small_one():
    rng = np.random.default_rng(0)
    loadings, psi = rng.normal(size=(300, 3)), rng.uniform(0.3, 2, 300)
    factors = factor_analysis.fit(loadings @ loadings.T + np.diag(psi), 3, 1.0)
    np.testing.assert_allclose(factors.variances, psi, rtol=1e-3)
