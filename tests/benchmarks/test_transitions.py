"""benchmarks/transitions.py: its claims about a fit, and that it continues where it was stopped."""

from __future__ import annotations

import subprocess
from dataclasses import asdict

import pandas as pd
import pytest
import transitions
from gaussian_sweeps import SINGLE, gaussian_sweep
from shared import gaussian_spectrum

from phasevae.analysis.pipeline import analyse
from phasevae.artifacts.files import write_json
from phasevae.artifacts.tables import write_table


@pytest.fixture
def commands(monkeypatch):
    """The commands that would have been run."""
    commands = []
    monkeypatch.setattr(subprocess, "run", lambda command, **_: commands.append(command[1:]))
    return commands


def test_exact_curves_meet_every_claim_and_curves_of_another_order_do_not(tmp_path, monkeypatch, commands):
    spectrum, table = gaussian_spectrum(SINGLE), gaussian_sweep()
    monkeypatch.setattr(transitions, "fitted", lambda *_, **__: asdict(analyse(table, spectrum, 4)))
    rows = transitions.exponents(tmp_path, threads=1)
    assert len(rows) == 6 and all(row["holds"] for row in rows)
    table = table.assign(kl=table["kl"] ** 2, elbo_gap=table["elbo_gap"] ** 2)
    assert not all(row["holds"] for row in transitions.exponents(tmp_path, threads=1))


def test_existing_files_are_not_made_again(tmp_path, commands):
    transitions.dataset(tmp_path, "clusters", weights="0.1,0.9")
    assert [command[0] for command in commands] == ["dataset", "spectrum"]
    for name in ("data.json", "spectrum.json"):
        (tmp_path / name).write_text("{}")
    transitions.dataset(tmp_path, "clusters", weights="0.1,0.9")
    assert len(commands) == 2


def test_a_seed_with_hysteresis_is_counted(tmp_path, commands):
    up = pd.DataFrame({"branch": "up", "sigma2": [0.7, 1.1], "beta": 1.0, "kl": [0.3, 0.1], "elbo_gap": [0.3, 0.1]})
    up = pd.concat([up.assign(seed=seed) for seed in range(5)], ignore_index=True).assign(elbo_gap_standard_error=0.01)
    collapsed = (up["seed"] > 0) & (up["sigma2"] > 1)
    up.loc[collapsed, ["kl", "elbo_gap"]] = 0.0
    write_table(tmp_path / "hysteresis.csv", up)
    write_json(tmp_path / "spectrum.json", {"critical_variance": 1.0})
    (tmp_path / "data.json").write_text("{}")
    first, second = transitions.control(tmp_path, threads=1)
    assert (first["measured"], first["holds"]) == (1, False)
    assert (second["measured"], second["holds"]) == (5, True)
    assert commands == []


@pytest.mark.parametrize(
    ("ci95", "holds"), [([0.9, 1.1], True), ([None, 1.1], True), ([1.01, None], False), ([0.8, 0.9], False)]
)
def test_a_claim_holds_if_its_interval_holds_the_expected_number(ci95, holds):
    assert transitions.holds_expected("x", {"value": 1.0, "ci95": ci95}, 1.0)["holds"] is holds


@pytest.mark.parametrize(
    ("value", "ci95", "holds"),
    [(1.39, [None, None], True), (1.3, [None, None], False), (None, [1.42, 1.46], True), (None, [1.42, None], False)],
)
def test_a_number_or_both_its_bounds_lie_within_the_limits(value, ci95, holds):
    assert transitions.lies_within("x", {"value": value, "ci95": ci95}, 1.38, 1.5)["holds"] is holds
