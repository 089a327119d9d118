"""The threshold of each mode."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from gaussian_sweeps import GRID, contains, rotated_dimensions, spectrum_of

from phasevae.analysis.kl_fit.critical_point import fit_critical_point
from phasevae.analysis.thresholds import fit_thresholds


def test_thresholds_do_not_depend_on_the_basis_of_the_latents():
    eigenvalues = np.array([1.0, 0.9, 0.6, 0.3])
    grid = np.arange(0.2, 1.2, 0.035)
    thresholds = fit_thresholds(rotated_dimensions(eigenvalues, grid, 4), spectrum_of(eigenvalues), 4)
    assert [mode.threshold for mode in thresholds.modes] == pytest.approx(eigenvalues, rel=2e-3)
    assert all(contains(mode, value) for mode, value in zip(thresholds.modes, eigenvalues, strict=True))
    assert thresholds.staircase.active == thresholds.staircase.predicted


def test_modes_without_a_threshold_say_why():
    eigenvalues = np.array([1.0, 0.9, 0.1])
    thresholds = fit_thresholds(
        rotated_dimensions(eigenvalues, np.arange(0.5, 0.97, 0.05), 3), spectrum_of(eigenvalues)
    )
    assert [mode.reason for mode in thresholds.modes] == [
        "active at every beta * sigma2",
        None,
        "never active where theory is exact",
    ]
    old = rotated_dimensions(eigenvalues, GRID, 3).drop(columns="mean_eigenvalue")
    assert "collect the points again" in fit_thresholds(old).reason


def modes_of_other_data(grid):
    """Tables of two modes with thresholds at 1 and 0.92 whose slopes are not 1/2: below 0.92 that of the first is
    larger, as it is for handwritten digits."""
    second = np.maximum(np.log(0.92 / grid), 0)
    kl = np.stack([0.55 * np.maximum(-np.log(grid), 0) + second, 0.9 * second], axis=1)
    latents = [
        {"sigma2": x, "beta": 1.0, "seed": 0, "latent": j, "mean_eigenvalue": -np.expm1(-2 * value)}
        for x, values in zip(grid, kl, strict=True)
        for j, value in enumerate(values)
    ]
    sweep = {"sigma2": grid, "beta": 1.0, "seed": 0, "kl": kl.sum(1), "active_dims": (kl > 1e-3).sum(1)}
    return pd.DataFrame(sweep), pd.DataFrame(latents)


@pytest.mark.parametrize("skipped", [[], [0.94, 0.96]])
def test_a_mode_of_other_data_is_fitted_where_the_next_one_is_collapsed(skipped):
    """A hinge across the change of slope would lie below points at which the mode is active."""
    grid = np.array([0.3, 0.5, 0.7, 0.8, 0.88, 0.91, 0.94, 0.96, 0.98, 1.03, 1.08, 1.15])
    sweep, dimensions = modes_of_other_data(grid[~np.isin(grid, skipped)])
    spectrum = spectrum_of([1.0, 0.92, 0.5], skewness=0.6)
    first, second = fit_thresholds(dimensions, spectrum, 2).modes
    # Without 0.94 and 0.96 the fit takes a point below 0.92, to have two active ones.
    assert first.threshold == pytest.approx(1.0, abs=0.02 if skipped else 2e-3) and contains(first, 1.0)
    assert second.threshold == pytest.approx(0.92, abs=5e-3) and contains(second, 0.92)
    if not skipped:
        # The second mode of one point far above its threshold has not collapsed: the first is fitted as before.
        late = dimensions.copy()
        late.loc[(late["sigma2"] == 0.98) & (late["latent"] == 1), "mean_eigenvalue"] = -np.expm1(-2 * 0.006)
        assert fit_thresholds(late, spectrum, 2).modes[0] == first
        # The same of a point far below it that is collapsed, where no eigenvalue is known.
        bound, early = replace(spectrum, is_bound=True), dimensions.copy()
        early.loc[(early["sigma2"] == 0.5) & (early["latent"] == 1), "mean_eigenvalue"] = 0.0
        assert fit_thresholds(early, bound, 2).modes[0] == fit_thresholds(dimensions, bound, 2).modes[0]
    whole = fit_critical_point(sweep, spectrum, 2)
    assert whole.model == "log" and contains(whole, first.threshold) and contains(first, whole.critical_variance)
