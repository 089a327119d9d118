from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phasevae.sweeps.convergence import (
    DRIFT_ABSOLUTE,
    DRIFT_RELATIVE,
    SECOND_MOMENT_DEVIATION,
    assess_convergence,
    is_converged,
)

SAMPLES = np.arange(1, 101) * 1e4
BALANCED = np.ones(4)


def history(kl_drift: float = 0.0, elbo_drift: float = 0.0, scatter: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """KL at 0.1 and ELBO at -8 whose means move by the drifts after 80 % of the training."""
    late = (SAMPLES > 0.8e6).astype(float)
    noise = scatter * np.random.default_rng(0).normal(size=100)
    return 0.1 + kl_drift * late, -8 + elbo_drift * late + noise


def judged(kl: np.ndarray, elbo: np.ndarray, second_moment: np.ndarray = BALANCED, constant_from: float = 0.5) -> dict:
    found = assess_convergence(SAMPLES[: kl.size], kl, elbo, constant_from, second_moment)
    return found | {"converged": is_converged(found)}


@given(st.floats(-0.05, 0.05))
def test_a_moving_kl_is_not_converged(drift):
    found = judged(*history(kl_drift=drift))
    assert found["kl_drift"] == pytest.approx(drift, abs=1e-12)
    assert found["converged"] == (abs(found["kl_drift"]) <= DRIFT_ABSOLUTE + DRIFT_RELATIVE * (0.1 + drift))


def test_the_elbo_counts_beyond_its_own_scatter():
    assert not judged(*history(elbo_drift=0.02))["converged"]
    assert judged(*history(elbo_drift=0.02, scatter=0.05))["converged"]
    assert not judged(*history(elbo_drift=0.2, scatter=0.05))["converged"]


@pytest.mark.parametrize("latent", range(4))
def test_every_latent_must_have_unit_second_moment(latent):
    moments = BALANCED.copy()
    moments[latent] -= 1.1 * SECOND_MOMENT_DEVIATION
    found = judged(*history(), moments)
    assert found["second_moment_deviation"] == pytest.approx(1.1 * SECOND_MOMENT_DEVIATION)
    assert not found["converged"]
    moments[latent] += 0.2 * SECOND_MOMENT_DEVIATION
    assert judged(*history(), moments)["converged"]


def test_what_happened_while_sigma2_still_moved_does_not_count():
    kl, elbo = history()
    assert judged(kl + (SAMPLES < 0.55e6), elbo)["converged"]
    assert not judged(kl + (SAMPLES < 0.55e6), elbo, constant_from=0.0)["converged"]


@pytest.mark.parametrize(("rows", "constant_from"), [(1, 0.0), (4, 0.5), (100, 1.0)])
def test_too_short_a_history_is_not_judged(rows, constant_from):
    kl, elbo = history()
    assert judged(kl[:rows], elbo[:rows], constant_from=constant_from)["converged"] is None
