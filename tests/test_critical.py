import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phasevae import artifacts, theory
from phasevae.analysis import critical, forms
from phasevae.errors import InputError

DEFAULT = np.exp(-0.1 * np.arange(8))
GRID = [0.68, 0.71, 0.74, 0.77, 0.80, 0.82, 0.84, 0.86, 0.88, 0.90, 0.92, 0.94, 0.96, 0.98, 1.02, 1.08]


def exact_sweep(eigenvalues=DEFAULT, grid=GRID, n=4, seeds=1, beta=1.0):
    x = np.repeat(np.asarray(grid, dtype=float), seeds)
    table = {
        "sigma2": x / beta,
        "beta": beta,
        "seed": np.tile(np.arange(seeds), len(grid)),
        "kl": theory.ppca_kl(eigenvalues, x, n),
        "active_dims": theory.ppca_active_dims(eigenvalues, x, n),
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


def spectrum_of(eigenvalues=DEFAULT, skewness=0.0, kurtosis=0.0, n_samples=256_000):
    return {
        "eigenvalues": list(eigenvalues),
        "n_samples": n_samples,
        "skewness": [skewness, 0.0],
        "excess_kurtosis": [kurtosis, 0.0],
    }


def test_exact_curve_gives_back_its_spectrum():
    result = critical.fit(exact_sweep(), spectrum_of(), 4)
    assert result["model"] == "cascade" and result["reason"] is None
    assert result["critical_variance"] == pytest.approx(1.0, abs=2e-4)
    assert result["models"]["cascade"]["parameters"]["eigenvalues"] == pytest.approx(DEFAULT[:4], rel=1e-3)
    assert result["models"]["log"]["critical_variance"] == pytest.approx(1.0, abs=2e-4)
    assert result["slope_below"]["value"] == pytest.approx(-0.5, rel=0.01)
    assert result["predicted"] == {"critical_variance": 1.0, "slope_below": -0.5}
    assert result["window"] == [0.68, 1.08] and result["models"]["log"]["window"] == [0.92, 1.08]
    assert (result["n_points"], result["n_seeds"]) == (16, 1)


def test_simulated_sweeps_are_covered_without_bias():
    found = [critical.fit(noisy_sweep(seed), spectrum_of(), 4) for seed in range(10)]
    values = np.array([result["critical_variance"] for result in found])
    edges = np.array([result["ci95"] for result in found])
    assert abs(values.mean() - 1) < 0.01 and np.all(np.abs(values - 1) < 0.015)
    assert np.median((edges[:, 1] - edges[:, 0]) / 2) <= 0.015
    # Fewer than 8 of 10 has probability 0.01 at a coverage of 0.95.
    assert np.sum((edges[:, 0] <= 1) & (edges[:, 1] >= 1)) >= 8


def test_interval_is_the_likelihood_ratio_set():
    """For the log form, compared with a brute-force grid over all three parameters."""
    table = noisy_sweep(3)
    window = critical.checked_points(table).above(DEFAULT[1])
    model = critical.fit(table, spectrum_of(), 4)["models"]["log"]
    c, a, floor = np.meshgrid(
        np.linspace(0.94, 1.08, 561), np.linspace(0.2, 1.2, 201), np.linspace(0, 0.004, 21), indexing="ij"
    )
    chi2 = np.zeros(c.shape)
    for x, kl, weight in zip(window.x, window.kl, window.weight, strict=True):
        chi2 += (weight * (floor + a * np.log(np.maximum(c / x, 1)) - kl)) ** 2
    profile = chi2.min(axis=(1, 2))
    # F(1, 3) at 0.95 is 10.128; the residuals of this table are below the scatter that the weights stand for.
    assert profile.min() / 3 < 1
    inside = c[:, 0, 0][profile <= profile.min() + 10.128]
    assert model["ci95"] == pytest.approx([inside.min(), inside.max()], abs=2e-3)
    assert model["critical_variance"] == pytest.approx(c[:, 0, 0][profile.argmin()], abs=1e-3)


def test_without_spectrum_the_cascade_places_the_window():
    result = critical.fit(exact_sweep())
    assert result["critical_variance"] == pytest.approx(1.0, abs=1e-3)
    assert result["models"]["log"]["window"] == [0.92, 1.08]
    assert result["predicted"] == {"critical_variance": None, "slope_below": None}


def test_points_below_the_linear_bound_are_left_out_of_the_cascade():
    """Nonlinear decoders exceed pPCA below 0.663 for four latents; those points must not move the fit."""
    table = exact_sweep(grid=[0.5, 0.6, *GRID])
    table.loc[table["sigma2"] < 0.66, "kl"] += 0.3
    result = critical.fit(table, spectrum_of(), 4)
    assert result["window"] == [0.68, 1.08]
    assert result["critical_variance"] == pytest.approx(1.0, abs=2e-4)


def test_non_gaussian_data_use_one_mode_with_free_amplitude():
    grid = np.linspace(0.3, 1.1, 33)
    table = exact_sweep(np.array([1.0, 0.4]), grid, 2)
    table["kl"] = 0.7 * table["kl"] + 1e-4 * np.random.default_rng(0).normal(size=len(grid))
    result = critical.fit(table, spectrum_of([1.0, 0.4], skewness=0.5), 2)
    assert result["model"] == "log"
    assert result["critical_variance"] == pytest.approx(1.0, abs=1e-3)
    assert result["slope_below"]["value"] == pytest.approx(-0.35, rel=0.01)
    low, high = result["slope_below"]["ci95"]
    assert low <= -0.35 <= high


@pytest.mark.parametrize(
    ("skewness", "kurtosis", "n", "gaussian"),
    [
        (0.0, 0.0, 1000, True),
        (0.09, 0.0, 10**6, True),
        (0.2, 0.0, 10**5, False),
        (0.2, 0.0, 600, True),
        (0.0, -0.5, 10**5, False),
        (None, None, 100, True),
    ],
)
def test_looks_gaussian(skewness, kurtosis, n, gaussian):
    assert critical.looks_gaussian(spectrum_of(DEFAULT, skewness, kurtosis, n)) is gaussian


@settings(max_examples=4, deadline=None)
@given(st.floats(0.3, 40.0), st.floats(0.2, 5.0), st.integers(0, 100))
def test_units_and_beta_only_rescale(scale, beta, seed):
    """The abscissa is beta * sigma2; scaling the data scales the critical variance."""
    plain = critical.fit(noisy_sweep(seed), spectrum_of(), 4)
    table = noisy_sweep(seed).assign(beta=beta)
    table["sigma2"] *= scale / beta
    scaled = critical.fit(table, spectrum_of(scale * DEFAULT), 4)
    assert scaled["critical_variance"] == pytest.approx(scale * plain["critical_variance"], rel=2e-3)
    assert scaled["slope_below"]["value"] == pytest.approx(plain["slope_below"]["value"] / scale, rel=2e-2)


def test_order_of_rows_does_not_matter():
    table = noisy_sweep(5, seeds=2)
    shuffled = table.sample(frac=1, random_state=0)
    assert critical.fit(shuffled)["critical_variance"] == pytest.approx(
        critical.fit(table)["critical_variance"], rel=1e-6
    )


def test_many_points_are_fitted_in_seconds():
    table = noisy_sweep(0, seeds=5)
    critical.fit(table, spectrum_of(), 4)
    start = time.process_time()
    result = critical.fit(table, spectrum_of(), 4)
    assert time.process_time() - start < 3
    assert result["n_seeds"] == 5 and result["critical_variance"] == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize(
    ("grid", "words"),
    [
        (np.linspace(1.02, 1.4, 6), "all collapsed"),
        (np.linspace(0.5, 0.9, 9), "none collapsed"),
        ([0.9, 0.95, 1.05], "3 values"),
    ],
)
def test_undetermined_sweeps_have_a_reason(grid, words, tmp_path):
    result = critical.fit(exact_sweep(grid=grid), spectrum_of(), 4)
    assert result["critical_variance"] is None and result["ci95"] is None
    assert words in result["reason"]
    artifacts.write_json(tmp_path / "fit.json", result)
    assert artifacts.read_json(tmp_path / "fit.json")["predicted"]["critical_variance"] == 1.0


def test_a_window_with_too_few_points_leaves_the_form_out():
    result = critical.fit(exact_sweep(grid=[0.7, 0.75, 0.8, 0.85, 0.89, 0.97, 1.05, 1.1]), spectrum_of(), 4)
    assert result["model"] == "cascade" and result["critical_variance"] is not None
    assert "needs 4" in result["models"]["log"]["reason"]
    assert result["slope_below"] == {"value": None, "ci95": None}


def spoil(**changes):
    def apply(table):
        for column, value in changes.items():
            table.loc[3, column] = value
        return table

    return apply


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (spoil(kl=np.nan), "'kl', row 4: nan"),
        (spoil(sigma2=-0.5), "'sigma2', row 4: -0.5"),
        (spoil(beta=0.0), "'beta', row 4"),
        (spoil(sigma2=0.68), "sigma2=0.68, beta=1.0, seed=0 stands in it twice"),
        (lambda table: table.drop(columns="kl"), "column 'kl' is missing"),
        (lambda table: table.iloc[:0], "no rows"),
        (lambda table: table.assign(kl="high"), "must be numbers"),
    ],
)
def test_malformed_sweeps_raise(damage, words):
    with pytest.raises(InputError, match=words):
        critical.fit(damage(exact_sweep()))


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("cascade", {"eigenvalues": [1.0, 0.7], "floor": 0.01}),
        ("log", {"critical_variance": 1.0, "amplitude": 0.4, "floor": 0.0}),
        ("piecewise_quadratic", {"critical_variance": 1.0, "linear": 0.4, "quadratic": 0.9, "floor": 0.02}),
    ],
)
def test_derivatives_of_the_forms(name, parameters):
    x, h = np.array([0.5, 0.65, 0.8, 0.95, 1.2]), 1e-4
    values = [forms.curve(name, parameters, x + step) for step in (-h, 0, h)]
    assert forms.curve(name, parameters, x, 1) == pytest.approx((values[2] - values[0]) / (2 * h), abs=1e-6)
    second = (values[2] - 2 * values[1] + values[0]) / h**2
    assert forms.curve(name, parameters, x, 2) == pytest.approx(second, abs=1e-5)
    assert values[1][-1] == parameters["floor"]
