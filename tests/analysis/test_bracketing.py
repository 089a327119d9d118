from __future__ import annotations

from dataclasses import replace

import forked
import numpy as np
import pandas as pd
import pytest
from gaussian_sweeps import gaussian_sweep, spectrum_of

from phasevae.analysis.bracketing import compare_bracketing, summarise_bracketing
from phasevae.analysis.records import OPEN
from phasevae.analysis.sweep_table import SD_ABSOLUTE, SD_RELATIVE
from phasevae.artifacts.files import read_json
from phasevae.artifacts.tables import read_table, write_table
from phasevae.cli.analysis import bracket
from phasevae.errors import InputError
from phasevae.spectrum.spectrum_files import write_spectrum
from phasevae.sweeps.plan import SECOND_SEEDS, make_plan, second_pass
from phasevae.theory.ppca import collapsed_elbo, ppca_active_dims, ppca_elbo, ppca_kl

EIGENVALUES = np.exp(-0.1 * np.arange(8))
SPECTRUM = spectrum_of(EIGENVALUES)
GRID = np.array([0.68, 0.71, 0.74, 0.77, 0.80, 0.82, 0.84, 0.86, 0.88, 0.90, 0.92, 0.94, 0.96, 0.98, 1.02, 1.08])


def one_sweep(rng, seeds=(0, 1, 2), schedule="anneal", stuck=(), latched=()):
    """The pPCA curves with the scatter of trained networks; collapsed where x is among `stuck`, and with KL 0.03 and
    an ELBO 0.01 nats above the collapsed state's where it is among `latched`."""
    x = np.repeat(GRID, len(seeds))
    kl = np.where(np.isin(x, stuck), 0.0, ppca_kl(EIGENVALUES, x, 4))
    kl = np.where(np.isin(x, latched), 0.03, kl)
    scatter = SD_ABSOLUTE + SD_RELATIVE * kl
    gap = ppca_elbo(EIGENVALUES, x, 4) - collapsed_elbo(EIGENVALUES.sum(), 8, x)
    gap = np.where(np.isin(x, latched), 0.01, gap) + 1e-4 * rng.normal(size=x.size)
    return pd.DataFrame(
        {
            "sigma2": x,
            "beta": 1.0,
            "seed": np.tile(seeds, GRID.size),
            "kl": kl + scatter * rng.normal(size=x.size),
            "elbo": gap + collapsed_elbo(EIGENVALUES.sum(), 8, x),
            "elbo_gap": gap,
            "elbo_gap_standard_error": 1e-3,
            "active_dims": ppca_active_dims(EIGENVALUES, x, 4),
            "schedule": schedule,
        }
    )


def two_sweeps(seed, **second):
    rng = np.random.default_rng(seed)
    return one_sweep(rng), one_sweep(rng, seeds=(1000, 1001, 1002), schedule="scratch", **second)


@pytest.mark.parametrize("n_seeds", [1, 3])
def test_equal_sweeps_rarely_disagree(n_seeds):
    """Beyond three standard errors of independent noise: 0.3 % of the points, fewer where seeds scatter by more."""
    rng = np.random.default_rng(n_seeds)
    pairs = ((one_sweep(rng, range(n_seeds)), one_sweep(rng, range(n_seeds))) for _ in range(40))
    disagree = pd.concat([compare_bracketing(*pair, SPECTRUM)["disagree"] for pair in pairs])
    # More than 6 of 640 points have a probability of 0.002.
    assert disagree.size == 640 and disagree.sum() <= 6


def test_a_sweep_stuck_in_the_collapsed_state_disagrees():
    table = compare_bracketing(*two_sweeps(1, stuck=(0.94, 0.96, 0.98)), SPECTRUM)
    reading = table.set_index("sigma2")["reading"]
    assert (reading[[0.94, 0.96]] == "slowing down").all() and (reading[[0.68, 0.88, 1.02, 1.08]] == "agree").all()
    row = table[table["sigma2"] == 0.94].iloc[0]
    assert row["kl_difference"] == pytest.approx(0.5 * np.log(1 / 0.94), abs=0.006)
    assert row["kl_difference"] == row["kl_first"] - row["kl_second"]
    assert (row["n_seeds_first"], row["n_seeds_second"]) == (3, 3)


def test_an_active_sweep_with_the_larger_elbo_above_the_transition_is_coexistence():
    """Only there: below lambda_1 the collapsed state is unstable, however the sweeps differ."""
    table = compare_bracketing(*two_sweeps(2, latched=(0.94, 1.02, 1.08)), SPECTRUM).set_index("sigma2")
    assert (table.loc[[1.02, 1.08], "reading"] == "coexistence").all()
    assert (table.loc[[1.02, 1.08], "kl_difference"] < 0).all()
    assert table.loc[0.94, "reading"] != "coexistence"


def test_a_larger_kl_with_a_lower_elbo_is_no_coexistence():
    first, second = two_sweeps(3, latched=(1.02,))
    second.loc[second["sigma2"] == 1.02, ["elbo_gap"]] = -1e-3
    table = compare_bracketing(first, second, SPECTRUM).set_index("sigma2")
    assert table.loc[1.02, "reading"] == "slowing down"


def test_the_critical_variances_bracket_the_truth():
    first, second = two_sweeps(4, stuck=(0.94, 0.96, 0.98))
    summary = summarise_bracketing(compare_bracketing(first, second, SPECTRUM), first, second, SPECTRUM, 4)
    assert summary.first.critical_variance == pytest.approx(1.0, abs=0.01)
    assert summary.second.critical_variance < 0.97
    assert summary.bracket == [summary.second.critical_variance, summary.first.critical_variance]
    assert summary.predicted == 1.0 and summary.holds_prediction is True
    assert (summary.first.schedule, summary.second.schedule) == ("anneal", "scratch")
    (run,) = [run for run in summary.disagreement if run[0] <= 0.94 <= run[1]]
    assert run[0] >= 0.92 and 0.96 <= run[1] <= 0.98
    assert summary.largest.sigma2 in (0.94, 0.96)
    assert sum(summary.readings.values()) == summary.n_points == GRID.size


def test_a_prediction_beyond_both_sweeps_is_not_held():
    first, second = two_sweeps(5)
    other = spectrum_of([1.2, *EIGENVALUES[1:]])
    summary = summarise_bracketing(compare_bracketing(first, second, other), first, second, other, 4)
    assert summary.holds_prediction is False


def test_a_sweep_without_transition_leaves_no_bracket():
    first, second = two_sweeps(6)
    second["kl"] = 1e-4
    summary = summarise_bracketing(compare_bracketing(first, second, SPECTRUM), first, second, SPECTRUM, 4)
    assert summary.bracket is None and summary.holds_prediction is None
    assert summary.second.critical_variance is None and summary.second.reason
    assert "predicts the transition at sigma2 = 1, but points below it are collapsed" in summary.second.advice


def undetermined_sweeps():
    """The second sweep is four noisy points whose fit has an interval that is open on both sides."""
    grid = [0.6, 0.7, 0.8, 0.9, 0.95, 1.0, 1.05, 1.1, 1.2]
    first, second = (
        table.assign(elbo=table["elbo_gap"], elbo_gap_standard_error=1e-3)
        for table in (gaussian_sweep(0, grid=grid), gaussian_sweep(None, grid=[0.6, 0.8, 1.0, 1.2]))
    )
    return first, second.assign(kl=[0.423, 0.0, 0.034, 0.0])


def test_an_open_interval_gives_no_bracket_and_confirms_no_prediction():
    first, second = undetermined_sweeps()
    spectrum = spectrum_of()
    summary = summarise_bracketing(compare_bracketing(first, second, spectrum), first, second, spectrum, 4)
    assert summary.second.is_open and not summary.first.is_open
    assert summary.bracket is None and summary.holds_prediction is None


def test_the_command_says_that_an_interval_is_open(tmp_path, capsys):
    paths = [tmp_path / f"{name}.csv" for name in ("first", "second")]
    for path, table in zip(paths, undetermined_sweeps(), strict=True):
        write_table(path, table.assign(n_latent=4))
    write_spectrum(tmp_path / "spectrum.json", spectrum_of())
    bracket(*paths, tmp_path / "spectrum.json", tmp_path / "bracketing.csv")
    first, second = capsys.readouterr().out.splitlines()
    assert first.endswith(" and none") and second.startswith(f"{paths[1]}: {OPEN}; add points around")


def test_the_command_says_why_there_is_no_critical_variance(tmp_path, capsys):
    tables = two_sweeps(6)
    tables[1]["kl"] = 1e-4
    paths = [tmp_path / f"{name}.csv" for name in ("first", "second")]
    for path, table in zip(paths, tables, strict=True):
        write_table(path, table.assign(n_latent=4))
    write_spectrum(tmp_path / "spectrum.json", SPECTRUM)
    bracket(*paths, tmp_path / "spectrum.json", tmp_path / "bracketing.csv")
    first, second = capsys.readouterr().out.splitlines()
    assert first.endswith(" and none")
    assert second.startswith(f"{paths[1]}: no critical variance: all collapsed") and "; the spectrum predicts" in second


def test_single_seeds_have_no_standard_error_of_elbo_and_only_shared_points_count():
    rng = np.random.default_rng(7)
    first, second = one_sweep(rng, seeds=(0,)), one_sweep(rng, seeds=(1000,))
    table = compare_bracketing(first, second[second["sigma2"] > 0.9], SPECTRUM)
    assert table["sigma2"].tolist() == [0.92, 0.94, 0.96, 0.98, 1.02, 1.08]
    assert table["elbo_standard_error"].isna().all()
    scatter = SD_ABSOLUTE + SD_RELATIVE * table[["kl_first", "kl_second"]].abs()
    assert table["kl_standard_error"].tolist() == pytest.approx(np.hypot(*scatter.to_numpy().T).tolist())


def test_the_error_shrinks_with_seeds_but_keeps_their_own_scatter():
    first, second = two_sweeps(8)
    wide = first.assign(kl=first["kl"] + 0.05 * first["seed"])
    error = compare_bracketing(wide, second, SPECTRUM)["kl_standard_error"]
    assert error.to_numpy() == pytest.approx(0.05 / np.sqrt(3), rel=0.3)


def test_sweeps_over_other_grids_are_refused():
    first, second = two_sweeps(9)
    with pytest.raises(InputError, match="share no value of sigma2 and beta"):
        compare_bracketing(first, second.assign(sigma2=second["sigma2"] + 1e-3), SPECTRUM)


def test_a_second_pass_has_the_same_grid_other_seeds_and_the_other_schedule():
    settings = {"sigma2": [0.5, 0.9], "beta": 1.0, "seeds": [0, 3], "n_buckets": 2, "schedule": "anneal"}
    second = second_pass(settings)
    assert second["schedule"] == "scratch" and second_pass(second | {"seeds": [0]})["schedule"] == "anneal"
    assert [(point.sigma2, point.seed) for point in make_plan(second)] == [
        (sigma2, seed + SECOND_SEEDS) for sigma2 in (0.5, 0.9) for seed in (0, 3)
    ]
    with pytest.raises(InputError, match="seeds: 1000, must be below 1000 with bracket: true"):
        second_pass(settings | {"seeds": [1000]})


def test_the_command_writes_table_and_summary(tmp_path):
    sha256 = {"data_sha256": "ab" * 32}
    for name, table in zip(("first", "second"), two_sweeps(10, stuck=(0.94, 0.96)), strict=True):
        write_table(tmp_path / f"{name}.csv", table.assign(n_latent=4, **sha256))
    write_spectrum(tmp_path / "spectrum.json", replace(SPECTRUM, **sha256))
    outputs = ["--spectrum", "spectrum.json", "-o", "bracketing.csv", "--summary", "bracketing.json"]
    done = forked.run("phasevae.cli.main:main", "bracket", "first.csv", "second.csv", *outputs, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    table = read_table(tmp_path / "bracketing.csv")
    summary = read_json(tmp_path / "bracketing.json")
    assert summary["n_disagree"] == table["disagree"].sum() >= 2
    assert f"{summary['n_disagree']} of 16 points disagree; critical variance" in done.stdout
    assert summary["n_latent"] == 4
