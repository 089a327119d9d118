import json

import forked
import numpy as np
import pandas as pd
import pytest
from gaussian_sweeps import spectrum_of

from phasevae.analysis.optimality import Convergence, collapse_warning, convergence_summary, convergence_warning
from phasevae.analysis.pipeline import analyse
from phasevae.analysis.verdict import verdict
from phasevae.errors import InputError
from phasevae.theory.ppca import ppca_active_dims, ppca_kl

GRID = np.array([0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.02, 1.06, 1.1])
SPECTRUM = spectrum_of([1.0, 0.25], n_samples=10000)


def sweep_of(converged):
    """Two seeds of theory's KL; `converged` [9] of seed 1, whose points are false where they have not converged."""
    kl = ppca_kl([1.0, 0.25], GRID, 2)
    columns = {"sigma2": GRID, "beta": 1.0, "active_dims": ppca_active_dims([1.0, 0.25], GRID, 2)}
    good = pd.DataFrame(columns | {"seed": 0, "kl": kl, "converged": True})
    other = pd.DataFrame(columns | {"seed": 1, "kl": np.where(converged, kl, 0.5), "converged": converged})
    return pd.concat([good, other.astype({"converged": object})], ignore_index=True)


BAD = sweep_of(~np.isin(GRID, [0.95, 1.02]))


def test_unconverged_points_are_counted_and_named_in_one_line():
    fit = analyse(BAD, SPECTRUM, 2)
    assert fit.convergence == Convergence(2, 0, 0, [0.95, 1.02], n_points=18, enough_converged=True)
    (line,) = [line for line in fit.warnings if "converged" in line]
    assert line.startswith("2 of 18 points have not converged, sigma2 = 0.95, 1.02: train longer")
    assert "\n" not in line


def test_they_can_be_left_out():
    exact = BAD[["sigma2", "beta", "seed"]].assign(latent=0, mean_eigenvalue=np.clip(1 - BAD["sigma2"], 0, None))
    spoilt = exact.assign(mean_eigenvalue=np.where(BAD["converged"], exact["mean_eigenvalue"], 0.9))
    fit = analyse(BAD, SPECTRUM, 2, dimensions=spoilt, converged_only=True)
    assert fit.convergence.n_left_out == 2
    assert fit.n_points == 16
    assert fit.critical_variance == pytest.approx(1.0, abs=1e-3)
    assert fit.cascade.modes[0].threshold == pytest.approx(1.0, abs=1e-3)
    assert next(line for line in fit.warnings if "converged" in line).endswith(": 2 are left out")
    assert analyse(BAD, SPECTRUM, 2).n_points == 18


def test_points_below_the_collapsed_state_are_named():
    """By more than the standard error of the gap and what relaxation leaves."""
    good = sweep_of(np.ones(GRID.size, bool)).assign(elbo_gap=0.0, elbo_gap_standard_error=1e-3)
    last = good["sigma2"] == GRID[-1]
    for gap, expected in ((-4e-3, []), (-6e-3, [f"at sigma2 = {GRID[-1]}"])):
        fit = analyse(good.assign(elbo_gap=np.where(last, gap, 0.0)), SPECTRUM, 2)
        lines = [line for line in fit.warnings if "the collapsed state has a better ELBO, by up to 0.006 nats" in line]
        assert [line.split(" the collapsed")[0] for line in lines] == expected
    unknown = good.assign(elbo_gap=-1.0, elbo_gap_standard_error=np.nan)
    assert collapse_warning(unknown) is None
    assert collapse_warning(unknown.drop(columns="elbo_gap")) is None


def test_points_of_which_it_is_not_known_are_left_out_but_no_reason_to_warn():
    unknown = sweep_of(np.ones(GRID.size, bool))
    unknown.loc[unknown["seed"] == 1, "converged"] = None
    fit = analyse(unknown, SPECTRUM, 2, converged_only=True)
    assert fit.convergence == Convergence(0, 9, 9, [], n_points=18, enough_converged=True)
    assert not [line for line in fit.warnings if "converged" in line]
    assert convergence_summary(unknown.drop(columns="converged"), False).n_unknown == 18


@pytest.mark.parametrize(
    ("counts", "line"),
    [
        ((1, 0, 0), "1 of 8 points has not converged, sigma2 = 0.5: train longer, or leave it out "),
        ((2, 3, 0), "2 of 8 points have not converged, sigma2 = 0.5: train longer, or leave them"),
        ((1, 0, 1), "1 of 8 points has not converged, sigma2 = 0.5: 1 is left out"),
        ((1, 1, 2), "1 of 8 points has not converged, sigma2 = 0.5; of 1 it is unknown: 2 are left"),
    ],
)
def test_the_line_counts_all_points_that_are_left_out(counts, line):
    assert convergence_warning(Convergence(*counts, [0.5], n_points=8, enough_converged=True)).startswith(line)


@pytest.mark.parametrize(
    "converged", [GRID[:3], GRID[:5], GRID[-3:], [0.9, 0.95, 1.02]], ids=["few", "active", "collapsed", "three"]
)
def test_leaving_out_is_no_advice_where_the_rest_does_not_enclose_the_transition(converged):
    longer = "train longer, with more samples or a larger extend_unconverged"
    bad = BAD.assign(converged=np.isin(BAD["sigma2"], converged))
    (line,) = [line for line in analyse(bad, SPECTRUM, 2).warnings if "not converged" in line]
    assert "converged_only" not in line and line.endswith(f": {longer}")
    without = analyse(bad, SPECTRUM, 2, converged_only=True)
    assert without.critical_variance is None
    assert without.warnings[0].endswith(f" are left out, and the others do not enclose a transition: {longer}")


def test_leaving_out_is_advised_where_the_rest_can_be_fitted():
    good = sweep_of(np.ones(GRID.size, bool))
    enough = good.assign(converged=np.isin(good["sigma2"], [0.85, 0.9, 0.95, 1.02, 1.06]))
    assert any("leave them out (converged_only)" in line for line in analyse(enough, SPECTRUM, 2).warnings)
    without = analyse(enough, SPECTRUM, 2, converged_only=True)
    assert without.critical_variance == pytest.approx(1.0, abs=5e-3)
    assert without.warnings[0].endswith(": 8 are left out")


def test_a_long_list_is_cut():
    line = convergence_warning(Convergence(40, 0, 0, list(range(1, 41)), n_points=50, enough_converged=True))
    assert "10, 11, 12, ...: train" in line


def test_the_verdict_says_if_no_point_has_converged():
    none = analyse(BAD.assign(converged=False), SPECTRUM, 2)
    sentence = verdict(none)
    assert sentence.startswith(
        "None of the 18 points has converged, so the result can still change: train longer, with more samples or a "
        "larger extend_unconverged. "
    )
    assert sentence.startswith(f"N{none.warnings[0][1:]}. ")
    assert str(none).count("one of the 18 points has converged") == 1
    active = verdict(analyse(BAD.assign(converged=False, kl=1.0), SPECTRUM, 2))
    assert "This sweep does not show" in active and active.startswith("None of the 18 points has converged")
    half = BAD.assign(converged=BAD["seed"] == 0)
    for fit in (analyse(BAD, SPECTRUM, 2), analyse(half, SPECTRUM, 2, converged_only=True)):
        assert "converged" not in verdict(fit)


@pytest.mark.parametrize(
    ("table", "remedy"),
    [
        (BAD.assign(converged=False), "train longer, with more samples"),
        (BAD.assign(converged=[False, *[None] * 17]), "train longer, with more samples"),
        (BAD.assign(converged=None), "its column 'converged' is missing or empty"),
        (BAD.drop(columns="converged"), "its column 'converged' is missing or empty"),
    ],
    ids=["false", "some", "empty", "missing"],
)
def test_nothing_left_is_an_error(table, remedy):
    with pytest.raises(
        InputError,
        match=rf"none of its 18 points is known to have converged, so converged_only would leave none; {remedy}",
    ):
        analyse(table, SPECTRUM, 2, converged_only=True)


def test_on_the_command_line(tmp_path):
    BAD.to_csv(tmp_path / "sweep.csv", index=False)
    command = ("phasevae.cli.main:main", "fit", "sweep.csv", "-o", "fit.json")
    runs = [forked.run(*command, *more, folder=tmp_path) for more in ([], ["--converged-only"])]
    assert [run.returncode for run in runs] == [0, 0], runs
    plain, without = (run.stderr.splitlines() for run in runs)
    assert [line for line in plain if "2 of 18 points have not converged" in line]
    assert [line for line in without if line.endswith(": 2 are left out")]
    assert json.loads((tmp_path / "fit.json").read_text())["convergence"]["n_left_out"] == 2
