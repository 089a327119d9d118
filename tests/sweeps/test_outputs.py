from __future__ import annotations

import itertools
import os

import pytest

from phasevae.config import validate
from phasevae.datasets.registry import build_dataset
from phasevae.datasets.store import save_dataset
from phasevae.errors import InputError
from phasevae.sweeps.outputs import FIGURE_INPUTS, UNKNOWN_SHAPE, Outputs, own_files
from phasevae.sweeps.plan import Point, make_plan, plan_text, read_plan, write_plan
from phasevae.sweeps.resources import bucket_cost

TINY = {"kind": "synthetic", "eigenvalues": [2.0, 1.0], "n_samples": 500, "n_latent": 1, "sigma2": [1.0, 2.5]}
FIGURES = {
    "landscape": (),
    "spectrum": ("spectrum",),
    "kl": ("sweep", "spectrum"),
    "hysteresis": ("hysteresis", "spectrum"),
    "beta_equivalence": ("sweep",),
    "bracketing": ("bracketing",),
}


def outputs(folder="results", cluster=None, **changes) -> Outputs:
    config = {"results": str(folder), "datasets": {"tiny": TINY | changes}, "cluster": cluster or {}}
    return Outputs(validate(config, "test"), FIGURES)


def test_every_point_is_in_one_bucket_and_all_its_files_are_outputs():
    (sweep,) = outputs(n_buckets=2).sweeps
    assert sweep.plan == make_plan(sweep.settings)
    assert sorted(itertools.chain(*sweep.buckets.values()), key=sweep.plan.index) == sweep.plan
    assert list(sweep.buckets) == sorted({point.bucket for point in sweep.plan})
    assert sweep.bucket_plans == {bucket: plan_text(points) for bucket, points in sweep.buckets.items()}
    assert sweep.point_files(sweep.plan[:1]) == [
        f"results/tiny/points/sigma2=1.0,seed=0/{file}" for file in ("point.json", "weights.safetensors", "history.csv")
    ]
    records = [f"results/tiny/{point.path}/point.json" for point in sweep.plan]
    assert sweep.point_files(iter(sweep.plan))[: len(sweep.plan)] == records
    flags = [f"results/tiny/{point.path}/complete" for point in sweep.plan]
    assert sweep.complete_flags(sweep.plan) == flags
    assert sweep.records() == records + flags


def test_a_second_pass_has_its_own_folder_seeds_and_rules():
    first, second = outputs(bracket=True, n_buckets=1).sweeps
    assert (first.folder, second.folder) == ("results/tiny/", "results/tiny/second/")
    assert (first.rule(0), second.rule(0)) == ("train_tiny_0", "second_tiny_0")
    assert (first.settings["seeds"], second.settings["seeds"]) == ([0], [1000])


def test_coarse_tables_are_of_the_first_pass():
    refined = outputs(refine=True, bracket=True)
    assert refined.sweep("tiny", "coarse/") is refined.sweep("tiny", "") is refined.sweeps[0]
    assert refined.sweep("tiny", "second/") is refined.sweeps[1]
    parts = ("", "coarse/", "second/")
    assert [refined.is_refined("tiny", part) for part in parts] == [True, False, True]
    assert not any(outputs(bracket=True).is_refined("tiny", part) for part in parts)


def test_figures_are_those_that_the_settings_ask_for():
    assert outputs().figures("tiny") == ["landscape", "spectrum", "kl"]
    asked = {
        "hysteresis": {"hysteresis_ratio": [0.5, 1.5]},
        "beta_equivalence": {"beta": [1.0, 2.0]},
        "bracketing": {"bracket": True},
    }
    for figure, changes in asked.items():
        assert outputs(**changes).figures("tiny") == ["landscape", "spectrum", "kl", figure]


def test_the_files_of_figures():
    tiny = outputs()
    assert tiny.figure_files("tiny")[:2] == ["results/tiny/figures/landscape.pdf", "results/tiny/figures/landscape.png"]
    assert tiny.figure_inputs("kl") == {
        "sweep": "results/{dataset}/sweep.csv",
        "spectrum": "results/{dataset}/spectrum.json",
    }
    assert [tiny.figure_group(figure) for figure in ("landscape", "spectrum", "kl")] == [None, "data", "tables"]


def test_each_input_of_a_figure_is_a_result():
    everything = outputs(bracket=True, hysteresis_ratio=[0.5, 1.5])
    made = {*everything.tables("tiny"), *everything.upward_sweep("tiny")}
    assert {f"results/tiny/{file}" for file in FIGURE_INPUTS.values()} <= made


def test_deliverables_are_tables_and_figures_of_both_passes():
    both = outputs(bracket=True, refine=True, n_buckets=1)
    named = both.deliverables("tiny")
    assert set(named) == {*both.tables("tiny"), *both.figure_files("tiny")}
    assert len(named) == len(set(named))
    assert {"results/tiny/refined.csv", "results/tiny/second/sweep.csv", "results/tiny/bracketing.json"} < set(named)
    assert both.deliverables() == both.training_rules() == []
    assert both.training_rules("tiny") == ["train_tiny_0", "second_tiny_0"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"shards": 10**6}, "datasets.tiny.shards: 1000000, must be at most 1000"),
        ({"shards": 600}, "datasets.tiny.shards: 600, must be at most its 500 samples"),
        ({"n_buckets": 10**6}, "datasets.tiny.n_buckets: 1000000, must be at most 1000"),
        ({"seeds": list(range(10_001))}, "sigma2: 20002 points with beta and seeds, must be at most 20000"),
    ],
)
def test_what_would_plan_for_ever_is_refused(changes, words):
    with pytest.raises(InputError, match=words):
        outputs(**changes)


def test_only_the_fit_of_the_first_pass_uses_the_upward_sweep():
    upward = outputs(hysteresis_ratio=[0.5, 1.5])
    assert upward.upward_sweep("tiny", "") == ["results/tiny/hysteresis.csv"]
    assert upward.upward_sweep("tiny", "second/") == upward.upward_sweep("tiny", "coarse/") == []
    assert outputs().upward_sweep("tiny", "") == []


def test_a_table_of_a_refined_grid_waits_for_the_buckets_with_new_points(tmp_path):
    refined = outputs(refine=True, n_buckets=3)
    plan = refined.sweep("tiny", "").plan
    new = Point(1.7, None, 1.0, 0, 2, "points/sigma2=1.7,seed=0")
    write_plan(tmp_path / "refined.csv", [*plan, new])
    assert read_plan(tmp_path / "refined.csv") == [*plan, new]
    records = refined.sweep("tiny", "").records()
    assert refined.points_of_table(tmp_path / "refined.csv", "tiny", "coarse/") == records
    flag = "results/tiny/refined/bucket=2.done"
    assert refined.points_of_table(tmp_path / "refined.csv", "tiny", "") == [*records, flag]


def test_a_refined_bucket_shares_the_points_of_the_first_stage():
    sweep = (both := outputs(n_buckets=1, refine=True)).sweep("tiny", "")
    assert both.first_stage("tiny", "", "0") == sweep.point_files(sweep.plan)
    assert both.first_stage("tiny", "", "1") == []


def test_parts_of_the_data():
    parts = outputs(shards=2).shards("tiny", "second")
    assert parts == [f"results/tiny/shards/second/{part}of2.safetensors" for part in (1, 2)]


def test_names_by_their_settings_as_a_regular_expression():
    tiny = outputs()
    assert tiny.names_where(lambda settings: settings["shards"] == 1) == "tiny"
    assert tiny.names_where(lambda settings: settings["shards"] > 1) == "(?!)"


def test_the_shape_is_that_of_saved_data_if_there_are_any(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny = outputs()
    assert tiny.shape("tiny") == (500, 2)
    save_dataset(build_dataset("synthetic", eigenvalues=[3.0, 2.0, 1.0], n_samples=70), "results/tiny")
    assert tiny.shape("tiny") == (70, 3)
    of_array = {"kind": "array", "path": "mine.npy", "eigenvalues": None, "n_samples": None}
    assert outputs("elsewhere", **of_array).shape("tiny") == UNKNOWN_SHAPE
    (tmp_path / "results" / "tiny" / "data.json").write_text("damaged")
    assert tiny.shape("tiny") == UNKNOWN_SHAPE


def test_buckets_are_packed_until_each_takes_long_enough():
    long = {"samples": 10**9, "n_buckets": 4}
    assert outputs(**long).datasets["tiny"]["n_buckets"] == 4
    packed = outputs(cluster={"least_minutes": 10**6}, **long)
    assert packed.datasets["tiny"]["n_buckets"] == packed.sweeps[0].settings["n_buckets"] == 1


def test_the_time_of_a_training_rule_is_that_of_its_points_trained_once():
    longer = outputs(n_buckets=1, extend_unconverged=8, samples=10**8, hysteresis_ratio=[0.5, 1.5])
    seconds = longer.training_seconds()
    assert set(seconds) == {"train_tiny_0", "train_refined", "hysteresis"}
    once = {**longer.datasets["tiny"], "extend_unconverged": 1}
    assert seconds["train_tiny_0"] == bucket_cost(once, 2, (500, 2), threads=2, device="auto")["seconds"]
    assert longer.bucket_cost(longer.sweeps[0], 2)["seconds"] > 10 * seconds["train_tiny_0"]


def test_a_bucket_that_no_command_could_take_is_refused():
    many = [round(1 + 1e-4 * k, 4) for k in range(3000)]
    with pytest.raises(
        InputError, match=r"datasets\.tiny\.n_buckets: 3000 points are too many for 1 .*; set it to (\d+)"
    ):
        outputs(sigma2=many, n_buckets=1)
    assert outputs(sigma2=many, n_buckets=4).sweeps


def test_the_users_own_files_are_those_of_folders_and_those_that_are_missing(tmp_path):
    folder = tmp_path / "images"
    (folder / "a").mkdir(parents=True)
    for name in ("a/1.png", "2.png"):
        (folder / name).touch()
    (folder / "nowhere.png").symlink_to("absent")
    (tmp_path / "x.npy").touch()
    os.mkfifo(tmp_path / "pipe.npy")
    given = [str(tmp_path / name) for name in ("x.npy", "missing.npy", "pipe.npy")]
    settings = {"path": [*given, str(folder)]}
    assert own_files(settings) == [*given[:2], str(folder / "2.png"), str(folder / "a" / "1.png")]
    assert own_files({}) == []
