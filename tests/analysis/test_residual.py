from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from phasevae.analysis.residual import fit_branches
from phasevae.analysis.thresholds import Mode, Thresholds
from phasevae.theory.ppca import ppca_active_dims
from phasevae.theory.residual import ppca_residual_edge

EIGENVALUES = np.array([1.0, 0.8, 0.6, 0.45, 0.3])
N_LATENT = 3
ERROR = 3e-4
CASCADE = Thresholds(
    [Mode(j + 1, 1.001 * value, None, 0.5, 5, None, value, 0.001) for j, value in enumerate(EIGENVALUES[:N_LATENT])],
    None,
    None,
)


def sweep(x, beta=1.0, seeds=1, scatter=0.0):
    x = np.repeat(np.asarray(x, dtype=float), seeds)
    edge = ppca_residual_edge(EIGENVALUES, x, N_LATENT)
    noise = np.random.default_rng(0).normal(size=x.size)
    return pd.DataFrame(
        {
            "sigma2": x / beta,
            "beta": beta,
            "seed": np.tile(np.arange(seeds), x.size // seeds),
            "active_dims": ppca_active_dims(EIGENVALUES, x, N_LATENT),
            "residual_edge": edge * (1 + scatter * noise),
            "residual_edge_standard_error": ERROR,
        }
    )


@pytest.mark.parametrize("beta", [1.0, 2.5])
def test_each_branch_ends_at_its_eigenvalues(beta):
    found = fit_branches(sweep([0.5, 0.55, 0.62, 0.67, 0.72, 0.78, 0.82, 0.96, 1.1], beta), CASCADE)
    assert [branch.active for branch in found.branches] == [3, 2, 1, 0]
    assert [branch.n_points for branch in found.branches] == [2, 4, 2, 1]
    for branch in found.branches:
        k = branch.active
        assert branch.lower.value == pytest.approx(EIGENVALUES[k])
        assert branch.lower.ci95 == pytest.approx([EIGENVALUES[k] - 1.96 * ERROR, EIGENVALUES[k] + 1.96 * ERROR])
        assert branch.cascade == [
            None if k == N_LATENT else pytest.approx(1.001 * EIGENVALUES[k]),
            None if k == 0 else pytest.approx(1.001 * EIGENVALUES[k - 1]),
        ]
        if k:
            low, high = branch.upper.ci95
            assert branch.upper.value == pytest.approx(EIGENVALUES[k - 1])
            assert low < EIGENVALUES[k - 1] < high
            # The error of x^2 / Lambda is that of Lambda times x^2 / Lambda^2.
            slope = (branch.measured[1] / (branch.measured[1] ** 2 / EIGENVALUES[k - 1])) ** 2
            assert high - low == pytest.approx(2 * 1.96 * ERROR * slope, rel=1e-6)
    assert found.branches[-1].upper is None


@pytest.mark.parametrize(
    ("x", "told"),
    [([0.61, 0.65], ("lower",)), ([0.75, 0.79], ("upper",)), ([0.7], ()), ([0.61, 0.79], ("lower", "upper"))],
)
def test_an_end_that_no_point_tells_is_a_bound(x, told):
    """On the branch with two active latents the edge is constant below 0.693 and grows above."""
    branch = fit_branches(sweep(x), CASCADE).branches[0]
    assert branch.active == 2
    assert {name for name in ("lower", "upper") if getattr(branch, name).value is not None} == set(told)
    low, high = branch.lower.ci95
    assert (low is None) == ("lower" not in told) and high > EIGENVALUES[2]
    low, high = branch.upper.ci95
    assert (high is None) == ("upper" not in told) and low < EIGENVALUES[1]


def test_the_scatter_of_the_seeds_widens_the_interval():
    alone, several = (fit_branches(sweep([0.61, 0.79], seeds=5, scatter=s), CASCADE).branches[0] for s in (0.0, 0.005))
    width, wider = (branch.lower.ci95[1] - branch.lower.ci95[0] for branch in (alone, several))
    assert width == pytest.approx(2 * 1.96 * ERROR / 5**0.5)
    assert 3 * width < wider < 0.02
    assert several.lower.ci95[0] < EIGENVALUES[2] < several.lower.ci95[1]


def test_a_model_with_a_latent_that_should_have_died_is_left_out():
    table = sweep([0.61, 0.79, 0.82, 0.98], seeds=3)
    late = (table["sigma2"] == 0.82) & (table["seed"] == 0)
    table.loc[late, ["active_dims", "residual_edge"]] = 2, 0.81
    branches = fit_branches(table, CASCADE).branches
    assert [(branch.active, branch.n_points) for branch in branches] == [(2, 6), (1, 5)]
    assert branches[0].upper.value == pytest.approx(EIGENVALUES[1])


def test_what_has_no_edge_has_a_reason():
    table = sweep([0.61, 0.79])
    assert "train the points again" in fit_branches(table.drop(columns="residual_edge"), CASCADE).reason
    none = fit_branches(table.assign(residual_edge=np.nan), CASCADE)
    assert none.branches == [] and "not defined" in none.reason
