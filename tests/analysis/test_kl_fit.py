"""The fit of the critical point: which form, which points, and why there is none."""

from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest
from gaussian_sweeps import spectrum_of
from hypothesis import given, settings
from hypothesis import strategies as st
from kl_sweeps import DEFAULT, GRID, SPECTRUM, exact_sweep, noisy_sweep

from phasevae.analysis.kl_fit.critical_point import Predicted, fit_critical_point
from phasevae.analysis.kl_fit.forms import SINGLE_MODE
from phasevae.analysis.records import Estimate
from phasevae.artifacts.files import read_json, write_json
from phasevae.errors import InputError
from phasevae.spectrum.spectrum import LikelihoodRecord, looks_gaussian


def test_exact_curve_gives_back_its_spectrum():
    result = fit_critical_point(exact_sweep(), SPECTRUM, 4)
    assert result.model == "cascade" and result.reason is None
    assert result.critical_variance == pytest.approx(1.0, abs=2e-4)
    assert result.models["cascade"].parameters["eigenvalues"] == pytest.approx(DEFAULT[:4], rel=1e-3)
    assert result.models["log"].critical_variance == pytest.approx(1.0, abs=2e-4)
    assert result.slope_below.value == pytest.approx(-0.5, rel=0.01)
    assert result.predicted == Predicted(1.0, -0.5)
    assert result.window == [0.68, 1.08] and result.models["log"].window == [0.92, 1.08]
    assert (result.n_points, result.n_seeds) == (16, 1)


@pytest.mark.parametrize("misfit", [0.0, 0.01])
def test_between_critical_points_that_fit_alike_the_middle_is_taken(misfit):
    # Two eigenvalues between neighbouring points: the points know their product alone.
    grid = [0.84, 0.86, 0.9, 0.94, 0.97, 1.03]
    sweep = exact_sweep([1.0, 0.982, 0.1], grid, n=2, seeds=3)
    sweep["kl"] += misfit * (sweep["sigma2"] < 0.9)
    product = 1.0 * 0.982
    rng = np.random.default_rng(0)
    found = []
    for _ in range(4):
        noise = 1 + 1e-9 * rng.normal(size=len(sweep))
        found.append(fit_critical_point(sweep.assign(kl=sweep["kl"] * noise)).critical_variance)
    assert max(found) - min(found) < 2e-4
    if not misfit:
        # The larger one lies anywhere from where both are equal to where the smaller one meets a point.
        assert found[0] == pytest.approx((product**0.5 + product / 0.97) / 2, abs=5e-4)


def test_without_spectrum_the_cascade_places_the_window():
    result = fit_critical_point(exact_sweep())
    assert result.critical_variance == pytest.approx(1.0, abs=1e-3)
    assert result.models["log"].window == [0.92, 1.08]
    assert result.predicted == Predicted()


def test_points_below_the_linear_bound_are_left_out_of_the_cascade():
    """Nonlinear decoders exceed pPCA below 0.663 for four latents; those points must not move the fit."""
    table = exact_sweep(grid=[0.5, 0.6, *GRID])
    table.loc[table["sigma2"] < 0.66, "kl"] += 0.3
    result = fit_critical_point(table, SPECTRUM, 4)
    assert result.window == [0.68, 1.08]
    assert result.critical_variance == pytest.approx(1.0, abs=2e-4)


def test_non_gaussian_data_use_one_mode_with_free_amplitude():
    grid = np.linspace(0.3, 1.1, 33)
    table = exact_sweep(np.array([1.0, 0.4]), grid, 2)
    table["kl"] = 0.7 * table["kl"] + 1e-4 * np.random.default_rng(0).normal(size=len(grid))
    result = fit_critical_point(table, spectrum_of([1.0, 0.4], skewness=0.5), 2)
    assert result.model == "log"
    assert result.critical_variance == pytest.approx(1.0, abs=1e-3)
    assert result.slope_below.value == pytest.approx(-0.35, rel=0.01)
    low, high = result.slope_below.ci95
    assert low <= -0.35 <= high


@pytest.mark.parametrize(
    ("skewness", "kurtosis", "n", "gaussian"),
    [
        (0.0, 0.0, 1000, True),
        (0.09, 0.0, 10**6, True),
        (0.2, 0.0, 10**5, False),
        (0.2, 0.0, 600, True),
        (0.0, -0.5, 10**5, False),
        (np.nan, np.nan, 100, True),
    ],
)
def test_looks_gaussian(skewness, kurtosis, n, gaussian):
    assert looks_gaussian(spectrum_of(DEFAULT, skewness, kurtosis, n)) is gaussian


@settings(max_examples=4, deadline=None)
@given(st.floats(0.3, 40.0), st.floats(0.2, 5.0), st.integers(0, 100))
def test_units_and_beta_only_rescale(scale, beta, seed):
    """The abscissa is beta * sigma2; scaling the data scales the critical variance."""
    plain = fit_critical_point(noisy_sweep(seed), SPECTRUM, 4)
    table = noisy_sweep(seed).assign(beta=beta)
    table["sigma2"] *= scale / beta
    scaled = fit_critical_point(table, spectrum_of(scale * DEFAULT), 4)
    assert scaled.critical_variance == pytest.approx(scale * plain.critical_variance, rel=2e-3)
    assert scaled.slope_below.value == pytest.approx(plain.slope_below.value / scale, rel=2e-2)


def test_order_of_rows_does_not_matter():
    table = noisy_sweep(5, seeds=2)
    shuffled = table.sample(frac=1, random_state=0)
    assert fit_critical_point(shuffled).critical_variance == pytest.approx(
        fit_critical_point(table).critical_variance, rel=1e-6
    )


def test_seeds_are_averaged():
    result = fit_critical_point(noisy_sweep(0, seeds=5), SPECTRUM, 4)
    assert (result.n_points, result.n_seeds) == (80, 5)
    assert result.critical_variance == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize(
    ("grid", "words", "wanted"),
    [
        (np.linspace(1.02, 1.4, 6), "all collapsed", "with sigma2 below 1.02"),
        (np.linspace(0.5, 0.9, 9), "none collapsed", "with sigma2 above 0.9"),
        ([0.9, 0.95, 1.05], "3 values", "around sigma2 = 0.95 to 1.05"),
        ([0.8, 0.9], "2 values", "with sigma2 above 0.9"),
        ([1.1], "1 value of", "with sigma2 below 1.1"),
    ],
)
def test_undetermined_sweeps_have_a_reason_and_say_where_to_add_points(grid, words, wanted, tmp_path):
    result = fit_critical_point(exact_sweep(grid=grid), SPECTRUM, 4)
    assert result.critical_variance is None and result.ci95 is None
    assert words in result.reason
    assert result.advice == f"add points {wanted}; the spectrum predicts the transition at sigma2 = 1"
    assert fit_critical_point(exact_sweep(grid=grid)).advice == f"add points {wanted}"
    write_json(tmp_path / "fit.json", asdict(result))
    assert read_json(tmp_path / "fit.json")["predicted"]["critical_variance"] == 1.0


def test_a_window_that_the_cascade_does_not_heed_is_named():
    whole, inside = (fit_critical_point(exact_sweep(), SPECTRUM, 4, window=window) for window in (None, (0.7, 1.15)))
    assert whole.model == inside.model == "cascade" and inside.critical_variance == whole.critical_variance
    assert not any("no effect" in line for line in whole.warnings)
    (line,) = [line for line in inside.warnings if line.startswith("window: has no effect on the cascade")]
    assert line.endswith('choose a form with one mode, such as model="log" (--model log)')


def test_a_window_with_too_few_points_leaves_the_form_out():
    result = fit_critical_point(exact_sweep(grid=[0.7, 0.75, 0.8, 0.85, 0.89, 0.97, 1.05, 1.1]), SPECTRUM, 4)
    assert result.model == "cascade" and result.critical_variance is not None
    assert "needs 4" in result.models["log"].reason
    assert result.slope_below == Estimate()


def test_one_hinge_across_several_eigenvalues_is_warned_of():
    """The trap of the paper's piecewise fit: KL is drawn to a hinge between the eigenvalues."""
    grid = np.arange(0.66, 1.2, 0.02)
    plain = fit_critical_point(exact_sweep(grid=grid), SPECTRUM, 4)
    forced = fit_critical_point(exact_sweep(grid=grid), SPECTRUM, 4, model="log", window=(0.65, 1.2))
    assert plain.warnings == []
    assert forced.critical_variance == pytest.approx(0.93, abs=0.02)
    assert forced.warnings[0].startswith("window: begins at beta * sigma2 = 0.66, below the second eigenvalue 0.9")
    assert "one hinge across several eigenvalues" in forced.warnings[0]
    assert forced.models["power"].parameters["exponent"] > 1.5
    assert "power: exponent" in forced.warnings[1]


def test_the_spread_weighs_the_single_mode_forms():
    grid = np.concatenate([np.arange(0.9, 1.06, 0.01), [1.1]])
    result = fit_critical_point(noisy_sweep(1, grid=grid), SPECTRUM, 4)
    weights = [result.models[name].weight for name in SINGLE_MODE]
    assert sum(weights) == pytest.approx(1) and result.models["cascade"].weight is None
    low, high = result.spread.range
    assert low < result.spread.mean < high and 0 < result.spread.sd < (high - low)
    assert result.models["rounded"].parameters["width"] < 0.05


def test_the_jump_of_the_slope_is_compared_with_theory():
    table = noisy_sweep(0, grid=np.concatenate([np.arange(0.9, 1.06, 0.01), [1.1]]))
    jump = fit_critical_point(table, SPECTRUM, 4).slope_jump
    assert jump.predicted == pytest.approx(0.5) and jump.agrees
    assert jump.ci95[0] < 0.5 < jump.ci95[1]
    other = fit_critical_point(table.assign(kl=1.6 * table["kl"]), SPECTRUM, 4).slope_jump
    assert other.agrees is False and other.value == pytest.approx(1.6 * jump.value, rel=0.05)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"model": "F5"}, "must be one of cascade, log"),
        ({"window": (2, 3)}, r"holds no point, .* at beta \* sigma2 = 0.68 to 1.08"),
        ({"window": (0.3,)}, r"^window: \(0.3,\), must be two numbers, the lowest and the highest beta \* sigma2$"),
        ({"window": (0.7, 0.8, 0.9)}, r"^window: \(0.7, 0.8, 0.9\), must be two numbers"),
        ({"window": (0.9, 0.7)}, r"^window: \(0.9, 0.7\), must be two numbers"),
        ({"window": ("low", 0.7)}, r"^window: \('low', 0.7\), must be two numbers"),
        ({"window": "01"}, "^window: '01', must be two numbers"),
        ({"window": 0.7}, "^window: 0.7, must be two numbers"),
    ],
)
def test_overrides_that_make_no_sense_raise(options, words):
    with pytest.raises(InputError, match=words):
        fit_critical_point(exact_sweep(), SPECTRUM, 4, **options)


def test_absolute_errors_are_fitted_with_a_free_power():
    """Their KL vanishes with the square of the distance; for other likelihoods one mode is the default."""
    x = np.array([0.6, 0.68, 0.75, 0.8, 0.85, 0.9, 0.94, 0.97, 1.02, 1.06, 1.1])
    kl = 1.2 * np.maximum(1 - x, 0) ** 2
    sweep = pd.DataFrame({"sigma2": 1.0, "beta": x, "seed": 0, "kl": kl, "active_dims": (kl > 1e-3).astype(int)})
    for name, form in (("laplace", "power"), ("poisson", "log")):
        spectrum = replace(spectrum_of([1.0, 0.5]), likelihood=LikelihoodRecord(name, {}, 1.0))
        fit = fit_critical_point(sweep, spectrum, 1)
        assert fit.model == form
        if form == "power":
            assert fit.critical_variance == pytest.approx(1, rel=0.01)
            assert fit.models["power"].parameters["exponent"] == pytest.approx(2, abs=0.3)
            assert not any(line.startswith("power") for line in fit.warnings)
