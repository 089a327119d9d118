"""Unusable tables on the command line: one clear line, and no interval that means nothing."""

from __future__ import annotations

import json
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from phasevae.cli import main
from phasevae.spectrum.spectrum import assemble_spectrum
from phasevae.spectrum.spectrum_files import write_spectrum
from phasevae.theory.ppca import collapsed_elbo, ppca_active_dims, ppca_elbo, ppca_kl

EIGENVALUES = [1.0, 0.25, 0.25]
GRID = [0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 1.03, 1.1]


def sweep_of(grid=GRID, seeds=(0, 1)):
    """The exact curves, as sweep.csv has them."""
    x, seed = np.repeat(grid, len(seeds)), np.tile(seeds, len(grid))
    collapsed = collapsed_elbo(1.5, 3, x)
    columns = {
        "sigma2": x,
        "beta": 1.0,
        "seed": seed,
        "kl": ppca_kl(EIGENVALUES, x, 2),
        "elbo_gap": ppca_elbo(EIGENVALUES, x, 2) - collapsed,
        "active_dims": ppca_active_dims(EIGENVALUES, x, 2),
    }
    return pd.DataFrame(columns)


@pytest.fixture
def fit(tmp_path, monkeypatch, capsys):
    """A function that gives (exit code, lines on standard error, fit.json or None) of `phasevae fit`."""
    monkeypatch.chdir(tmp_path)

    def run(table, *more):
        if table is not None:
            table.to_csv("sweep.csv", index=False)
        monkeypatch.setattr(sys, "argv", ["phasevae", "fit", "sweep.csv", "-o", "fit.json", *more])
        monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
        with pytest.raises(SystemExit) as ended:
            main.main()
        written = json.loads(Path("fit.json").read_text()) if Path("fit.json").exists() else None
        return ended.value.code, capsys.readouterr().err.splitlines(), written

    return run


def set_at(row, column, value):
    return lambda table: table.astype({column: object}).mask(
        (table.index == row)[:, None] & (table.columns == column)[None, :], value
    )


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (set_at(2, "kl", np.nan), "sweep.csv: line 4, column 'kl': is empty, must be a finite number"),
        (set_at(2, "sigma2", np.inf), "sweep.csv: line 4, column 'sigma2': inf, must be a positive number"),
        (set_at(0, "kl", "high"), "sweep.csv: line 2, column 'kl': 'high', must be"),
        (
            lambda table: pd.concat([table, table.iloc[:1]]),
            "line 18: sigma2=0.6, beta=1.0, seed=0 appears twice",
        ),
        (lambda table: table.drop(columns=["kl"]), "sweep.csv: column 'kl' is missing"),
        (lambda table: table.iloc[:0], "sweep.csv: has no rows"),
        (set_at(1, "elbo_gap", np.nan), "sweep.csv: line 3, column 'elbo_gap': is empty"),
        (set_at(4, "kl", -1.0), "sweep.csv: line 6, column 'kl': -1.0, must be a finite number from -0.2"),
        (lambda table: table.assign(sigma2=1e300 * table["sigma2"]), "line 2, column 'sigma2': 6e+299"),
        (lambda table: table.assign(sigma2=1e-300 * table["sigma2"]), "line 2, column 'sigma2': 6e-301"),
    ],
)
def test_tables_that_are_wrong_are_refused_in_one_line(fit, spoil, words):
    code, lines, written = fit(spoil(sweep_of()))
    assert (code, written) == (2, None)
    (line,) = lines
    assert line.startswith("phasevae: ") and words in line


@pytest.mark.parametrize(
    ("grid", "words"),
    [
        ([0.9, 0.95, 1.05], "3 values of sigma2, needs 4"),
        ([1.05, 1.1, 1.2, 1.3, 1.4], "all collapsed"),
        ([0.5, 0.6, 0.7, 0.8, 0.9], "none collapsed"),
    ],
)
def test_sweeps_that_show_no_transition_have_a_reason_and_no_interval(fit, grid, words):
    code, lines, written = fit(sweep_of(grid))
    assert (code, lines) == (0, [])
    assert words in written["reason"]
    assert [written[key] for key in ("critical_variance", "ci95", "bootstrap", "derivatives")] == [None] * 4
    assert written["slope_below"]["ci95"] is None and written["order"]["value"] is None
    assert written["order"]["reason"] and written["exponents"]["reason"] and written["slowing"]["reason"]


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        (lambda kl, rng: kl[::-1], "at the largest sigma2, though it is collapsed at smaller ones"),
        (lambda kl, rng: 0.02 * np.abs(rng.normal(size=kl.size)) * (np.arange(kl.size) < 14), "a constant KL"),
    ],
)
def test_curves_that_do_not_fall_have_no_critical_point(fit, shape, words):
    table = sweep_of()
    code, _, written = fit(table.assign(kl=shape(table["kl"].to_numpy(), np.random.default_rng(0))))
    assert code == 0 and words in written["reason"]
    assert written["critical_variance"] is None and written["ci95"] is None and written["order"]["value"] is None


DIMENSIONS = pd.DataFrame(
    [
        {"sigma2": x, "beta": 1.0, "seed": seed, "latent": j, "mean_eigenvalue": max(0.0, 1 - x) * (j == 0)}
        for x in GRID
        for seed in (0, 1)
        for j in (0, 1)
    ]
)
UPWARD = pd.DataFrame(
    {
        "branch": "up",
        "sigma2": GRID,
        "beta": 1.0,
        "seed": 0,
        "kl": 0.1,
        "elbo_gap": 0.1,
        "elbo_gap_standard_error": 0.01,
    }
)


@pytest.mark.parametrize(
    ("option", "table", "words"),
    [
        (
            "--dimensions",
            pd.concat([DIMENSIONS, DIMENSIONS]),
            "other.csv: line 34: sigma2=0.6, beta=1.0, seed=0, latent=0 appears",
        ),
        ("--dimensions", DIMENSIONS.assign(mean_eigenvalue=-2.0), "must be a finite number from 0"),
        ("--dimensions", DIMENSIONS.assign(sigma2=7 * DIMENSIONS["sigma2"]), "is not a point of the sweep"),
        ("--dimensions", DIMENSIONS.drop(columns="seed"), "other.csv: column 'seed' is missing"),
        ("--dimensions", DIMENSIONS.assign(seed="first"), "other.csv: line 2, column 'seed': 'first', must be"),
        ("--histories", DIMENSIONS.drop(columns="sigma2"), "other.csv: column 'sigma2' is missing"),
        ("--hysteresis", UPWARD.drop(columns="beta"), "other.csv: column 'beta' is missing"),
        (
            "--hysteresis",
            UPWARD.assign(branch="down"),
            "line 2, column 'branch': 'down', must be one of up, fresh",
        ),
        ("--hysteresis", UPWARD.assign(kl=np.nan), "other.csv: line 2, column 'kl': is empty"),
        ("--hysteresis", UPWARD.assign(elbo_gap_standard_error=-1.0), "line 2, column 'elbo_gap_standard_error': -1.0"),
        (
            "--hysteresis",
            pd.concat([UPWARD, UPWARD]),
            "line 10: branch=up, sigma2=0.6, beta=1.0, seed=0 appears",
        ),
    ],
)
def test_other_tables_that_are_wrong_are_refused_in_one_line(fit, option, table, words):
    table.to_csv("other.csv", index=False)
    known = assemble_spectrum(np.array(EIGENVALUES), 1.5, 1000, np.zeros(3), np.zeros(3), None)
    write_spectrum("spectrum.json", replace(known, name="known", data_sha256="0"))
    code, lines, written = fit(sweep_of(), option, "other.csv", "--spectrum", "spectrum.json")
    assert (code, len(lines), written) == (2, 1, None)
    assert words in lines[0]


def test_a_direction_may_carry_more_than_a_variance_of_one(fit):
    """Of the means of data that are not Gaussian: at an optimum only the second moment of each latent is 1."""
    DIMENSIONS.assign(mean_eigenvalue=1.2 * DIMENSIONS["mean_eigenvalue"] + 0.7).to_csv("other.csv", index=False)
    known = assemble_spectrum(np.array(EIGENVALUES), 1.5, 1000, np.zeros(3), np.zeros(3), None)
    write_spectrum("spectrum.json", replace(known, name="known", data_sha256="0"))
    code, _, written = fit(sweep_of(), "--dimensions", "other.csv", "--spectrum", "spectrum.json")
    assert code == 0 and len(written["cascade"]["modes"]) == 2


def test_one_seed_has_an_interval_but_no_bootstrap(fit):
    _, _, written = fit(sweep_of(seeds=[0]))
    low, high = written["ci95"]
    assert low < 1.0 < high and high - low < 0.1
    assert written["bootstrap"]["ci95"] is None and written["bootstrap"]["reason"]


def test_the_order_of_rows_does_not_matter(fit):
    table = sweep_of()
    _, _, sorted_rows = fit(table)
    _, _, shuffled = fit(table.sample(frac=1, random_state=3))
    assert shuffled["critical_variance"] == pytest.approx(sorted_rows["critical_variance"], rel=1e-6)
    assert shuffled["order"]["value"] == sorted_rows["order"]["value"] == 2


@pytest.mark.parametrize("content", ["", "not a table\x00\x01", "sigma2,kl\n1,2\n1,2,3,4\n", None])
def test_files_that_are_no_tables(fit, content):
    if content is not None:
        Path("sweep.csv").write_text(content)
    code, lines, written = fit(None)
    assert (code, len(lines), written) == (2, 1, None)
    assert "sweep.csv" in lines[0] or "sweep: " in lines[0]


def test_windows_and_forms_that_do_not_exist(fit):
    for more, words in (
        (["--window", "2,3"], "window: 2 to 3 holds no point"),
        (["--window", "2,3,4"], "window: [2.0, 3.0, 4.0], must be two numbers, the lowest and the highest "),
        (["--window", "high"], "--window: 'high', must be numbers"),
        (["--model", "cubic"], "model: 'cubic', must be one of"),
        (["--converged-only"], "is known to have converged"),
    ):
        code, lines, written = fit(sweep_of(), *more)
        assert (code, len(lines), written) == (2, 1, None)
        assert words in lines[0]
