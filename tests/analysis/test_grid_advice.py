"""What a fit advises where the points of a sweep do not show the transition."""

from dataclasses import replace

import numpy as np
import pytest
from gaussian_sweeps import gaussian_sweep, spectrum_of

from phasevae.analysis.kl_fit.critical_point import fit_critical_point

DEFAULT = np.exp(-0.1 * np.arange(8))
SPECTRUM = spectrum_of(DEFAULT)
AT_ONE = "; the spectrum predicts the transition at sigma2 = 1"
GRID = [0.68, 0.71, 0.74, 0.77, 0.80, 0.82, 0.84, 0.86, 0.88, 0.90, 0.92, 0.94, 0.96, 0.98, 1.02, 1.08]


def sweep_of(eigenvalues=DEFAULT, grid=GRID, n=4):
    return gaussian_sweep(None, eigenvalues, grid, n=n)


def test_a_transition_at_the_end_of_the_search_asks_for_larger_variances():
    table = sweep_of([1.2, 0.3], [0.5, 0.7, 0.8, 0.9, 0.95], n=1)
    table["kl"] -= table["kl"].min() - 1e-3
    result = fit_critical_point(table, spectrum_of([1.2, 0.3]), 1)
    expected = "the best fit has its transition at the largest sigma2"
    assert result.critical_variance is None and result.reason == result.models["cascade"].reason == expected
    assert result.advice == "add points with sigma2 above 0.95; the spectrum predicts the transition at sigma2 = 1.2"


@pytest.mark.parametrize(
    ("sigma2", "beta", "wanted"),
    [
        (GRID[:9], 0.5, "with sigma2 above 0.88; the spectrum predicts the transition at sigma2 = 2"),
        (1.0, GRID[:9], "with beta above 0.88; the spectrum predicts the transition at beta = 1"),
        (0.5, GRID[:9], "with beta above 0.88; the spectrum predicts the transition at beta = 2"),
        (GRID[:9], GRID[:9], "with beta * sigma2 above 0.7744; the spectrum predicts the transition at beta * sigma2 "),
    ],
)
def test_points_are_advised_in_the_quantity_that_was_varied(sigma2, beta, wanted):
    table = sweep_of(grid=GRID[:9]).assign(sigma2=sigma2, beta=beta, kl=1.0)
    assert fit_critical_point(table, SPECTRUM, 4).advice.startswith(f"add points {wanted}")


@pytest.mark.parametrize(
    ("grid", "kl", "advice"),
    [
        ([0.5, 0.6, 0.7, 0.9], 0.0, "points below it are collapsed"),
        ([0.5, 0.9, 1.1, 1.4], 0.0, "points below it are collapsed"),
        ([1.02, 1.1, 1.2, 1.4], 1.0, "points above it are active"),
        ([0.8, 1.1, 1.2, 1.4], 1.0, "points above it are active"),
    ],
)
def test_points_that_contradict_the_prediction_are_no_reason_to_add_more(grid, kl, advice):
    advised = fit_critical_point(sweep_of(grid=grid).assign(kl=kl), SPECTRUM, 4).advice
    assert advised.startswith(f"{AT_ONE[2:]}, but {advice}: they have not converged, ")


@pytest.mark.parametrize(
    ("grid", "kl", "wanted"), [([0.98, 1.1, 1.2, 1.4], 0.0, "below 0.98"), ([0.7, 0.8, 0.9, 1.02], 1.0, "above 1.02")]
)
def test_next_to_the_prediction_points_are_slow_rather_than_wrong(grid, kl, wanted):
    advised = fit_critical_point(sweep_of(grid=grid).assign(kl=kl), SPECTRUM, 4).advice
    assert advised == f"add points with sigma2 {wanted}{AT_ONE}"


def test_points_that_are_collapsed_within_their_scatter_ask_for_smaller_variances():
    table = sweep_of(grid=[5, 6, 7, 8]).assign(kl=[0.0012, 0.0005, 0.0004, 0.0003], active_dims=[1, 0, 0, 0])
    result = fit_critical_point(table)
    assert result.reason == "a constant KL describes the points as well"
    assert result.advice == "add points with sigma2 below 5"


def test_the_prediction_of_an_encoder_that_does_not_see_the_condition_is_a_bound():
    table = sweep_of(grid=GRID[:9]).assign(encoder_sees_condition=False)
    for unaware, place in ((None, "1 at most"), (0.8, "0.8 to 1")):
        advice = fit_critical_point(table, replace(SPECTRUM, unaware_variance=unaware), 4).advice
        assert advice.endswith(f"predicts the transition at sigma2 = {place}")


@pytest.mark.parametrize("end", [0.75, 0.9])
def test_a_window_that_ends_before_the_transition_asks_for_a_wider_one(end):
    """A form with a floor would find a transition among the active points."""
    result = fit_critical_point(sweep_of(), SPECTRUM, 4, model="log", window=(0.5, end))
    assert result.critical_variance is None
    assert result.reason == "none collapsed in the window: KL is above 0.005 nats at every point"
    assert result.advice == f"choose a window that reaches higher{AT_ONE}"


@pytest.mark.parametrize(
    ("window", "advice"),
    [
        ((1.01, 1.4), "choose a window that reaches lower"),
        ((0.97, 1.03), "choose a wider window"),
        ((0.5, 1.4), None),
    ],
)
def test_a_window_without_the_transition_is_no_lack_of_points(window, advice):
    table = sweep_of(grid=[0.5, 0.6, *GRID, 1.2, 1.3, 1.4])
    result = fit_critical_point(table, SPECTRUM, 4, model="log", window=window)
    assert result.advice == (advice and f"{advice}{AT_ONE}")
    assert (result.critical_variance is None) == (advice is not None)


def test_points_outside_an_automatic_window_count_for_the_advice():
    eigenvalues = np.array([1.0, 0.95])
    table = sweep_of(eigenvalues, [0.5, 0.6, 0.7, 0.8, 0.9, 1.1, 1.2], n=2)
    result = fit_critical_point(table, spectrum_of(eigenvalues), 2, model="log")
    assert result.reason == "2 values of sigma2 in the window, needs 4"
    assert result.advice == f"add points around sigma2 = 0.9 to 1.1{AT_ONE}"
