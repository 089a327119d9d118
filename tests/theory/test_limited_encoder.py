"""Closed forms of encoders that are not free, against the minimum of the loss of a linear VAE of one mode."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from phasevae.theory.limited_encoder import LARGEST_NOISE_SCALE, EncoderLimits, limited_modes
from phasevae.theory.ppca import ppca_kl, ppca_mse

eigenvalues, variances = st.floats(0.1, 20), st.floats(0.05, 10)


def least_loss(lam: float, s: float, limits: EncoderLimits) -> float:
    """Minimise over encoder mean v x, decoder mean u z and posterior variance q, from several starts."""
    noise = limits.noise_scale

    def loss(parameters):
        u, v, log_q = parameters
        q = np.exp(log_q) if limits.posterior_std is None else limits.posterior_std**2
        error = lam * (1 - u * v) ** 2 + u**2 * noise**2 * q
        return 0.5 * error + s * 0.5 * (lam * v**2 + q - 1 - np.log(q))

    low = np.log(limits.least_variance) if limits.least_variance > 0 else -20
    bounds = [(None, None), (None, None), (low, 5)]
    starts = [(0.0, 0.0, 0.0), (0.3, 0.3, 0.0), (np.sqrt(lam), 1 / np.sqrt(lam), np.log(min(1, s / lam)))]
    return min(minimize(loss, start, method="L-BFGS-B", bounds=bounds, tol=1e-14).fun for start in starts)


def closed_loss(lam: float, s: float, limits: EncoderLimits) -> float:
    modes, q = limited_modes([lam], s, limits), limits.collapsed_variance
    return float(0.5 * modes.error[0] + s * (modes.kl[0] + 0.5 * (q - 1 - np.log(q))))


@settings(deadline=None, max_examples=40)
@given(eigenvalues, variances, st.floats(0.2, 2))
def test_a_fixed_posterior_variance(lam, s, std):
    limits = EncoderLimits(posterior_std=std)
    assert closed_loss(lam, s, limits) == pytest.approx(least_loss(lam, s, limits), rel=1e-5, abs=1e-6)


@settings(deadline=None, max_examples=40)
@given(eigenvalues, variances, st.floats(0.01, 3))
def test_a_lower_bound_of_the_posterior_variance(lam, s, least):
    limits = EncoderLimits(least_variance=least)
    assert closed_loss(lam, s, limits) == pytest.approx(least_loss(lam, s, limits), rel=1e-5, abs=1e-6)


@settings(deadline=None, max_examples=40)
@given(eigenvalues, variances, st.floats(0.2, LARGEST_NOISE_SCALE))
def test_scaled_noise(lam, s, noise):
    limits = EncoderLimits(noise_scale=noise)
    assert closed_loss(lam, s, limits) == pytest.approx(least_loss(lam, s, limits), rel=1e-5, abs=1e-6)


@settings(deadline=None, max_examples=30)
@given(eigenvalues, variances, st.floats(0.3, 1.3), st.floats(0.01, 2))
def test_scaled_noise_and_a_lower_bound_together(lam, s, noise, least):
    limits = EncoderLimits(noise_scale=noise, least_variance=least)
    assert closed_loss(lam, s, limits) == pytest.approx(least_loss(lam, s, limits), rel=1e-5, abs=1e-6)


@given(st.lists(eigenvalues, min_size=1, max_size=5), variances)
def test_a_free_encoder_is_probabilistic_pca(lam, s):
    lam = np.sort(lam)[::-1]
    modes = limited_modes(lam, s)
    assert modes.kl.sum() == pytest.approx(float(ppca_kl(lam, s, len(lam))), rel=1e-9, abs=1e-12)
    assert modes.error.sum() == pytest.approx(float(ppca_mse(lam, s, len(lam))), rel=1e-9)


@given(
    eigenvalues,
    st.sampled_from([EncoderLimits(0.5), EncoderLimits(2.0), EncoderLimits(None, 1.7), EncoderLimits(None, 0.0, 0.6)]),
)
def test_the_mode_dies_at_its_threshold(lam, limits):
    threshold = lam * limits.threshold_factor
    below, above = (limited_modes([lam], threshold * factor, limits) for factor in (0.999, 1.001))
    assert below.active[0] and below.kl[0] > 0 and below.error[0] < lam
    assert not above.active[0] and above.kl[0] == 0 and above.error[0] == lam
    assert below.kl[0] < 0.01  # it dies continuously


def test_a_posterior_standard_deviation_of_one():
    """KL of a mode is (sqrt(lambda / s) - 1) / 2."""
    modes = limited_modes([4.0, 1.0], 0.25, EncoderLimits(posterior_std=1.0))
    np.testing.assert_allclose(modes.kl, [1.5, 0.5])
