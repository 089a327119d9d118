from __future__ import annotations

import forked
import numpy as np
import pandas as pd
import pytest

from phasevae.analysis.bracketing import compare_passes, summarise_passes
from phasevae.analysis.sweep_table import SD_ABSOLUTE, SD_RELATIVE
from phasevae.artifacts.files import read_json, read_table, write_table
from phasevae.errors import InputError
from phasevae.spectrum.spectrum import Spectrum, write_spectrum
from phasevae.sweep.plan import SECOND_SEEDS, make_plan, second_pass
from phasevae.theory.ppca import collapsed_elbo, ppca_active_dims, ppca_elbo, ppca_kl

EIGENVALUES = np.exp(-0.1 * np.arange(8))
SPECTRUM = {"eigenvalues": EIGENVALUES.tolist(), "standard_errors": [0.0] * 8, "trace": EIGENVALUES.sum()}
GRID = np.array([0.68, 0.71, 0.74, 0.77, 0.80, 0.82, 0.84, 0.86, 0.88, 0.90, 0.92, 0.94, 0.96, 0.98, 1.02, 1.08])


def one_pass(rng, seeds=(0, 1, 2), schedule="anneal", stuck=(), latched=()):
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


def two_passes(seed, **second):
    rng = np.random.default_rng(seed)
    return one_pass(rng), one_pass(rng, seeds=(1000, 1001, 1002), schedule="scratch", **second)


@pytest.mark.parametrize("n_seeds", [1, 3])
def test_equal_passes_rarely_disagree(n_seeds):
    """Beyond three standard errors of independent noise: 0.3 % of the points, fewer where seeds scatter by more."""
    rng = np.random.default_rng(n_seeds)
    passes = ((one_pass(rng, range(n_seeds)), one_pass(rng, range(n_seeds))) for _ in range(40))
    disagree = pd.concat([compare_passes(*pair, SPECTRUM)["disagree"] for pair in passes])
    # More than 6 of 640 points have a probability of 0.002.
    assert disagree.size == 640 and disagree.sum() <= 6


def test_a_pass_stuck_in_the_collapsed_state_is_told():
    table = compare_passes(*two_passes(1, stuck=(0.94, 0.96, 0.98)), SPECTRUM)
    told = table.set_index("sigma2")["reading"]
    assert (told[[0.94, 0.96]] == "slowing down").all() and (told[[0.68, 0.88, 1.02, 1.08]] == "agree").all()
    row = table[table["sigma2"] == 0.94].iloc[0]
    assert row["kl_difference"] == pytest.approx(0.5 * np.log(1 / 0.94), abs=0.006)
    assert row["kl_difference"] == row["kl_first"] - row["kl_second"]
    assert (row["n_seeds_first"], row["n_seeds_second"]) == (3, 3)


def test_an_active_pass_with_the_larger_elbo_above_the_transition_is_coexistence():
    """Only there: below lambda_1 the collapsed state is unstable, however the passes differ."""
    table = compare_passes(*two_passes(2, latched=(0.94, 1.02, 1.08)), SPECTRUM).set_index("sigma2")
    assert (table.loc[[1.02, 1.08], "reading"] == "coexistence").all()
    assert (table.loc[[1.02, 1.08], "kl_difference"] < 0).all()
    assert table.loc[0.94, "reading"] != "coexistence"


def test_a_larger_kl_that_does_not_pay_is_no_coexistence():
    first, second = two_passes(3, latched=(1.02,))
    second.loc[second["sigma2"] == 1.02, ["elbo_gap"]] = -1e-3
    table = compare_passes(first, second, SPECTRUM).set_index("sigma2")
    assert table.loc[1.02, "reading"] == "slowing down"


def test_the_critical_variances_bracket_the_truth():
    first, second = two_passes(4, stuck=(0.94, 0.96, 0.98))
    found = summarise_passes(compare_passes(first, second, SPECTRUM), first, second, SPECTRUM, 4)
    assert found["first"]["critical_variance"] == pytest.approx(1.0, abs=0.01)
    assert found["second"]["critical_variance"] < 0.97
    assert found["bracket"] == [found["second"]["critical_variance"], found["first"]["critical_variance"]]
    assert found["predicted"] == 1.0 and found["holds_prediction"] is True
    assert (found["first"]["schedule"], found["second"]["schedule"]) == ("anneal", "scratch")
    (run,) = [run for run in found["disagreement"] if run[0] <= 0.94 <= run[1]]
    assert run[0] >= 0.92 and 0.96 <= run[1] <= 0.98
    assert found["largest"]["sigma2"] in (0.94, 0.96)
    assert sum(found["readings"].values()) == found["n_points"] == GRID.size


def test_a_prediction_beyond_both_passes_is_not_held():
    first, second = two_passes(5)
    other = SPECTRUM | {"eigenvalues": [1.2, *EIGENVALUES[1:]]}
    found = summarise_passes(compare_passes(first, second, other), first, second, other, 4)
    assert found["holds_prediction"] is False


def test_a_pass_without_transition_leaves_no_bracket():
    first, second = two_passes(6)
    second["kl"] = 1e-4
    found = summarise_passes(compare_passes(first, second, SPECTRUM), first, second, SPECTRUM, 4)
    assert found["bracket"] is None and found["holds_prediction"] is None
    assert found["second"]["critical_variance"] is None and found["second"]["reason"]


def test_single_seeds_have_no_standard_error_of_elbo_and_only_shared_points_count():
    rng = np.random.default_rng(7)
    first, second = one_pass(rng, seeds=(0,)), one_pass(rng, seeds=(1000,))
    table = compare_passes(first, second[second["sigma2"] > 0.9], SPECTRUM)
    assert table["sigma2"].tolist() == [0.92, 0.94, 0.96, 0.98, 1.02, 1.08]
    assert table["elbo_standard_error"].isna().all()
    scatter = SD_ABSOLUTE + SD_RELATIVE * table[["kl_first", "kl_second"]].abs()
    assert table["kl_standard_error"].tolist() == pytest.approx(np.hypot(*scatter.to_numpy().T).tolist())


def test_the_error_shrinks_with_seeds_but_keeps_their_own_scatter():
    first, second = two_passes(8)
    wide = first.assign(kl=first["kl"] + 0.05 * first["seed"])
    error = compare_passes(wide, second, SPECTRUM)["kl_standard_error"]
    assert error.to_numpy() == pytest.approx(0.05 / np.sqrt(3), rel=0.3)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda table: table.drop(columns="elbo_gap"), "second pass: sweep: column 'elbo_gap' is missing"),
        (lambda table: table.drop(columns="kl"), "second pass: sweep: column 'kl' is missing"),
        (lambda table: table.assign(sigma2=table["sigma2"] + 1e-3), "share no value of sigma2 and beta"),
    ],
)
def test_tables_that_cannot_be_compared_are_refused(damage, words):
    first, second = two_passes(9)
    with pytest.raises(InputError, match=words):
        compare_passes(first, damage(second), SPECTRUM)


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
    for name, table in zip(("first", "second"), two_passes(10, stuck=(0.94, 0.96)), strict=True):
        write_table(tmp_path / f"{name}.csv", table.assign(n_latent=4, **sha256))
    zeros = np.zeros(8)
    known = Spectrum(EIGENVALUES, zeros, EIGENVALUES.sum(), 1000, 1.0, zeros, zeros, **sha256)
    write_spectrum(tmp_path / "spectrum.json", known)
    outputs = ["--spectrum", "spectrum.json", "-o", "bracketing.csv", "--summary", "bracketing.json"]
    done = forked.run("phasevae.cli.main:main", "bracket", "first.csv", "second.csv", *outputs, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    table = read_table(tmp_path / "bracketing.csv")
    found = read_json(tmp_path / "bracketing.json")
    assert found["n_disagree"] == table["disagree"].sum() >= 2
    assert f"{found['n_disagree']} of 16 points disagree; critical variance" in done.stdout
    assert found["n_latent"] == 4
