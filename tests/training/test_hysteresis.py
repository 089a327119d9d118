"""Training that the analysis needs beyond sweeps: upward branches."""

from __future__ import annotations

import numpy as np
import pytest
from typer.testing import CliRunner

from phasevae import InputError
from phasevae.analysis.hysteresis import measured_hysteresis
from phasevae.artifacts.files import read_json
from phasevae.artifacts.tables import read_table
from phasevae.cli.main import app
from phasevae.sweeps.settings import Settings
from phasevae.training.hysteresis import hysteresis_sweep

SETTINGS = Settings(
    n_latent=1,
    hidden=(16,),
    samples=64 * 400.0,
    batch=64,
    learning_rate=5e-3,
    schedule="anneal",
    anneal_from=0.4,
    anneal_fraction=0.5,
    antithetic=True,
    rao_blackwell_group=16,
    balanced_order=True,
    moment_matched_noise=True,
    holdout=0.0,
)


def two_clusters(n: int = 1000, weight: float = 0.1) -> np.ndarray:
    x = np.zeros((n, 2))
    x[: round(weight * n), 0] = 1
    x[round(weight * n) :, 1] = 1
    return x


def test_an_active_branch_survives_where_fresh_networks_collapse():
    x, critical = two_clusters(), 2 * 0.1 * 0.9
    table = hysteresis_sweep(x, SETTINGS, [0.6 * critical, 1.2 * critical, 3.0 * critical], [0])
    assert list(table["branch"]) == ["up"] * 3 + ["fresh"] * 3
    assert list(table["samples"]) == [64 * 400] * 6
    assert "beta_top" not in table
    up = table[table["branch"] == "up"]["kl"].to_numpy()
    # Two clusters of weight 0.1 are distinguished at ln 2 nats at most, and the variance proxy ends at 2.02.
    assert up[0] > 0.1 and up[1] > 0.1 and up[2] < 0.02
    hysteresis = measured_hysteresis(table, critical)
    assert hysteresis.branch_lost == pytest.approx([1.2 * critical, 3.0 * critical])


def test_an_upward_sweep_needs_steps():
    with pytest.raises(InputError, match="two or more different"):
        hysteresis_sweep(two_clusters(), SETTINGS, [0.1], [0])


def test_an_upward_sweep_at_another_beta(tmp_path):
    data, output = tmp_path / "data", tmp_path / "hysteresis.csv"
    build = ["synthetic", "--eigenvalues", "4,1", "--n-samples", "100", "-o", data]
    sweep = ["--ratio", "0.2,0.6", "--beta", "2", "--latent", "1", "--hidden", "4", "--samples", "640", "--batch", "64"]
    for arguments in (
        ["dataset", *build],
        ["spectrum", data, "-o", data / "spectrum.json"],
        ["hysteresis", data, *sweep, "-o", output],
    ):
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert result.exit_code == 0, (result.output, result.exception)
    table = read_table(output)
    assert set(table["beta"]) == {2.0}
    critical = read_json(data / "spectrum.json")["critical_variance"]
    assert sorted(set(table["sigma2"])) == pytest.approx([0.2 * critical, 0.6 * critical])
