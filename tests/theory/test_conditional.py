"""Conditional closed forms against direct sums, samples, and the numerical optimum of linear VAEs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from phasevae.errors import InputError
from phasevae.theory import conditional, ppca
from phasevae.theory.conditional import ConditionModes

PARTS = (
    ConditionModes(0.5, np.array([1.0, 0.1, 0.1])),
    ConditionModes(0.3, np.array([0.4, 0.3, 0.0])),
    ConditionModes(0.2, np.zeros(3)),
)
S = np.array([0.05, 0.1, 0.2, 0.35, 0.5, 1.0, 2.0])


def test_kl_and_elbo_are_the_sums_over_conditions():
    n_latent, beta = 2, 0.7
    kl, error, variance = np.zeros(S.size), np.zeros(S.size), np.zeros((S.size, n_latent))
    for i, s in enumerate(beta * S):
        for part in PARTS:
            for j, lam in enumerate(part.eigenvalues):
                alive = j < n_latent and lam > s
                kl[i] += part.share * 0.5 * np.log(lam / s) if alive else 0.0
                error[i] += part.share * (s if alive else lam)
                if j < n_latent:
                    variance[i, j] += part.share * (s / lam if alive else 1.0)
    np.testing.assert_allclose(conditional.kl(PARTS, S, n_latent, beta), kl, atol=1e-14)
    np.testing.assert_allclose(conditional.kl_per_dim(PARTS, S, n_latent, beta).sum(-1), kl, atol=1e-14)
    np.testing.assert_allclose(conditional.mse(PARTS, S, n_latent, beta), error, atol=1e-14)
    np.testing.assert_allclose(conditional.latent_variance(PARTS, S, n_latent, beta), variance, atol=1e-14)
    elbo = -1.5 * np.log(2 * np.pi * S) - error / (2 * S) - beta * kl
    np.testing.assert_allclose(conditional.elbo(PARTS, S, n_latent, beta), elbo, atol=1e-12)


@given(st.lists(st.floats(0.05, 3), min_size=1, max_size=4), st.integers(1, 5), st.floats(0.2, 2))
def test_one_condition_is_data_without_conditions(eigenvalues, n_latent, beta):
    lam = np.sort(eigenvalues)[::-1]
    parts = conditional.single(lam)
    for name in ("kl", "kl_per_dim", "latent_variance", "mse", "elbo", "kl_slope", "kl_curvature", "active_dims"):
        plain = getattr(ppca, f"ppca_{name}")(lam, S, n_latent, beta)
        np.testing.assert_array_equal(getattr(conditional, name)(parts, S, n_latent, beta), plain)
    assert conditional.critical_variance(parts, beta) == ppca.critical_variance(lam, beta)
    assert conditional.kl_slope_below(parts, beta) == ppca.kl_slope_below(lam, beta)
    assert conditional.exact_above(parts, n_latent) == ppca.ppca_exact_above(lam, n_latent)


def test_thresholds_and_slopes():
    np.testing.assert_array_equal(conditional.thresholds(PARTS, 2), [1.0, 0.4, 0.3, 0.1])
    assert conditional.critical_variance(PARTS, beta=2.0) == 0.5
    assert conditional.kl_slope_below(PARTS) == pytest.approx(-0.5 / 2)
    step = 1e-5
    quotient = (conditional.kl(PARTS, S + step, 2) - conditional.kl(PARTS, S - step, 2)) / (2 * step)
    away = np.abs(S[:, None] - conditional.thresholds(PARTS, 2)).min(1) > 2 * step
    np.testing.assert_allclose(conditional.kl_slope(PARTS, S, 2)[away], quotient[away], rtol=1e-6, atol=1e-8)
    np.testing.assert_array_equal(conditional.active_dims(PARTS, [0.05, 0.2, 0.35, 0.6, 1.0], 2), [2, 2, 1, 1, 0])


def test_collapsed_value_is_that_of_the_conditional_means():
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(m, scale, (n, 2)) for m, scale, n in ((0.0, 1.0, 300), (5.0, 0.5, 100))])
    c = np.repeat([0, 1], [300, 100])
    parts, likelihood = [], 0.0
    for value in (0, 1):
        rows = x[c == value] - x[c == value].mean(0)
        parts.append(ConditionModes(len(rows) / len(x), np.linalg.eigvalsh(rows.T @ rows / len(rows))[::-1]))
        likelihood += np.sum(-0.5 * np.log(2 * np.pi * 0.3) - rows**2 / 0.6) / len(x)
    assert conditional.collapsed_elbo(parts, 0.3) == pytest.approx(likelihood)


def _linear_kl(of_x: np.ndarray, shares: np.ndarray, given_c: np.ndarray, sigma2: float) -> float:
    """KL of one latent of the best VAE with a linear encoder of x alone and a linear decoder for each condition."""

    def loss(parameters: np.ndarray) -> float:
        a, variance = parameters[:-1], np.exp(parameters[-1])
        error = sum(
            p * (np.trace(cov) - (cov @ a) @ (cov @ a) / (a @ cov @ a + variance))
            for p, cov in zip(shares, given_c, strict=True)
        )
        return error / (2 * sigma2) + ppca.gaussian_kl(0.0, parameters[-1]) + 0.5 * a @ of_x @ a

    rng = np.random.default_rng(0)
    starts = [np.append(0.3 * rng.standard_normal(len(of_x)), -0.1) for _ in range(3)]
    best = min((minimize(loss, start, method="BFGS", options={"gtol": 1e-9}) for start in starts), key=lambda r: r.fun)
    return float(ppca.gaussian_kl(0.0, best.x[-1]) + 0.5 * best.x[:-1] @ of_x @ best.x[:-1])


@pytest.mark.parametrize("n_conditions", [1, 2])
def test_unaware_threshold_is_that_of_a_linear_vae(n_conditions):
    rng = np.random.default_rng(n_conditions)
    factors = rng.standard_normal((n_conditions, 3, 3))
    given_c = factors @ factors.transpose(0, 2, 1) / 3
    shares = np.full(n_conditions, 1 / n_conditions)
    means = rng.standard_normal((3, 2))
    of_x = np.einsum("c,cij->ij", shares, given_c) + means @ means.T
    threshold = conditional.unaware_threshold(of_x, shares, given_c)
    assert threshold <= np.linalg.eigvalsh(given_c).max()
    assert _linear_kl(of_x, shares, given_c, 0.97 * threshold) > 1e-3
    assert _linear_kl(of_x, shares, given_c, 1.03 * threshold) < 1e-6


def test_unaware_encoder_of_data_without_conditions():
    cov = np.diag([2.0, 1.0, 0.0])
    assert conditional.unaware_threshold(cov, [1.0], [cov]) == pytest.approx(2.0)


@pytest.mark.parametrize("shares", [(0.5, 0.4), (1.5, -0.5)])
def test_shares_must_sum_to_one(shares):
    with pytest.raises(InputError, match="must be positive and sum to 1"):
        conditional.critical_variance([ConditionModes(share, np.ones(2)) for share in shares])
