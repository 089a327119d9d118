from __future__ import annotations

import itertools
import json
import subprocess
from dataclasses import asdict
from pathlib import Path

import forked
import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from phasevae.analysis.kl_fit.critical_point import fit_critical_point
from phasevae.errors import InputError
from phasevae.spectrum.spectrum import Spectrum
from phasevae.spectrum.spectrum_files import write_spectrum
from phasevae.sweeps.plan import make_plan, read_plan
from phasevae.sweeps.refine import FINEST_STEP, SAME, STEPS, Transition, refined_values, transitions
from phasevae.theory.ppca import ppca_active_dims, ppca_kl

EIGENVALUES = [4.0, 2.0, 1.0, 0.5]


def fit_of(critical_variance, ci95, smaller=()):
    cascade = {"parameters": {"eigenvalues": [critical_variance, *smaller], "floor": 0.0}}
    return {"critical_variance": critical_variance, "ci95": ci95, "models": {"cascade": cascade}}


def test_the_thresholds_of_an_exact_sweep_are_refined():
    """Coarse pPCA curve with scatter of 1e-4 nats: the new points close in on 2 and 4, the eigenvalues in the grid."""
    grid = [1.2, 1.5, 1.8, 2.2, 2.6, 3.0, 3.4, 3.8, 4.2, 4.6]
    kl = ppca_kl(EIGENVALUES, np.array(grid), 4) + 1e-4 * np.random.default_rng(0).normal(size=len(grid))
    active = ppca_active_dims(EIGENVALUES, np.array(grid), 4)
    sweep = pd.DataFrame({"sigma2": grid, "beta": 1.0, "seed": 0, "kl": kl, "active_dims": active})
    thresholds = transitions(asdict(fit_critical_point(sweep, n_latent=4)), limit=4)
    assert [transition.x for transition in thresholds] == pytest.approx([4.0, 2.0], rel=5e-3)
    # Steps of 0.05 around 4 (a third of 3 %, rounded) and of 0.05 around 2 (a third of half the gap, rounded).
    near_4 = [3.85, 3.9, 3.95, 4.0, 4.05, 4.1, 4.15]
    near_2 = [1.85, 1.9, 1.95, 2.0, 2.05, 2.1, 2.15]
    assert refined_values(thresholds, grid) == near_2 + near_4


def test_the_interval_sets_the_spacing():
    narrow, wide = (refined_values([Transition(1.0, width)], [0.2, 1.8]) for width in (0.03, 0.3))
    assert narrow == [0.97, 0.98, 0.99, 1.0, 1.01, 1.02, 1.03]
    assert wide == [0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3]


def test_points_of_the_grid_are_not_repeated():
    new = refined_values([Transition(1.0, 0.03)], [0.5, 0.97, 1.001, 1.5])
    assert new == [0.98, 0.99, 1.01, 1.02, 1.03]


def test_relative_grids_and_betas_are_refined_in_their_own_units():
    """x = beta * ratio * lambda_1: with lambda_1 = 20 and beta = 2 the transition at x = 10 lies at ratio 0.25."""
    new = refined_values([Transition(10.0, 0.3)], [0.1, 0.2, 0.3], unit=2 * 20.0)
    assert new == [0.244, 0.246, 0.248, 0.25, 0.252, 0.254, 0.256]


def test_nothing_is_added_outside_the_grid():
    assert refined_values([Transition(3.0, 0.1), Transition(0.4, 0.1)], [0.5, 1.0, 2.0]) == []
    assert max(refined_values([Transition(1.99, 0.1)], [0.5, 1.0, 2.0])) < 2.0


@given(
    st.lists(st.floats(1e-3, 1e3), min_size=2, max_size=12, unique=True),
    st.lists(st.tuples(st.floats(1e-3, 1e3), st.none() | st.floats(1e-6, 10.0)), min_size=1, max_size=4),
)
def test_new_values_are_few_short_apart_and_inside(grid, thresholds):
    new = refined_values([Transition(x, width) for x, width in thresholds], grid)
    assert len(new) <= len(thresholds) * (2 * STEPS + 1)
    assert new == sorted(set(new)) and not set(new) & set(grid)
    for value in new:
        assert min(grid) < value < max(grid)
        digits = f"{value!r}".split("e")[0].replace(".", "").strip("0")
        assert len(digits) <= 4
    for lower, upper in itertools.pairwise(new):
        assert upper - lower >= 0.5 * SAME * FINEST_STEP * lower


@given(st.floats(0.8, 1.2), st.floats(-1, 1))
def test_an_estimate_that_moves_a_little_keeps_most_points(x, shift):
    """Half a step changes the points by at most one at each end."""
    before, after = (refined_values([Transition(at, 0.15)], [0.1, 3.0]) for at in (x, x + 0.025 * shift))
    assume(before and after)
    assert len(set(before) & set(after)) >= len(before) - 1


def test_transitions_of_a_fit():
    thresholds = transitions(fit_of(1.0, [0.98, 1.01], [0.99, 0.8, 0.7999, 0.5]), limit=4)
    assert thresholds == [Transition(1.0, pytest.approx(0.02)), Transition(0.8, None), Transition(0.5, None)]
    assert [transition.x for transition in transitions(fit_of(1.0, [None, 1.1], [0.8, 0.5]), limit=2)] == [1.0, 0.8]
    assert transitions(fit_of(1.0, [None, 1.2]), limit=1) == [Transition(1.0, pytest.approx(0.2))]


def test_a_sweep_without_transition_has_nothing_to_refine():
    fit = {"critical_variance": None, "ci95": None, "models": {}, "reason": "all collapsed"}
    assert transitions(fit, limit=4) == []
    assert refined_values([], [0.5, 1.0]) == []


def test_nothing_is_added_around_a_transition_that_the_points_do_not_determine():
    assert transitions(fit_of(1.0, [None, None], [0.8, 0.5]), limit=2) == []


def test_a_fit_without_its_keys_is_refused():
    with pytest.raises(InputError, match="fit: key 'models' is missing"):
        transitions({"critical_variance": 1.0, "ci95": [0.9, 1.1]}, limit=4)


def refine(folder: Path, *arguments: object) -> subprocess.CompletedProcess:
    """`phasevae refine` of a fit with its transition at 3 +- 0.1 in `folder`."""
    (folder / "fit.json").write_text(json.dumps(fit_of(3.0, [2.9, 3.1])))
    command = ["refine", folder / "fit.json", *arguments, "-o", folder / "refined.csv"]
    return forked.run("phasevae.cli.main:main", *map(str, command))


def test_the_command_adds_to_each_beta_of_a_plan(tmp_path):
    """With beta = 2 the transition lies at sigma2 = 1.5."""
    settings = {"n_latent": 2, "sigma2": [1.0, 2.0, 4.0], "beta": [1.0, 2.0], "seeds": [0, 1]}
    done = refine(tmp_path, "--settings", json.dumps(settings))
    assert done.returncode == 0, done.stderr
    assert "28 new points around 1 transitions, 40 in all" in done.stdout
    plan = read_plan(tmp_path / "refined.csv")
    coarse = make_plan(settings | {"n_buckets": 8})
    assert [point for point in plan if point in coarse] == coarse
    new = {beta: {point.sigma2 for point in plan if point not in coarse and point.beta == beta} for beta in (1, 2)}
    assert new == {1: {2.85, 2.9, 2.95, 3.0, 3.05, 3.1, 3.15}, 2: {1.44, 1.46, 1.48, 1.5, 1.52, 1.54, 1.56}}


def test_a_relative_grid_needs_the_spectrum(tmp_path):
    done = refine(tmp_path, "--settings", json.dumps({"n_latent": 2, "sigma2_ratio": [0.5, 1.5]}))
    assert done.returncode == 2
    assert done.stderr.strip() == (
        "phasevae: refine: the grid is relative to the largest eigenvalue; give --spectrum spectrum.json"
    )
    assert not (tmp_path / "refined.csv").exists()


def test_a_relative_grid_is_refined_in_units_of_the_largest_eigenvalue(tmp_path):
    """The transition at 3 lies at half of a largest eigenvalue of 6."""
    values, zeros = np.array([6.0, 1.0]), np.zeros(2)
    write_spectrum(tmp_path / "s.json", Spectrum(values, zeros, 7.0, 1000, 6.0, zeros, zeros))
    settings = json.dumps({"n_latent": 2, "sigma2_ratio": [0.25, 1.25]})
    done = refine(tmp_path, "--settings", settings, "--spectrum", tmp_path / "s.json")
    assert done.returncode == 0, done.stderr
    plan = read_plan(tmp_path / "refined.csv")
    assert [point.ratio for point in plan] == [0.25, 0.485, 0.49, 0.495, 0.5, 0.505, 0.51, 0.515, 1.25]
    assert plan[1].path == "points/ratio=0.485,seed=0"
