from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest
from gaussian_sweeps import GRID, SINGLE, contains, gaussian_sweep, rotated_dimensions, spectrum_of

from phasevae.analysis.beta_equivalence import FixedParameter, compare_sweeps
from phasevae.analysis.exponents import fit_exponents
from phasevae.analysis.hysteresis import binodal_ratio, measured_hysteresis
from phasevae.analysis.kl_fit.critical_point import fit_critical_point
from phasevae.analysis.order import transition_order
from phasevae.analysis.pipeline import Analysis, analyse
from phasevae.analysis.records import from_json
from phasevae.analysis.slowing import fit_slowing, relaxation_time
from phasevae.analysis.sweep_table import SweptQuantity
from phasevae.analysis.thresholds import fit_thresholds
from phasevae.artifacts.files import read_json, write_json
from phasevae.errors import InputError
from phasevae.spectrum.variance_proxy import variance_proxy_ratio
from phasevae.theory.stability import soft_modes, stability_blocks


def abrupt_sweep():
    """KL falls from 0.29 nats to zero at x = 1.4, the ELBO gap linearly to zero there."""
    x = np.array([0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.25, 1.3, 1.35, 1.45, 1.55])
    rng, on = np.random.default_rng(0), x < 1.4
    kl = np.where(on, 0.33 - 0.1 * (x - 1), 0.0) + 1e-3 * rng.normal(size=x.size)
    gap = np.where(on, 0.2 * (1.4 - x), 0.0)
    return pd.DataFrame({"sigma2": x, "beta": 1.0, "seed": 0, "kl": kl, "elbo_gap": gap, "active_dims": on * 1})


@pytest.mark.parametrize("beta", [1.0, 2.5])
def test_a_gaussian_collapse_is_of_second_order(beta):
    table, spectrum = gaussian_sweep(beta=beta), spectrum_of()
    order = transition_order(table, spectrum, fit_critical_point(table, spectrum, 4))
    assert order.value == 2
    assert order.kl.slope_jump.value == pytest.approx(0.5, rel=0.05)
    # MSE rises with slope 1 up to lambda_1, hence the squared amplitude lambda_1 - sigma2 falls with slope 1.
    assert order.amplitude2.slope_jump.value == pytest.approx(1.0, rel=0.05)
    assert contains(order.elbo.second_jump, -0.5) and contains(order.elbo.first_jump, 0.0)
    for quantity in (order.kl, order.amplitude2, order.elbo):
        assert contains(quantity.jump, 0.0)


@pytest.mark.parametrize("seed", range(4))
def test_order_and_exponents_survive_noise(seed):
    table, spectrum = gaussian_sweep(seed), spectrum_of()
    fit = fit_critical_point(table, spectrum, 4)
    assert transition_order(table, spectrum, fit).value == 2
    exponents = fit_exponents(table, spectrum, fit)
    for exponent, expected in ((exponents.kl, 1.0), (exponents.amplitude, 0.5), (exponents.gap, 2.0)):
        assert contains(exponent, expected) and exponent.expected == expected


def test_exponents_of_the_exact_curves():
    table, spectrum = gaussian_sweep(), spectrum_of()
    exponents = fit_exponents(table, spectrum, fit_critical_point(table, spectrum, 4))
    assert exponents.kl.value == pytest.approx(1.0, abs=0.1)
    assert exponents.amplitude.value == pytest.approx(0.5, abs=0.05)
    assert exponents.gap.value == pytest.approx(2.0, abs=0.2)


def test_a_jump_of_kl_is_of_first_order():
    table, spectrum = abrupt_sweep(), spectrum_of([1.0, 0.0], skewness=2.7)
    order = transition_order(table, spectrum, fit_critical_point(table, spectrum, 1))
    assert order.value == 1
    low, high = order.kl.jump.ci95
    assert low < 0.29 < high and low > 0.2
    assert contains(order.elbo.first_jump, 0.2)


def test_too_few_points_have_a_reason_instead_of_an_order():
    table, spectrum = gaussian_sweep(grid=[0.5, 0.6, 0.97, 1.05, 1.1]), spectrum_of()
    order = transition_order(table, spectrum, fit_critical_point(table, spectrum, 4))
    assert order.value is None and "needs 3 and 1" in order.reason
    assert "needs 5" in fit_exponents(table, spectrum, fit_critical_point(table, spectrum, 4)).reason


@pytest.mark.parametrize(("second", "asked"), [(0.92, False), (0.88, True)])
def test_exponents_ask_for_points_only_where_there_is_room_for_them(second, asked):
    table, spectrum = gaussian_sweep(grid=[0.5, 0.6, 0.97, 1.05, 1.1]), spectrum_of([1.0, second])
    fit = replace(fit_critical_point(gaussian_sweep(), spectrum_of(), 4), critical_variance=1.0, ci95=[0.99, 1.01])
    reason = fit_exponents(table, spectrum, fit).reason
    assert ("needs 5 that reach 0.1" in reason) is asked
    assert ("the second eigenvalue, at t = 0.08, is too close to the transition" in reason) is not asked


def test_reasons_name_what_the_user_varied():
    weight, spectrum = SweptQuantity("weight", 2.0), spectrum_of()
    table = gaussian_sweep(grid=[0.5, 0.6, 0.97, 1.05, 1.1])
    dimensions = rotated_dimensions(SINGLE, [0.5, 0.6, 0.7], 4)
    fit = analyse(table, spectrum, 4, upward=upward_table(), swept=weight)
    assert "beyond lambda_1, at weight = 0.55, 0.6, " in fit.order.reason
    few = transition_order(table, spectrum, fit_critical_point(table, spectrum, 4, swept=weight))
    assert few.reason.startswith("0 values of weight below the transition in the single-mode window and 3 above it")
    assert fit_thresholds(dimensions, spectrum, 4, weight).modes[0].reason == "active at every weight"
    assert fit_slowing(settling_histories(), 1.0, weight).reason == "3 values of weight settle visibly, needs 5"
    varied = analyse(gaussian_sweep(grid=[0.7, 0.8, 0.9, 1.1, 1.2]), spectrum, 4, histories=settling_histories())
    assert varied.slowing.reason == "3 values of sigma2 settle visibly, needs 5"
    several = pd.concat([gaussian_sweep(0, grid=[x], beta=x) for x in (0.8, 0.9)])
    assert compare_sweeps(several, weight).reason == "no two sweeps share 3 values of weight"


def settling_histories():
    """Three points whose KL settles."""
    time = np.arange(40.0)
    return pd.concat(
        pd.DataFrame({"sigma2": x, "beta": 1.0, "seed": 0, "current_sigma2": x, "learning_time": time,
                      "kl": 1 + np.exp(-time / 8)}) for x in (0.7, 0.8, 0.9)
    )  # fmt: skip


def test_sweeps_of_different_beta_agree_if_they_are_one_curve():
    tables = [gaussian_sweep(seed, beta=beta) for seed, beta in enumerate((1.0, 0.5, 4.0))]
    tables[1] = tables[1].iloc[::2]
    comparison = compare_sweeps(pd.concat(tables))
    assert comparison.agrees is True and [item.value for item in comparison.sweeps] == [0.5, 4.0]
    # A curve against sigma2 instead of beta * sigma2 is another one.
    wrong = gaussian_sweep(3, beta=4.0).assign(kl=lambda table: 0.8 * table["kl"])
    assert compare_sweeps(pd.concat([tables[0], wrong])).agrees is False
    assert compare_sweeps(tables[0]) is None
    apart = gaussian_sweep(4, beta=2.0, grid=[1.3, 1.4, 1.5])
    assert compare_sweeps(pd.concat([tables[0], apart])).agrees is None


def test_a_sweep_over_beta_agrees_with_one_over_sigma2():
    over_beta = pd.concat([gaussian_sweep(k, grid=[x], beta=x / 0.25) for k, x in enumerate(GRID[::2])])
    assert over_beta["sigma2"].to_numpy() == pytest.approx(0.25)
    comparison = compare_sweeps(pd.concat([gaussian_sweep(99), over_beta.assign(sigma2=0.25)]))
    assert comparison.reference == FixedParameter("beta", 1.0)
    (other,) = comparison.sweeps
    assert (other.fixed, other.value, other.n_points) == ("sigma2", 0.25, len(GRID[::2]))
    assert comparison.agrees is True
    few = pd.concat([gaussian_sweep(0, grid=[x], beta=x) for x in (0.8, 0.9)])
    assert compare_sweeps(few).reason == "no two sweeps share 3 values of beta * sigma2"


@pytest.mark.parametrize("above", [1.0, 3.0])
def test_relaxation_times_of_exponentials_give_their_exponent(above):
    """Slower by `above` beyond the transition, as it may be."""
    rng, time = np.random.default_rng(0), np.linspace(0, 3, 60)
    tables = []
    for seed, x in enumerate([0.7, 0.8, 0.9, 0.95, 1.06, 1.1, 1.2, 1.3]):
        tau = 0.05 / abs(np.log(x)) * (above if x > 1 else 1)
        kl = 0.2 + 0.05 * np.exp(-time / tau) + 2e-4 * rng.normal(size=time.size)
        rows = {"sigma2": x, "beta": 1.0, "seed": seed, "learning_time": time, "current_sigma2": x, "kl": kl}
        rising = {**rows, "current_sigma2": 0.9 * x, "learning_time": time - 3.1, "kl": 1.0}
        tables += [pd.DataFrame(rising), pd.DataFrame(rows)]
    slowing = fit_slowing(pd.concat(tables), 1.0)
    assert len(slowing.tau) == 8
    assert fit_slowing(pd.concat(tables).sample(frac=1, random_state=0), 1.0) == slowing
    exponent = slowing.exponent
    assert exponent.value == pytest.approx(1.0, abs=0.05) and contains(exponent, 1.0)
    assert exponent.above / exponent.below == pytest.approx(above, rel=0.2)


def test_a_still_point_has_no_relaxation_time():
    assert relaxation_time(np.arange(50.0), 0.01 * np.random.default_rng(0).normal(size=50)) is None
    assert relaxation_time(np.arange(5.0), np.exp(-np.arange(5.0))) is None
    assert relaxation_time(np.ones(50), np.exp(-np.arange(50.0))) is None


def two_points(n=40_000, weight=0.1):
    return ((np.arange(n) * 0.6180339887498949) % 1 < weight)[:, None] - weight


def test_the_variance_proxy_of_two_points_is_the_one_of_kearns_and_saul():
    """(1 - 2 w) / (2 ln((1 - w) / w)) over the variance w (1 - w)."""
    assert variance_proxy_ratio(two_points()) == pytest.approx(0.8 / (2 * np.log(9)) / 0.09, rel=0.02)
    assert variance_proxy_ratio(two_points(weight=0.5)) == pytest.approx(1.0, abs=0.01)


def test_the_variance_proxy_of_gaussian_data_is_lambda_1():
    y = np.random.default_rng(0).normal(size=(40_000, 3)) * [1.0, 0.8, 0.5]
    assert 1 <= variance_proxy_ratio(y) < 1.03


@pytest.mark.parametrize("n", [50, 200, 1000, 5000])
def test_the_sampling_noise_of_gaussian_data_is_no_excess(n):
    """Several eigenvalues are near each other, so that the proxy has a choice of directions."""
    ratios = [variance_proxy_ratio(np.random.default_rng(seed).normal(size=(n, 8))) for seed in range(15)]
    assert ratios == [1.0] * len(ratios)


def test_an_excess_beyond_its_sampling_noise_is_kept():
    """The share of the small cluster is 0.1, as in the data of an abrupt collapse."""
    ratios = [variance_proxy_ratio(np.random.default_rng(seed).permutation(two_points(400))) for seed in range(10)]
    assert sum(ratio > 1.5 for ratio in ratios) >= 9


def test_the_binodal_to_leading_order():
    weight, expected = 0.4, 1.0104
    spread = weight * (1 - weight)
    ratio = binodal_ratio((1 - 2 * weight) / np.sqrt(spread), (1 - 6 * spread) / spread, 10**6)
    assert ratio.value == pytest.approx(expected, abs=1e-4) and contains(ratio, expected)
    outside = binodal_ratio(2.67, 5.1, 10**6)
    assert outside.value is None and "outside the expansion" in outside.reason


def upward_table(binodal=1.4, lost=1.46, seeds=2):
    grid = [0.8, 1.0, 1.1, 1.2, 1.3, 1.36, 1.38, 1.42, 1.44, 1.5]
    rows = []
    for seed in range(seeds):
        for x in grid:
            on = x < lost
            gap, kl = (0.3 * (binodal - x), 0.3) if on else (-1e-4, 1e-4)
            common = {"sigma2": x, "beta": 1.0, "seed": seed, "elbo_gap_standard_error": 2.5e-3}
            rows.append({"branch": "up", "kl": kl, "elbo_gap": gap, **common})
            rows.append({"branch": "fresh", "kl": 0.3 if x < 1 else 0.0, "elbo_gap": 0.1 if x < 1 else 0.0, **common})
    return pd.DataFrame(rows)


def test_an_active_branch_above_the_collapsed_elbo_is_hysteresis():
    measured = measured_hysteresis(upward_table(), 1.0)
    assert measured.hysteresis is True and measured.order == 1
    assert measured.binodal.value == pytest.approx(1.4, abs=1e-3)
    low, high = measured.binodal.ci95
    assert (low, high) == pytest.approx((1.4 - 1.96 * 2.5e-3 / 0.3, 1.4 + 1.96 * 2.5e-3 / 0.3), abs=2e-3)
    assert measured.branch_lost == [1.44, 1.5] and measured.beyond == [1.1, 1.2, 1.3, 1.36]
    assert measured.coexistence == [1.0, 1.1, 1.2, 1.3, 1.36, 1.38, 1.42, 1.44]


def test_a_binodal_near_the_end_of_the_branch_is_no_later_than_it():
    measured = measured_hysteresis(upward_table(binodal=1.437, lost=1.46), 1.0).binodal
    assert measured.value == pytest.approx(1.437, abs=1e-3)
    assert measured.ci95[0] < 1.43 and measured.ci95[1] == 1.5


def test_a_branch_that_ends_at_lambda_1_is_none():
    measured = measured_hysteresis(upward_table(binodal=1.01, lost=1.02), 1.0)
    assert measured.hysteresis is False and measured.order is None and measured.binodal is None
    short = upward_table().query("sigma2 < 1.01")
    assert "ends at sigma2 = 1, below" in measured_hysteresis(short, 1.0).reason
    assert "ends at weight = 0.5, below" in measured_hysteresis(short, 1.0, SweptQuantity("weight", 2.0)).reason


def test_soft_modes_are_the_lower_eigenvalues_of_the_blocks():
    eigenvalues = [4.0, 1.0]
    for sigma2 in (0.5, 0.999, 1.0, 2.0, 4.001):
        modes = soft_modes(eigenvalues, sigma2)
        for j, value in enumerate(eigenvalues):
            blocks = stability_blocks(value, sigma2)
            for channel, block in blocks.items():
                assert modes[channel][j] == pytest.approx(np.linalg.eigvalsh(block)[0], abs=1e-12)
                assert (modes[channel][j] > 0) == (sigma2 > value) or modes[channel][j] == pytest.approx(0, abs=1e-12)
            assert np.linalg.det(blocks["mean"]) == pytest.approx((sigma2 - value) / sigma2**2)
            assert np.linalg.det(blocks["width"]) == pytest.approx(2 * (sigma2 - value) / sigma2**2)


def test_fit_json_has_every_part(tmp_path):
    spectrum = spectrum_of(variance_proxy=1.001)
    dimensions = rotated_dimensions(SINGLE, GRID, 4)
    result = analyse(gaussian_sweep(0), spectrum, 4, dimensions, upward=upward_table())
    write_json(tmp_path / "fit.json", asdict(result))
    saved = from_json(Analysis, read_json(tmp_path / "fit.json"), "fit.json")
    assert saved == result
    assert saved.cascade.modes[0].threshold == pytest.approx(1, abs=0.01)
    assert saved.hysteresis.predicted.coexistence_possible is False
    assert saved.hysteresis.measured.order == 1
    # The upward table is that of other data: what it shows goes before what the sweep shows.
    assert saved.order.value == 1 and "hysteresis" in saved.order.reason
    assert saved.order.evidence == "hysteresis" and saved.order.kl is not None
    alone = analyse(gaussian_sweep(0), spectrum, 4).order
    assert (alone.value, alone.evidence) == (2, "sweep")
    bare = analyse(gaussian_sweep(0).drop(columns="elbo_gap"))
    assert "elbo_gap" in bare.order.reason and bare.cascade.reason == "no dimensions.csv is given"


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda record: record.pop("hysteresis"), "fit.json: key 'hysteresis' is missing"),
        (lambda record: record["hysteresis"].pop("predicted"), "fit.json: hysteresis: key 'predicted' is missing"),
        (lambda record: record.update(order=[]), r"fit.json: order: \[\], must be an object"),
        (lambda record: record["cascade"].update(modes=1), "fit.json: cascade.modes: 1, must be a list"),
    ],
)
def test_a_fit_that_lacks_a_part_is_refused(damage, words):
    record = asdict(analyse(gaussian_sweep(0), spectrum_of(), 4))
    damage(record)
    with pytest.raises(InputError, match=words):
        from_json(Analysis, record, "fit.json")
