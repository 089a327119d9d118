from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from commands import phasevae, succeed

from phasevae.artifacts.files import file_sha256, read_json, write_json
from phasevae.artifacts.tables import write_table
from phasevae.kernels import backends

VERBS = (
    "dataset",
    "spectrum",
    "predict",
    "plan",
    "train",
    "collect",
    "fit",
    "refine",
    "bracket",
    "hysteresis",
    "stability",
    "plot",
    "doctor",
)
TRAIN = ("--latent", "2", "--hidden", "8", "--samples", "3000", "--batch", "64", "--device", "cpu", "--threads", "1")


def installed(*arguments: object, folder: Path) -> None:
    """As `succeed`, through the command that is installed."""
    command = [str(Path(sys.executable).with_name("phasevae")), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def by_hand(tmp_path_factory) -> Path:
    """Every verb in turn, as the README shows them; the first through the command that is installed."""
    folder = tmp_path_factory.mktemp("by-hand")
    installed("dataset", "synthetic", "--eigenvalues", "1,0.6,0.3", "--n-samples", 2000, "-o", "set", folder=folder)
    succeed("spectrum", "set", "-o", "set/spectrum.json", folder=folder)
    grid = "0.4,0.6,0.8,1.1,1.3"
    succeed("train", "set", "--sigma2", grid, "--seeds", "0,1", *TRAIN, "-o", "set/points", folder=folder)
    tables = ("--dimensions", "dimensions.csv", "--timing", "timing.csv")
    succeed("collect", "set/points", "-o", "sweep.csv", *tables, folder=folder)
    succeed("fit", "sweep.csv", "--spectrum", "set/spectrum.json", "-o", "fit.json", folder=folder)
    inputs = ("--sweep", "sweep.csv", "--dimensions", "dimensions.csv", "--fit", "fit.json")
    succeed("plot", "kl", *inputs, "--spectrum", "set/spectrum.json", "-o", "figures/kl", folder=folder)
    return folder


def test_one_feature_is_said_in_the_singular(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(5.0)[:, None] ** 2)
    done = [
        succeed("dataset", "array", "x.npy", "-o", "set", folder=tmp_path),
        succeed("spectrum", "x.npy", "-o", "s.json", folder=tmp_path),
        succeed("moments", "x.npy", "-o", "m.safetensors", folder=tmp_path),
    ]
    assert all(line.endswith(" 1 feature") for line in (text.splitlines()[-1] for text in done))


def test_each_verb_by_hand_leaves_its_artifacts(by_hand):
    sweep, dimensions, timing = (pd.read_csv(by_hand / f"{name}.csv") for name in ("sweep", "dimensions", "timing"))
    assert len(sweep) == len(timing) == 10
    assert len(dimensions) == 20
    totals = dimensions.groupby(["sigma2", "beta", "seed"], sort=True)["kl"].sum()
    assert totals.to_numpy() == pytest.approx(sweep.sort_values(["sigma2", "beta", "seed"])["kl"].to_numpy())
    assert (sweep["backend"] == backends.choose("cpu")).all()
    fit = json.loads((by_hand / "fit.json").read_text())
    eigenvalue = json.loads((by_hand / "set" / "spectrum.json").read_text())["critical_variance"]
    assert fit["predicted"]["critical_variance"] == pytest.approx(eigenvalue)
    assert (by_hand / "figures" / "kl.pdf").read_bytes().startswith(b"%PDF")
    assert (by_hand / "figures" / "kl.png").read_bytes().startswith(b"\x89PNG")


def test_a_point_says_where_it_comes_from(by_hand):
    point = read_json(by_hand / "set" / "points" / "sigma2=0.4,seed=0" / "point.json")
    data = read_json(by_hand / "set" / "data.json")
    assert point["provenance"]["data_sha256"] == data["sha256"]
    assert point["provenance"].keys() >= {"version", "git", "torch", "backend", "device", "threads", "code_hash"}
    weights = by_hand / "set" / "points" / "sigma2=0.4,seed=0" / "weights.safetensors"
    assert point["weights_sha256"] == file_sha256(weights)
    drifts = {"kl_late", "kl_drift", "elbo_drift", "elbo_drift_standard_error"}
    assert point["convergence"].keys() == drifts | {"second_moment_deviation"}
    history = pd.read_csv(weights.with_name("history.csv"))
    assert list(history.columns) == ["step", "samples", "sigma2", "elbo", "kl", "mse"]
    assert history["samples"].iloc[-1] == point["samples"] == 47 * 64


def test_training_again_keeps_everything_and_a_new_sigma2_trains_one(by_hand):
    path = by_hand / "set" / "points" / "sigma2=0.4,seed=0" / "point.json"
    before = path.read_bytes()
    printed = succeed("train", "set", "--sigma2", "0.4,0.45", *TRAIN, "-o", "set/points", folder=by_hand)
    assert "1 point trained, 1 kept" in printed
    assert path.read_bytes() == before


def test_a_planned_sweep_relative_to_the_largest_eigenvalue(by_hand):
    config = by_hand / "config.yaml"
    config.write_text(
        "datasets:\n  mine: {kind: synthetic, eigenvalues: [1, 0.6, 0.3], n_samples: 2000, n_latent: 2, hidden: [8],"
        " sigma2_ratio: [0.5, 1.5], samples: 3000, batch: 64, n_buckets: 1}\n"
    )
    printed = succeed("plan", "--config", config, "--dataset", "mine", "-o", "set/plan.csv", folder=by_hand)
    assert "2 points in 1 bucket" in printed
    assert "minutes" in printed
    job = ("--plan", "set/plan.csv", "--bucket", 0)
    succeed("train", "set", *job, *TRAIN, "-o", "set", folder=by_hand)
    settings = json.dumps({"n_latent": 2, "hidden": [8], "samples": 3000, "batch": 64})
    succeed("collect", "--plan", "set/plan.csv", "--settings", settings, "-o", "ratio.csv", folder=by_hand)
    eigenvalue = read_json(by_hand / "set" / "spectrum.json")["critical_variance"]
    assert pd.read_csv(by_hand / "ratio.csv")["sigma2"].tolist() == pytest.approx([0.5 * eigenvalue, 1.5 * eigenvalue])
    other = json.dumps({"n_latent": 2, "hidden": [8], "samples": 6000, "batch": 64})
    refused = phasevae("collect", "--plan", "set/plan.csv", "--settings", other, "-o", "other.csv", folder=by_hand)
    assert refused.returncode == 2
    assert "points/ratio=0.5,seed=0/point.json: digest" in refused.stderr
    assert not (by_hand / "other.csv").exists()


def test_points_of_two_sweeps_are_not_mixed(by_hand, tmp_path):
    for samples in (640, 1280):
        settings = ("--latent", "2", "--hidden", "8", "--batch", "64", "--threads", "1", "--samples", samples)
        succeed("train", by_hand / "set", "--sigma2", "0.5", *settings, "-o", tmp_path / str(samples))
    refused = phasevae("collect", tmp_path, "-o", tmp_path / "sweep.csv")
    assert refused.returncode == 2
    assert "settings differs" in refused.stderr


def test_an_altered_point_is_refused(by_hand, tmp_path):
    point = read_json(by_hand / "set" / "points" / "sigma2=0.4,seed=0" / "point.json")
    write_json(tmp_path / "p" / "point.json", {**point, "sigma2": 0.41})
    refused = phasevae("collect", tmp_path, "-o", tmp_path / "sweep.csv")
    assert refused.returncode == 2
    assert "its own keys give" in refused.stderr


def test_a_spectrum_of_other_data_is_refused(by_hand, tmp_path):
    spectrum = read_json(by_hand / "set" / "spectrum.json")
    write_json(tmp_path / "other.json", {**spectrum, "data_sha256": "0" * 64})
    refused = phasevae("fit", by_hand / "sweep.csv", "--spectrum", tmp_path / "other.json", "-o", tmp_path / "fit.json")
    assert refused.returncode == 2
    assert "is the spectrum of other data" in refused.stderr
    assert not (tmp_path / "fit.json").exists()


def test_changed_samples_are_noticed(by_hand, tmp_path):
    shutil.copytree(by_hand / "set", tmp_path / "set", ignore=shutil.ignore_patterns("points"))
    array = np.load(tmp_path / "set" / "data.npy")
    np.save(tmp_path / "set" / "data.npy", 2 * array)
    refused = phasevae("train", tmp_path / "set", "--sigma2", "0.4", *TRAIN, "-o", tmp_path / "points")
    assert refused.returncode == 2
    assert "sha256" in refused.stderr


def test_an_interval_open_on_one_side_is_printed_as_open(tmp_path):
    sigma2, kl = [0.7, 0.8, 0.9, 1.0, 1.05], [0.16, 0.12, 0.06, 0.03, 0.004]
    table = pd.DataFrame({"sigma2": sigma2, "beta": 1.0, "seed": 0, "kl": kl, "active_dims": 1})
    write_table(tmp_path / "sweep.csv", table)
    printed = succeed("fit", tmp_path / "sweep.csv", "-o", tmp_path / "fit.json")
    assert read_json(tmp_path / "fit.json")["ci95"][1] is None
    assert ", open]" in printed


def test_holdout_is_measured(by_hand, tmp_path):
    succeed("train", by_hand / "set", "--sigma2", "0.4", *TRAIN, "--holdout", "0.1", "-o", tmp_path)
    holdout = read_json(tmp_path / "sigma2=0.4,seed=0" / "point.json")["holdout"]
    assert holdout["n_samples"] == 200
    assert np.isfinite([holdout["elbo"], holdout["kl"], holdout["mse"]]).all()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("dataset", "synthetic", "--eigenvalues", "1,x", "-o", "d"), "--eigenvalues: '1,x', must be numbers"),
        (("dataset", "unknown", "-o", "d"), "kind: 'unknown', must be one of"),
        (
            ("dataset", "array", "-o", "d"),
            "PATH: missing, must be the file or folder to read: phasevae dataset array PATH -o d",
        ),
        (("dataset", "digits", "--n-samples", "5", "-o", "d"), "n_samples"),
        (("spectrum", "absent.npy", "-o", "s.json"), "absent.npy"),
        (("plan", "-o", "plan.csv"), "give either --config"),
        (("plan", "--config", "absent.yaml", "--dataset", "a", "-o", "plan.csv"), "absent.yaml"),
        (("train", "absent", "--sigma2", "1", "--latent", "2", "-o", "p"), "data.json: no such file"),
        (("train", "absent", "--sigma2", "1", "-o", "p"), "n_latent: is missing"),
        (("train", "absent", "--latent", "2", "-o", "p"), "give either --plan"),
        (("train", "absent", "--plan", "p.csv", "--seeds", "4", "-o", "p"), "--seeds: 4, must be left out with --plan"),
        (("train", "absent", "--plan", "p.csv", "--beta", "2", "-o", "p"), "--beta: 2, must be left out with --plan"),
        (("train", "absent", "--sigma2", "-1", "--latent", "2", "-o", "p"), "sigma2[0]: -1.0, must be at least 1e-30"),
        (("train", "absent", "--sigma2", "1,1", "--latent", "2", "-o", "p"), "given twice"),
        (("collect", "-o", "s.csv"), "give either a folder"),
        (("collect", ".", "-o", "s.csv"), "holds no point.json"),
        (("fit", "absent.csv", "-o", "f.json"), "absent.csv: no such file"),
        (("collect", "--plan", "plan.csv", "-o", "s.csv"), "--plan needs --settings"),
        (
            ("train", "absent", "--sigma2", "1", "--latent", "2", "--device", "meta", "-o", "p"),
            "data.json: no such file",
        ),
        (("refine", "absent.json", "-o", "r.csv"), "give either --config"),
        (("bracket", "absent.csv", "b.csv", "--spectrum", "s.json", "-o", "b.csv"), "absent.csv: no such file"),
        (("plot", "landscape", "-o", ""), "must be the name of a figure"),
        (("plot", "kl", "-o", "kl"), "needs"),
        (("dataset", "array", "--path", "x.npy", "-o", "d"), "--path: is an argument, must be given by its place: "),
        (("fit", "--sweep=s.csv", "-o", "f.json"), "phasevae fit SWEEP"),
        (("plot", "nonsense", "-o", "kl"), "nonsense"),
        (("predict", "x.npy"), "phasevae: missing option '--latent' (see phasevae predict --help)"),
        (("predict", "x.npy", "--latent", "two"), "--latent: 'two', must be a whole number"),
        (("predict", "x.npy", "--latent", "2", "--latent", "a"), "--latent: 'a', must be a whole number"),
        (("predict", "x.npy", "--loss", "--latent", "--latent=a"), "--latent: 'a', must be a whole number"),
        (("predict", "--latent", "a", "--", "x.npy"), "--latent: 'a', must be a whole number"),
        (("dataset", "digits", "--n-samples", "many", "-oset"), "--n-samples: 'many', must be a whole number"),
        (("train", "d", "--threads=0", "-o", "p"), "--threads: '0', must be greater than or equal to 1"),
        (("predict", "x.npy", "--latnt", "2"), "no such option: --latnt"),
        (("predict",), "(see phasevae predict --help)"),
        (("predictt",), "no such command 'predictt'"),
        (("--nonsense",), "(see phasevae --help)"),
    ],
)
def test_bad_input_is_one_line_exit_code_2_and_leaves_nothing(arguments, words, tmp_path):
    done = phasevae(*arguments, folder=tmp_path)
    assert done.returncode == 2
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_no_verb_shows_the_help():
    done = phasevae()
    assert "Usage: phasevae" in done.stdout + done.stderr
    assert all(verb in done.stdout + done.stderr for verb in VERBS)


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    done = phasevae("dataset", "digits", "-o", tmp_path / "file" / "set")
    assert done.returncode == 2
    assert "file" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example(verb):
    assert f"Example: phasevae {verb}" in succeed(verb, "--help")


def test_the_help_of_train_names_no_key_that_is_no_option():
    assert "sigma2_ratio" not in succeed("train", "--help")


def test_doctor_shows_versions_and_backends():
    actual = json.loads(succeed("doctor", "--json"))
    assert actual["versions"]["phasevae"] == "0.1.0"
    assert actual["backends"]["torch"]["available"] is True
    assert set(actual["backends"]) == {"torch", "native_cpu", "native_cuda"}
    assert all(state["reason"] for state in actual["backends"].values())


def test_importing_the_package_or_the_command_line_imports_no_torch():
    modules = "phasevae, phasevae.cli.main, phasevae.sweeps.points, phasevae.measurement.tables"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_bad_input_of_a_training_is_refused_without_importing_torch(tmp_path):
    code = (
        "import sys; from phasevae import InputError; from phasevae.cli.main import app\n"
        "try: app(sys.argv[1:])\n"
        "except InputError as error: sys.exit(f\"{error} {'torch' in sys.modules}\")"
    )
    arguments = ["train", "absent", "--sigma2", "1", "--latent", "2", "-o", "points"]
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stderr == "absent/data.json: no such file False\n"
