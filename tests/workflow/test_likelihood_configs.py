"""The shipped configurations of other likelihoods, at tiny size, through the real commands."""

from __future__ import annotations

import pytest
import yaml
from workflow_runs import ROOT, snakemake

from phasevae.artifacts.files import read_json
from phasevae.artifacts.tables import read_table
from phasevae.likelihoods.registry import find_likelihood
from phasevae.stored import load

pytestmark = pytest.mark.workflow

TINY = {"beta_ratio": [0.3, 0.6, 1.0, 1.2], "seeds": [0], "hidden": [8], "n_buckets": 1, "samples": 2000, "batch": 64}


@pytest.mark.parametrize(
    ("config", "name", "changes"),
    [("bernoulli", "binary_digits", {}), ("counts", "negative_binomial", {"n_samples": 400})],
)
def test_a_sweep_over_the_kl_weight(config, name, changes, tmp_path):
    tiny = tmp_path / "tiny.yaml"
    tiny.write_text(yaml.safe_dump({"run": [name], "train_threads": 1, "datasets": {name: TINY | changes}}))
    wanted = [f"results/{name}/{file}" for file in ("fit.json", "figures/kl.png", "figures/elbo.png")]
    result = snakemake(tmp_path, *wanted, "--configfile", str(ROOT / "config" / f"{config}.yaml"), str(tiny))
    assert result.returncode == 0, result.stdout
    results = tmp_path / "results" / name
    spectrum, fit = (read_json(results / file) for file in ("spectrum.json", "fit.json"))
    settings = yaml.safe_load((ROOT / "config" / f"{config}.yaml").read_text())["datasets"][name]
    assert spectrum["likelihood"]["name"] == settings["likelihood"]
    assert spectrum["made_by"]["stage"] == "scores"
    assert fit["abscissa"] == "beta"
    assert fit["predicted"]["critical_variance"] == pytest.approx(spectrum["critical_variance"])
    sweep = read_table(results / "sweep.csv", "sweep")
    assert (sweep["beta"] / spectrum["critical_variance"]).tolist() == pytest.approx(TINY["beta_ratio"])
    assert sweep["mse"].isna().all() and (sweep["likelihood"] == settings["likelihood"]).all()
    collapsed = -spectrum["likelihood"]["collapsed_loss"]
    assert sweep["collapsed_elbo"].tolist() == pytest.approx([collapsed] * 4, rel=1e-6)
    model = load(results / "points" / "beta_ratio=0.3,seed=0")
    assert set(model.sample(20).numpy().ravel() % 1) == {0.0}
    assert find_likelihood(settings["likelihood"]).name == model.metadata["likelihood"]["name"]
