"""Points of a sweep against each other: the curve of pPCA is consistent, and a bad network is detected."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phasevae.analysis.optimality import Consistency, optimality_summary, optimality_warning, shortfall
from phasevae.theory.ppca import ppca_kl, ppca_mse

EIGENVALUES = np.array([1.0, 0.8, 0.5, 0.2])


def exact(sigma2: list[float], beta: float = 1.0) -> pd.DataFrame:
    x = np.array(sigma2)
    mse = ppca_mse(EIGENVALUES, beta * x, 2)
    return pd.DataFrame({"sigma2": x, "beta": beta, "mse": mse, "kl": ppca_kl(EIGENVALUES, beta * x, 2)})


@given(st.lists(st.floats(0.25, 2.0), min_size=2, max_size=12, unique=True), st.sampled_from([0.5, 1.0, 2.0]))
def test_the_optimum_is_beaten_by_no_other_point(sigma2, beta):
    assert shortfall(exact(sigma2, beta)) == pytest.approx(0, abs=1e-9)


def test_a_network_that_collapsed_too_early_is_detected():
    sweep = exact([0.3, 0.5, 0.6, 0.7, 1.2])
    sweep.loc[1, ["mse", "kl"]] = EIGENVALUES.sum(), 0.0
    consistency = optimality_summary(sweep)
    assert consistency.sigma2 == [0.5]
    at_half = min(sweep.mse / (2 * 0.5) + sweep.kl)
    assert consistency.largest == pytest.approx(EIGENVALUES.sum() - at_half)
    warning = optimality_warning(consistency)
    assert warning.startswith("at sigma2 = 0.5 the network of another point has a better ELBO, by up to ")


def test_a_consistent_sweep_and_a_sweep_without_errors_have_no_warning():
    assert optimality_warning(optimality_summary(exact([0.3, 0.5, 1.2]))) is None
    unknown = optimality_summary(exact([0.3, 0.5]).drop(columns="mse"))
    assert unknown == Consistency(None, [])
    assert optimality_warning(unknown) is None


def test_a_sweep_over_the_kl_weight_compares_reconstructions():
    sweep = exact([0.3, 0.5, 0.6, 0.7, 1.2])
    over_beta = pd.DataFrame({"sigma2": 1.0, "beta": sweep.sigma2, "kl": sweep.kl, "reconstruction": sweep.mse / 2})
    assert optimality_warning(optimality_summary(over_beta)) is None
    over_beta.loc[1, ["reconstruction", "kl"]] = EIGENVALUES.sum() / 2, 0.0
    consistency = optimality_summary(over_beta)
    assert (consistency.sigma2, consistency.beta) == ([], [0.5])
    assert optimality_warning(consistency).startswith("at beta = 0.5 the network of another point has a better ELBO")


def test_the_levels_of_a_hierarchy_have_weights_of_their_own():
    levels = {"sigma2": 1.0, "beta": [1.0, 2.0], "beta_top": 4.0, "kl": [3.0, 2.5], "kl_top": [0.5, 0.5]}
    sweep = pd.DataFrame({**levels, "mse": [2.0, 3.5]})
    assert optimality_warning(optimality_summary(sweep)) is None
    lively = pd.DataFrame({**levels, "kl": [3.0, 3.0], "kl_top": [1.5, 0.5], "mse": [2.0, 2.0]})
    # Point 1 pays 1.5 + 4 * 1.5, with the network of point 2 only 2.5 + 4 * 0.5.
    assert optimality_summary(lively) == Consistency(pytest.approx(3.0), [], [1.0])
