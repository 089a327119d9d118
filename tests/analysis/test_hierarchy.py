"""Phases of hierarchies, from tables that theory makes."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest
from gaussian_sweeps import spectrum_of
from hierarchy_sweeps import hierarchy_sweep

from phasevae.analysis.hierarchy import Boundary, Phase, measure_phases
from phasevae.analysis.pipeline import Analysis, analyse
from phasevae.analysis.records import OPEN, from_json
from phasevae.analysis.sweep_table import level_1
from phasevae.analysis.verdict import verdict

EIGENVALUES = [4.0, 2.0, 1.0, 0.5]
Q = 0.25
BETAS, BETAS_TOP = [0.5, 2.0, 8.0, 14.0, 20.0, 40.0], [0.4, 0.6, 1.2, 2.4, 3.4, 4.6, 7.0]


@pytest.fixture(scope="module")
def fixed():
    return hierarchy_sweep(EIGENVALUES, BETAS, BETAS_TOP, Q)


def test_phases_of_a_fixed_variance(fixed):
    found = measure_phases(fixed, spectrum_of(EIGENVALUES))
    # The conditions of docs/theory/hierarchies.md, with Lambda = 4 and a = beta / 4.
    a, b = np.meshgrid(np.array(BETAS) * Q, BETAS_TOP, indexing="ij")
    bottom, top = np.minimum(a, b) < 4, b < np.maximum(a, np.sqrt(4 * a))
    expected = {(x, y): int(((bottom == x) & (top == y)).sum()) for x in (True, False) for y in (True, False)}
    assert {(each.level_1, each.top): each.n_models for each in found.phases} == expected
    assert (found.n_models, found.n_compared, found.n_predicted) == (42, 42, 42)
    assert found.posterior_variance == Q


def test_boundaries_lie_between_grid_points(fixed):
    found = measure_phases(fixed, spectrum_of(EIGENVALUES)).boundaries
    assert Boundary(2, 1.0, 8.0, 2.4, 3.4, pytest.approx(np.sqrt(8.0)), True) in found
    assert [each for each in found if each.level == 1] == [
        Boundary(1, 1.0, held, 14.0, 20.0, pytest.approx(16.0), True) for held in (4.6, 7.0)
    ]
    shifted = measure_phases(fixed.assign(active_top=(fixed["beta_top"] < 1).astype(int)), spectrum_of(EIGENVALUES))
    top = {each.held: each.agrees for each in shifted.boundaries if each.level == 2}
    assert top == {0.5: True} | dict.fromkeys(BETAS[1:], False)
    assert shifted.n_predicted < 42


def test_most_seeds_decide_whether_a_level_is_active(fixed):
    wrong = fixed.assign(seed=1, active_top=0)
    seeds = [fixed, fixed.assign(seed=2), wrong]
    found = measure_phases(pd.concat(seeds), spectrum_of(EIGENVALUES))
    assert found.boundaries == measure_phases(fixed, spectrum_of(EIGENVALUES)).boundaries
    assert found.n_models == 126 and found.n_predicted < 126


def test_one_seed_with_many_active_latents_is_one_seed(fixed):
    dead = fixed.assign(active_top=0)
    found = measure_phases(pd.concat([dead, dead.assign(seed=1), fixed.assign(seed=2, active_top=5)]))
    assert [each for each in found.boundaries if each.level == 2] == []


def test_a_fixed_variance_is_not_fitted(fixed):
    fit = analyse(fixed, spectrum_of(EIGENVALUES), 2)
    assert fit.critical_variance is None and "fixed" in fit.reason
    assert fit.order.value is None and fit.predicted.critical_variance is None
    assert verdict(fit) == (
        "Both levels are active in 24 of 42 models, level 1 alone in 14, the top level alone in 3, neither level in 1. "
        "Theory gives the same phase for 42 of 42. The figure hierarchy shows the boundaries."
    )
    assert from_json(Analysis, json.loads(json.dumps(asdict(fit))), "fit.json") == fit
    unknown = analyse(fixed)
    assert unknown.hierarchy.n_compared is None and "Theory" not in verdict(unknown)


@pytest.mark.parametrize("n", [1, 3, 20])
def test_where_nothing_is_fitted_any_point_that_has_converged_may_remain(fixed, n):
    table = fixed.assign(converged=np.arange(42) < n)
    (line,) = analyse(table, spectrum_of(EIGENVALUES), 2).warnings
    assert line.endswith(": train longer, or leave them out (converged_only)")
    (line,) = analyse(table, spectrum_of(EIGENVALUES), 2, converged_only=True).warnings
    assert line.endswith(f": {42 - n} are left out")


def test_a_learned_variance_is_fitted_where_it_has_an_optimum():
    sweep = hierarchy_sweep(EIGENVALUES, [0.5, 1.0, 1.5, 2.5, 3.0, 3.5, 4.5, 5.0, 9.0], [0.5, 2.0, 8.0], None)
    assert level_1(sweep)["beta"].tolist() == [0.5, 1.0, 1.5, 2.5, 3.0, 3.5, 4.5, 5.0]
    fit = analyse(sweep, spectrum_of(EIGENVALUES), 2)
    in_memory = sweep.assign(posterior_variance=None)  # as a sweep in Python gives it
    assert analyse(in_memory, spectrum_of(EIGENVALUES), 2).hierarchy == fit.hierarchy
    assert fit.critical_variance == pytest.approx(4.0, rel=1e-2) and fit.beta_top == 8.0
    assert fit.hierarchy.n_compared == fit.hierarchy.n_predicted == 11
    sentence = verdict(fit)
    assert "11 of 11 with beta_top above beta; the others have no single optimum" in sentence
    assert "At beta_top = 8 level 1 is collapsed from beta = " in sentence and "predicts 4" in sentence


def test_the_warning_of_an_open_interval_is_printed_once():
    sweep = hierarchy_sweep(EIGENVALUES, [0.5, 1.0, 1.5, 2.5, 3.0, 3.5, 4.5, 5.0, 9.0], [0.5, 8.0], None)
    fit = analyse(sweep, spectrum_of(EIGENVALUES), 2)
    advice = "add points"
    fit = replace(fit, ci95=[None, None], advice=advice, warnings=[f"{OPEN}; {advice}"])
    assert fit.hierarchy is not None and f"At beta_top = 8: {OPEN}; {advice}." in str(fit)
    assert str(fit).count("open on both sides") == 1


def test_nothing_is_fitted_where_no_point_has_an_optimum():
    fit = analyse(hierarchy_sweep(EIGENVALUES, [3.0, 5.0], [1.0, 2.0], None), spectrum_of(EIGENVALUES), 2)
    assert fit.critical_variance is None and "no minimum" in fit.reason
    assert fit.hierarchy.n_compared == 0 and fit.hierarchy.boundaries == []
    assert fit.hierarchy.phases == [Phase(True, True, 4)]
    assert verdict(fit).endswith("No critical variance is fitted: " + fit.reason + ".")
