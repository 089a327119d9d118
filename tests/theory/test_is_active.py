"""A latent whose eigenvalue equals the effective variance within rounding counts as collapsed, everywhere."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phasevae.theory import factor_analysis
from phasevae.theory.learned_variance import learned_threshold, learned_variance
from phasevae.theory.ppca import (
    THRESHOLD_TOLERANCE,
    is_active,
    kl_slope_below,
    ppca_active_dims,
    ppca_elbo,
    ppca_kl,
    ppca_kl_curvature,
    ppca_kl_per_dim,
    ppca_kl_slope,
    ppca_latent_variance,
    ppca_mse,
)

LAM = np.array([4.0, 2.0, 1.0, 0.5])


def ulps(value: float, steps: int) -> float:
    """The float `steps` representable numbers above `value`."""
    return value + steps * np.spacing(value)


few = st.integers(-8, 8)
positive = st.floats(1e-6, 1e6)


@given(positive, few, few)
def test_rounding_does_not_decide(value, a, b):
    assert not is_active(ulps(value, a), ulps(value, b))


@given(positive)
def test_a_millionth_decides(value):
    assert is_active(value * (1 + 1e-6), value) and not is_active(value, value * (1 + 1e-6))


def test_the_tolerance_is_relative():
    inside, outside = 1 + 0.9 * THRESHOLD_TOLERANCE, 1 + 1.1 * THRESHOLD_TOLERANCE
    for scale in (1e-12, 1.0, 1e12):
        assert list(is_active([scale * inside, scale * outside, 0.0], scale)) == [False, True, False]
    assert list(is_active([1.0, 0.0], 0.0)) == [True, False]


@pytest.mark.parametrize("beta", [1.0, 0.3, 7.0])
@pytest.mark.parametrize("j", [0, 1, 2])
def test_curves_on_either_side_of_a_threshold(j, beta):
    """Latent j is alive at an effective variance 1e-6 below its eigenvalue, and dead at the eigenvalue."""
    below, at, above = LAM[j] * np.array([1 - 1e-6, 1, 1 + 1e-6]) / beta
    for s, active in ((below, True), (at, False), (above, False)):
        assert ppca_active_dims(LAM, s, 4, beta) == j + active
        kl, variance = (f(LAM, s, 4, beta)[j] for f in (ppca_kl_per_dim, ppca_latent_variance))
        if active:
            assert kl == pytest.approx(0.5e-6, rel=1e-4) and variance == pytest.approx(1 - 1e-6, rel=1e-12)
        else:
            assert kl == 0 and variance == 1
        assert ppca_kl_slope(LAM, s, 4, beta) == pytest.approx(-(j + active) / (2 * s))
        assert ppca_kl_curvature(LAM, s, 4, beta) == pytest.approx((j + active) / (2 * s**2))


@given(st.integers(0, 3), few, few, st.sampled_from([1.0, 0.3, 7.0]))
def test_rounding_changes_no_count_and_no_curve(j, a, b, beta):
    lam = LAM.copy()
    lam[j] = ulps(lam[j], a)
    s = ulps(LAM[j] / beta, b)
    assert ppca_active_dims(lam, s, 4, beta) == j
    assert ppca_kl_per_dim(lam, s, 4, beta)[j] == 0 and ppca_latent_variance(lam, s, 4, beta)[j] == 1
    for curve in (ppca_kl, ppca_mse, ppca_elbo, ppca_kl_slope, ppca_kl_curvature):
        assert curve(lam, s, 4, beta) == pytest.approx(curve(LAM, LAM[j] / beta, 4, beta), rel=1e-12, abs=1e-12)


@given(few, few)
def test_eigenvalues_equal_within_rounding_are_one_multiple_eigenvalue(a, b):
    lam = np.sort([ulps(2.0, a), ulps(2.0, b), 1.0])[::-1]
    assert kl_slope_below(lam) == pytest.approx(-0.5)
    assert ppca_active_dims(lam, 2.0, 3) == 0 and ppca_active_dims(lam, 2 * (1 - 1e-6), 3) == 2


@given(st.integers(1, 3), few, few)
def test_a_learned_variance_at_a_threshold_leaves_the_latent_collapsed(latent, a, b):
    lam = LAM.copy()
    lam[latent - 1] = ulps(lam[latent - 1], a)
    beta = ulps(learned_threshold(lam, latent, 3), b)
    s = learned_variance(lam, 3, beta)
    assert ppca_active_dims(lam, s, 3) == latent - 1
    assert ppca_active_dims(lam, learned_variance(lam, 3, beta * (1 - 1e-6)), 3) == latent


@given(st.floats(0.1, 10), st.integers(2, 6), few)
def test_a_learned_variance_without_a_bound_is_zero_whatever_the_rounding(value, d, a):
    """With n = D and beta = 1 all variances below the smallest eigenvalue are equally good."""
    lam = np.sort(value * np.linspace(2.0, 0.7, d) * ulps(1.0, a))[::-1]
    assert learned_variance(lam, d, ulps(1.0, a)) == 0
    assert learned_variance(lam, d, 1 - 1e-6) == 0
    assert learned_variance(lam, d, 1 + 1e-6) == pytest.approx(lam[-1], rel=1e-4)


@given(few)
def test_factor_analysis_at_its_critical_weight_is_collapsed(a):
    correlation = np.array([[1.0, 0.6, 0.2], [0.6, 1.0, 0.3], [0.2, 0.3, 1.0]])
    critical = np.linalg.eigvalsh(correlation)[-1]
    at, below = (factor_analysis.fit(correlation, 1, weight) for weight in (ulps(critical, a), critical * (1 - 1e-6)))
    assert np.all(at.variances == 1) and not is_active(at.eigenvalues, ulps(critical, a)).any()
    assert np.all(below.variances < 1) and is_active(below.eigenvalues[0], critical * (1 - 1e-6))


@given(few, few)
def test_factors_of_uncorrelated_features_die_together_whatever_the_rounding(a, b):
    eigenvalues = [ulps(1.0, a), ulps(1.0, b), 1.0]
    weights = factor_analysis.thresholds(np.diag(eigenvalues), 3, min(eigenvalues))
    assert weights == pytest.approx([1.0])
