from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest
from gaussian_sweeps import spectrum_of
from hypothesis import given, settings
from hypothesis import strategies as st

from phasevae.analysis.kl_fit.bootstrap import SeedBootstrap
from phasevae.analysis.kl_fit.critical_point import Predicted, fit_critical_point
from phasevae.analysis.kl_fit.fit import weighted_points
from phasevae.analysis.kl_fit.forms import SINGLE_MODE, WIDTHS, form_curve, form_profile
from phasevae.analysis.kl_fit.profile_likelihood import chi2_bound
from phasevae.analysis.records import Estimate
from phasevae.analysis.sweep_table import Points
from phasevae.artifacts.files import read_json, write_json
from phasevae.errors import InputError
from phasevae.spectrum.spectrum import LikelihoodRecord, looks_gaussian
from phasevae.theory.ppca import ppca_active_dims, ppca_kl, ppca_kl_curvature, ppca_kl_slope

DEFAULT = np.exp(-0.1 * np.arange(8))
SPECTRUM = spectrum_of(DEFAULT)
GRID = [0.68, 0.71, 0.74, 0.77, 0.80, 0.82, 0.84, 0.86, 0.88, 0.90, 0.92, 0.94, 0.96, 0.98, 1.02, 1.08]


def exact_sweep(eigenvalues=DEFAULT, grid=GRID, n=4, seeds=1, beta=1.0):
    x = np.repeat(np.asarray(grid, dtype=float), seeds)
    table = {
        "sigma2": x / beta,
        "beta": beta,
        "seed": np.tile(np.arange(seeds), len(grid)),
        "kl": ppca_kl(eigenvalues, x, n),
        "active_dims": ppca_active_dims(eigenvalues, x, n),
    }
    return pd.DataFrame(table)


def noisy_sweep(seed, **options):
    """Scatter 0.002 + 0.01 KL and a deficit of up to 0.004 nats within 3 % of the transition."""
    rng = np.random.default_rng(seed)
    table = exact_sweep(**options)
    kl = table["kl"].to_numpy()
    near = np.abs(table["sigma2"] * table["beta"] - 1) < 0.03
    deficit = near * np.minimum(0.004 * rng.uniform(size=kl.size), kl)
    return table.assign(kl=kl - deficit + rng.normal(size=kl.size) * (0.002 + 0.01 * kl))


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


def test_simulated_sweeps_are_covered_without_bias():
    """`benchmarks/coverage.py` does the same 200 times."""
    results = [fit_critical_point(noisy_sweep(seed), SPECTRUM, 4) for seed in range(30)]
    values = np.array([result.critical_variance for result in results])
    edges = np.array([result.ci95 for result in results])
    # The mean of 30 scatters by 0.0006; the benchmark finds -0.0016.
    assert abs(values.mean() - 1) < 0.0035 and np.all(np.abs(values - 1) < 0.012)
    assert np.median((edges[:, 1] - edges[:, 0]) / 2) <= 0.01
    # Fewer than 26 of 30 has probability 0.02 at a coverage of 0.95.
    assert np.sum((edges[:, 0] <= 1) & (edges[:, 1] >= 1)) >= 26


def test_interval_is_the_likelihood_ratio_set():
    """For the log form, compared with a brute-force grid over all three parameters."""
    table = noisy_sweep(3)
    window = weighted_points(table, SPECTRUM, 4).above(DEFAULT[1])
    model = fit_critical_point(table, SPECTRUM, 4).models["log"]
    c, a, floor = np.meshgrid(
        np.linspace(0.94, 1.08, 561), np.linspace(0.2, 1.2, 201), np.linspace(0, 0.004, 21), indexing="ij"
    )
    chi2 = np.zeros(c.shape)
    for x, kl, weight in zip(window.x, window.kl, window.weight, strict=True):
        chi2 += (weight * (floor + a * np.log(np.maximum(c / x, 1)) - kl)) ** 2
    profile = chi2.min(axis=(1, 2))
    # F(1, 3) at 0.95 is 10.128, chi squared 3.841; the noise level is known or that of the residuals.
    inside = c[:, 0, 0][profile <= profile.min() + max(profile.min() / 3 * 10.128, 3.841)]
    assert model.ci95 == pytest.approx([inside.min(), inside.max()], abs=2e-3)
    assert model.critical_variance == pytest.approx(c[:, 0, 0][profile.argmin()], abs=1e-3)


@pytest.mark.parametrize("name", ["log", "piecewise_quadratic", "log_quadratic"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_intervals_are_those_of_minos(name, seed):
    from iminuit import Minuit

    grid = np.concatenate([np.arange(0.9, 1.06, 0.005) + 0.0013, [1.1]])
    table = noisy_sweep(seed, eigenvalues=np.array([1.0, 0.4]), grid=grid, n=2)
    model = fit_critical_point(table, spectrum_of([1.0, 0.4]), 2).models[name]
    window = weighted_points(table, spectrum_of([1.0, 0.4]), 2)
    order = list(model.parameters)

    def chi2(*values):
        curve = form_curve(name, dict(zip(order, values, strict=True)), window.x)
        return float(np.sum((window.weight * (curve - window.kl)) ** 2))

    minuit = Minuit(chi2, *model.parameters.values(), name=order)
    minuit.errordef = chi2_bound(model.chi2, model.dof) - model.chi2
    for constrained in ("floor", order[1]):
        minuit.limits[constrained] = (0, None)
    # chi2 has a kink at every point.
    minuit.strategy = 2
    minuit.simplex().migrad()
    minuit.minos("critical_variance")
    error = minuit.merrors["critical_variance"]
    assert error.is_valid
    minimum = minuit.values["critical_variance"]
    width = error.upper - error.lower
    assert model.critical_variance == pytest.approx(minimum, abs=0.02 * width)
    assert model.ci95 == pytest.approx([minimum + error.lower, minimum + error.upper], abs=0.1 * width)


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
    assert any(line.startswith("window: has no effect on the cascade") for line in inside.warnings)


def test_a_window_with_too_few_points_leaves_the_form_out():
    result = fit_critical_point(exact_sweep(grid=[0.7, 0.75, 0.8, 0.85, 0.89, 0.97, 1.05, 1.1]), SPECTRUM, 4)
    assert result.model == "cascade" and result.critical_variance is not None
    assert "needs 4" in result.models["log"].reason
    assert result.slope_below == Estimate()


def test_seeds_widen_an_interval_that_their_scatter_contradicts():
    rng = np.random.default_rng(0)
    shifts = rng.normal(scale=0.02, size=6)
    tables = [noisy_sweep(k, eigenvalues=DEFAULT * (1 + shift)).assign(seed=k) for k, shift in enumerate(shifts)]
    result = fit_critical_point(pd.concat(tables), SPECTRUM, 4)
    low, high = result.bootstrap.ci95
    # t(5) = 2.57; the scatter of six draws is itself known to a third.
    assert (high - low) / 2 == pytest.approx(2.57 * shifts.std(ddof=1) / np.sqrt(6), rel=0.3)
    assert result.ci95 == [low, high] != result.models["cascade"].ci95


@pytest.mark.parametrize("sd", [2e-4, 1e-3])
def test_the_bootstrap_resolves_seeds_that_hardly_differ(sd):
    """One mode of free amplitude, whose mean over seeds has the mean of their ln c: no number is left to chance."""
    shifts = sd * np.random.default_rng(1).normal(size=6)
    tables = [
        exact_sweep([1.0, 0.4], np.linspace(0.42, 1.12, 15), n=1).assign(seed=seed) for seed in range(len(shifts))
    ]
    for table, shift in zip(tables, shifts, strict=True):
        table["kl"] = 0.4 * np.maximum(shift - np.log(table["sigma2"]), 0)
    result = fit_critical_point(pd.concat(tables), spectrum_of([1.0, 0.4], skewness=0.5), 1)
    assert result.model == "log"
    low, high = result.bootstrap.ci95
    # t(5) = 2.57; a standard deviation of 200 resamples scatters by 5 %, and the last grid of each fit is 3e-5 wide.
    assert (high - low) / 2 == pytest.approx(2.57 * shifts.std(ddof=1) / np.sqrt(6), rel=0.2)


def test_one_seed_has_no_bootstrap():
    result = fit_critical_point(noisy_sweep(0), SPECTRUM, 4)
    assert result.bootstrap == SeedBootstrap(None, 1, 0, "1 seed, needs 3")
    assert result.ci95 == result.models["cascade"].ci95


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


def test_bands_of_the_derivatives_hold_the_exact_ones():
    derivatives = fit_critical_point(noisy_sweep(4), SPECTRUM, 4).derivatives
    x = np.array(derivatives.x)
    far = np.min(np.abs(x[:, None] / DEFAULT[:4] - 1), axis=1) > 0.02
    for band, exact in ((derivatives.first, ppca_kl_slope), (derivatives.second, ppca_kl_curvature)):
        low, high = np.array(band.low), np.array(band.high)
        truth = exact(DEFAULT, x, 4)
        assert np.mean(((low <= truth + 1e-9) & (truth <= high + 1e-9))[far]) > 0.9
        assert np.all(low <= high)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"model": "F5"}, "must be one of cascade, log"),
        ({"window": (2, 3)}, r"holds no point, .* at beta \* sigma2 = 0.68 to 1.08"),
    ],
)
def test_overrides_that_make_no_sense_raise(options, words):
    with pytest.raises(InputError, match=words):
        fit_critical_point(exact_sweep(), SPECTRUM, 4, **options)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("cascade", {"eigenvalues": [1.0, 0.7], "floor": 0.01}),
        ("log", {"critical_variance": 1.0, "amplitude": 0.4, "floor": 0.0}),
        ("piecewise_quadratic", {"critical_variance": 1.0, "linear": 0.4, "quadratic": 0.9, "floor": 0.02}),
        ("log_quadratic", {"critical_variance": 1.0, "linear": 0.4, "quadratic": -0.2, "floor": 0.02}),
        ("power", {"critical_variance": 1.0, "amplitude": 0.4, "exponent": 1.4, "floor": 0.02}),
    ],
)
def test_derivatives_of_the_forms(name, parameters):
    x, h = np.array([0.5, 0.65, 0.8, 0.95, 1.2]), 1e-4
    values = [form_curve(name, parameters, x + step) for step in (-h, 0, h)]
    assert form_curve(name, parameters, x, 1) == pytest.approx((values[2] - values[0]) / (2 * h), abs=1e-6)
    second = (values[2] - 2 * values[1] + values[0]) / h**2
    assert form_curve(name, parameters, x, 2) == pytest.approx(second, abs=1e-5)
    assert values[1][-1] == parameters["floor"]


def test_derivatives_of_the_rounded_hinge():
    parameters = {"critical_variance": 1.0, "amplitude": 0.4, "width": 0.05, "floor": 0.01}
    x, h = np.array([0.8, 0.97, 1.0, 1.04]), 1e-4
    values = [form_curve("rounded", parameters, x + step) for step in (-h, 0, h)]
    assert form_curve("rounded", parameters, x, 1) == pytest.approx((values[2] - values[0]) / (2 * h), abs=1e-5)
    second = (values[2] - 2 * values[1] + values[0]) / h**2
    assert form_curve("rounded", parameters, x, 2) == pytest.approx(second, abs=1e-3)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("log", {"critical_variance": 1.0, "amplitude": 0.4, "floor": 0.01}),
        ("log_quadratic", {"critical_variance": 1.0, "linear": 0.4, "quadratic": 0.3, "floor": 0.01}),
        ("piecewise_quadratic", {"critical_variance": 1.0, "linear": 0.4, "quadratic": -0.3, "floor": 0.01}),
        ("power", {"critical_variance": 1.0, "amplitude": 0.4, "exponent": 1.5, "floor": 0.01}),
        ("rounded", {"critical_variance": 1.0, "amplitude": 0.4, "width": WIDTHS[35], "floor": 0.01}),
    ],
)
def test_profiles_find_the_parameters_of_their_own_curve(name, parameters):
    x = np.linspace(0.7, 1.2, 26)
    points = Points(x, form_curve(name, parameters, x), np.full(26, 500.0), np.ones(26, int))
    fits = form_profile(name, points)(np.array([0.95, 1.0, 1.05]))
    c, fitted = fits.best()
    assert c == 1.0 and fits.chi2[1] < 1e-9
    assert min(fits.chi2[0], fits.chi2[2]) > 1e-2
    assert fitted == pytest.approx(parameters, rel=1e-5)


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
