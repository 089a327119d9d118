"""The workflow with two levels of latents: config/hierarchy.yaml at a tiny size."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from workflow_runs import ROOT, dry_run, snakemake

from phasevae.artifacts.files import read_json
from phasevae.artifacts.tables import read_table

pytestmark = pytest.mark.workflow

WANTED = ["results/levels/fit.json", "results/levels/figures/hierarchy.png"]
TINY = {"n_samples": 400, "hidden": [4], "samples": 1000, "beta": [1.0, 20.0], "n_buckets": 1}


def configured(folder: Path, betas_top: list[float]) -> list[str]:
    """Write the example with fewer points and samples; return the arguments that name it."""
    config = yaml.safe_load((ROOT / "config" / "hierarchy.yaml").read_text())
    own = config["datasets"]["levels"] | TINY
    own["hierarchy"] = own["hierarchy"] | {"beta_top": betas_top}
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(config | {"datasets": {"levels": own}}))
    return ["--configfile", str(path)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("levels")
    result = snakemake(folder, *WANTED, *configured(folder, [0.5, 5.0]))
    assert result.returncode == 0, result.stdout
    return folder


def test_both_levels_are_in_the_tables(finished):
    results = finished / "results" / "levels"
    sweep, dimensions = read_table(results / "sweep.csv", "sweep"), read_table(results / "dimensions.csv", "dimensions")
    assert list(zip(sweep["beta_top"], sweep["beta"], strict=True)) == [(0.5, 1), (0.5, 20), (5, 1), (5, 20)]
    assert (sweep["kl_top"] >= 0).all() and (sweep["posterior_variance"] == 0.25).all()
    assert dimensions.groupby(["beta_top", "beta", "level"]).size().tolist() == [2] * 8
    point = read_json(results / "points/beta_top=0.5,beta=20.0,sigma2=1.0,seed=0/point.json", (), "point")
    assert len(point["top"]["kl_per_dim"]) == 2


def test_the_phase_diagram_is_drawn_and_figures_of_free_posteriors_are_not(finished):
    assert {path.name for path in (finished / WANTED[1]).parent.iterdir()} == {"hierarchy.pdf", "hierarchy.png"}
    others = dry_run(finished, "all", *configured(finished, [0.5, 5.0]))
    assert "figure_landscape" in others
    assert not {"figure_hierarchy", "figure_kl", "figure_elbo", "figure_exponents", "figure_slowing"} & set(others)
    fit = read_json(finished / "results/levels/fit.json", ("verdict", "hierarchy"), "fit")
    assert fit["critical_variance"] is None and "The figure hierarchy shows the boundaries." in fit["verdict"]
    assert sum(phase["n_models"] for phase in fit["hierarchy"]["phases"]) == fit["hierarchy"]["n_compared"] == 4


def test_a_new_weight_of_the_top_level_adds_its_points(finished):
    assert dry_run(finished, *WANTED, *configured(finished, [0.5, 5.0])) == {}
    again = dry_run(finished, *WANTED, *configured(finished, [0.5, 5.0, 8.0]))
    assert {"plan", "train_levels_0", "collect", "figure_hierarchy"} <= set(again)
    assert "spectrum" not in again
