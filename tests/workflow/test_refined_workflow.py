"""The workflow with a refined grid and a second pass, on a data set of seconds."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml
from workflow_runs import dry_run, snakemake

from phasevae.artifacts.files import read_json
from phasevae.artifacts.tables import read_table
from phasevae.config import validate
from phasevae.sweeps.plan import make_plan, read_plan, second_pass
from phasevae.sweeps.points import COMPLETE

pytestmark = pytest.mark.workflow

TINY = {
    "kind": "synthetic",
    "eigenvalues": [4.0, 2.0, 1.0, 0.5],
    "n_samples": 500,
    "n_latent": 2,
    "hidden": [8],
    "sigma2": [1.0, 2.5, 3.5, 5.0, 6.0],
    "samples": 20_000,
    "batch": 64,
    "learning_rate": 0.01,
    "n_buckets": 1,
    "refine": True,
    "refine_transitions": 1,
    "bracket": True,
}
EXTENDED = [*TINY["sigma2"], 1.7]
COMPARED = "results/tiny/bracketing.json"
SWEEP = "results/tiny/sweep.csv"


def configured(folder: Path, **changes) -> list[str]:
    """Write the configuration with changes to the data set `tiny`; return the arguments that name it."""
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump({"train_threads": 1, "datasets": {"tiny": TINY | changes}}))
    return ["--configfile", str(path)]


def settings(**changes):
    return validate({"datasets": {"tiny": TINY | changes}}, "test")["datasets"]["tiny"]


def points(folder: Path) -> dict[Path, tuple[bytes, int]]:
    """Bytes and inodes of what trainings write of all points: a file that is written again has a new inode."""
    files = [path for path in (folder / "results" / "tiny").glob("**/points/*/*") if path.name != COMPLETE]
    return {path.relative_to(folder): (path.read_bytes(), path.stat().st_ino) for path in sorted(files)}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Folder of a finished comparison of two passes over a refined grid."""
    folder = tmp_path_factory.mktemp("refined")
    result = snakemake(folder, COMPARED, *configured(folder))
    assert result.returncode == 0, result.stdout
    return folder


def test_new_points_lie_around_the_transition_of_the_coarse_sweep(finished):
    results = finished / "results" / "tiny"
    fit = read_json(results / "coarse" / "fit.json")
    coarse, plan = make_plan(settings()), read_plan(results / "refined.csv")
    assert [point for point in plan if point in coarse] == coarse
    new = [point.sigma2 for point in plan if point not in coarse]
    assert len(new) >= 4
    assert min(new) < fit["critical_variance"] < max(new)


def test_the_final_table_holds_both_stages_and_the_coarse_one_the_first(finished):
    results = finished / "results" / "tiny"
    table = read_table(results / "sweep.csv")
    assert table["sigma2"].tolist() == [point.sigma2 for point in read_plan(results / "refined.csv")]
    assert read_table(results / "coarse" / "sweep.csv")["sigma2"].tolist() == TINY["sigma2"]


def test_the_second_pass_trains_the_same_points_with_the_other_schedule(finished):
    results = finished / "results" / "tiny"
    first, second = (read_table(results / name) for name in ("sweep.csv", "second/sweep.csv"))
    assert first["sigma2"].tolist() == second["sigma2"].tolist()
    assert (first["schedule"] == "anneal").all() and (second["schedule"] == "scratch").all()
    assert set(second["seed"]) == set(second_pass(settings())["seeds"]) == {1000}
    compared = read_table(results / "bracketing.csv")
    assert compared["sigma2"].tolist() == first["sigma2"].tolist()
    assert compared["kl_first"].tolist() == first["kl"].tolist()
    summary = read_json(results / "bracketing.json")
    assert summary["first"]["critical_variance"] != summary["second"]["critical_variance"]
    assert (compared["kl_first"] != compared["kl_second"]).all()


def test_a_second_run_does_nothing(finished):
    assert dry_run(finished, COMPARED, *configured(finished)) == {}


def test_all_includes_figure_tables_and_points_of_both_passes(finished):
    """Only files that the run above did not make are left."""
    jobs = dry_run(finished, "all", *configured(finished))
    assert {"figure_bracketing", "plan", "fit"} <= set(jobs)
    assert not {name for name in jobs if name.startswith(("train", "second", "refine", "collect", "dataset"))}


def test_without_refine_the_tables_are_made_of_the_sweep_alone(finished):
    jobs = dry_run(finished, SWEEP, *configured(finished, refine=False, bracket=False))
    assert set(jobs) == {"collect"}


def test_a_new_coarse_sigma2_retrains_nothing_that_exists(finished, tmp_path):
    folder = tmp_path / "extended"
    shutil.copytree(finished, folder)
    before = points(folder)
    arguments = configured(folder, sigma2=EXTENDED)
    result = snakemake(folder, SWEEP, *arguments)
    assert result.returncode == 0, result.stdout
    after = points(folder)
    assert {path: after[path] for path in before} == before
    plan = read_plan(folder / "results" / "tiny" / "refined.csv")
    added = {path.parent for path in after} - {path.parent for path in before}
    assert Path("results/tiny/points/sigma2=1.7,seed=0") in added
    assert added <= {Path("results/tiny") / point.path for point in plan}
    table = read_table(folder / SWEEP)
    assert table["sigma2"].tolist() == [point.sigma2 for point in plan]
    assert dry_run(folder, SWEEP, *arguments) == {}


@pytest.mark.parametrize(("part", "rule"), [("", "train_tiny_0"), ("second/", "second_tiny_0")])
def test_a_refined_bucket_waits_for_the_first_stages(tmp_path, part, rule):
    """They share points, and two jobs must not train the same points at once."""
    assert rule in dry_run(tmp_path, f"results/tiny/{part}refined/bucket=0.done", *configured(tmp_path))
