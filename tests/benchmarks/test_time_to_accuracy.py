"""benchmarks/time_to_accuracy.py on tiny sizes: measurements, when the clock runs, and the files that it writes."""

from __future__ import annotations

import math
import os
import sys
import time
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import time_to_accuracy as benchmark
import torch
from contenders import common, course, loop, phasevae_trainer, report, throughput, turns
from matplotlib.figure import Figure
from shared import gaussian_spectrum

from phasevae.architecture import Architecture
from phasevae.config import completed_settings
from phasevae.errors import InputError
from phasevae.model import VAEEnsemble, padded
from phasevae.theory.ppca import gaussian_kl, ppca_exact_above, ppca_kl_per_dim

SIGMA2 = (0.3, 0.6, 0.9)


@pytest.fixture
def run() -> common.Run:
    x = np.random.default_rng(0).standard_normal((64, 5), dtype=np.float32)
    settings = common.settings_of("usual", 2, (7, 6), 640).with_changes(batch=16)
    return common.Run(x, SIGMA2, 3, settings, 1)


def test_the_protocols_are_the_usual_one_and_the_packages_defaults():
    usual, ours = (common.settings_of(protocol, 4, (256, 128), 1e6) for protocol in common.PROTOCOLS)
    assert (usual.batch, usual.antithetic, usual.rao_blackwell_group, usual.hidden) == (128, False, 1, (256, 128))
    steps = (0, 5, usual.n_steps - 1)
    assert not usual.balanced_order
    assert not usual.moment_matched_noise
    assert {usual.learning_rate_at(step) for step in steps} == {1e-3}
    assert {usual.sigma2_factor_at(step) for step in steps} == {1.0}
    default = completed_settings({"n_latent": 4})
    assert all(getattr(ours, key) == default[key] for key in common.USUAL)
    assert ours.rao_blackwell_group > 1
    assert ours.sigma2_factor_at(0) == ours.anneal_from < 1


def test_the_papers_set_is_that_of_the_configuration():
    paper = common.PROBLEMS["paper"]
    np.testing.assert_allclose(paper.eigenvalues, np.exp(-0.1 * np.arange(8)), rtol=1e-9)
    assert (len(paper.sigma2), paper.sigma2[0], paper.sigma2[-1], paper.n_latent) == (16, 0.68, 1.08, 4)


@pytest.mark.parametrize("problem", common.PROBLEMS.values(), ids=common.PROBLEMS)
def test_ppca_is_exact_at_every_point_of_the_sets(problem):
    active = sum(np.asarray(problem.eigenvalues) > min(problem.sigma2))
    exact = ppca_exact_above(problem.eigenvalues, problem.n_latent)
    assert active <= problem.n_latent or min(problem.sigma2) >= exact


def test_the_errors_of_an_exact_curve_vanish_and_those_of_a_wrong_point_are_its_own():
    problem = common.PROBLEMS["cascade"]
    spectrum = gaussian_spectrum(problem.eigenvalues)
    kl = ppca_kl_per_dim(problem.eigenvalues, problem.sigma2, problem.n_latent)
    exact = course.errors(kl, problem.sigma2, spectrum, problem.n_latent)
    assert exact["kl_rms"] == exact["kl_largest"] == 0
    assert exact["critical_variance"] == pytest.approx(4, rel=2e-3)
    kl[-1] += 0.003 / problem.n_latent
    wrong = course.errors(kl, problem.sigma2, spectrum, problem.n_latent)
    assert wrong["kl_largest"] == pytest.approx(0.003)
    assert wrong["kl_rms"] == pytest.approx(0.003 / 4)
    assert wrong["of_allowed"] == pytest.approx(0.003 / 0.005)


def test_some_errors_of_a_sweep_that_diverged_or_collapsed_are_undefined():
    spectrum, sigma2 = gaussian_spectrum([1.0, 0.5]), (0.6, 0.7, 0.8, 0.9, 1.1)
    collapsed = course.errors(np.zeros((5, 1)), sigma2, spectrum, 1)
    assert math.isnan(collapsed["critical_variance"])
    assert collapsed["kl_largest"] == pytest.approx(0.5 * np.log(1 / 0.6))
    assert math.isnan(course.errors(np.full((5, 1), np.nan), sigma2, spectrum, 1)["kl_rms"])


def test_kl_is_that_of_the_loops_own_encoders_over_all_data(run):
    contender = loop.start(run, workers=0, threads=1)
    contender.train(20)
    for model, kl in zip(contender._models, course.kl_per_dim(contender.parameters(), run), strict=True):
        mu, logvar = model.encoder(torch.from_numpy(run.x)).double().chunk(2, -1)
        expected = gaussian_kl(mu, logvar, torch.expm1).mean(0)
        np.testing.assert_allclose(kl, expected.detach(), rtol=1e-4)


STARTS = {"loop": lambda run: loop.start(run, 0, 1), "phasevae": phasevae_trainer.start}


@pytest.mark.parametrize("start", STARTS.values(), ids=STARTS)
def test_training_goes_on_from_call_to_call_and_lowers_the_error_of_every_model(start, run):
    rng = np.random.default_rng(1)
    x = (3 * rng.standard_normal((64, 2)) @ rng.standard_normal((2, 5))).astype(np.float32)
    run = replace(run, x=x).with_settings(learning_rate=0.01, samples=1e5)
    contender = start(run)
    errors = []
    for steps in (1, 60, 60):
        contender.train(steps)
        errors.append(reconstruction_errors(contender.parameters(), run))
    assert (errors[1] < 0.8 * errors[0]).all()
    assert (errors[2] < 0.8 * errors[1]).all()


def reconstruction_errors(parameters: np.ndarray, run: common.Run) -> np.ndarray:
    """Squared errors [M] of decoding the posterior means."""
    architecture = Architecture(5, 2, run.settings.hidden)
    ensemble = VAEEnsemble(architecture, padded(torch.from_numpy(parameters), architecture))
    x = torch.from_numpy(run.x)[None]
    with torch.no_grad():
        return (ensemble.decode(ensemble.encode(x)[0]) - x).square().sum(-1).mean(1).numpy()


@pytest.fixture
def clock(monkeypatch) -> SimpleNamespace:
    """A clock that shows `now`, which the fake contenders move forward."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(time, "perf_counter", lambda: clock.now)
    return clock


def fake_module(clock: SimpleNamespace, step_seconds: float) -> SimpleNamespace:
    def start(run: common.Run) -> SimpleNamespace:
        clock.now += 7

        def train(steps: int) -> None:
            clock.now += steps * step_seconds

        return SimpleNamespace(train=train, detail="fake")

    return SimpleNamespace(prepare=lambda run: {}, start=start)


def slow_measure(clock: SimpleNamespace) -> course.Measure:
    def measure(contender: SimpleNamespace) -> dict:
        clock.now += 1000
        return {"kl_rms": 0.1}

    return measure


def test_a_constant_protocol_has_checkpoints_until_the_budget_and_measuring_takes_no_time(clock, run):
    run = run.with_settings(samples=1e9)
    rows = pd.DataFrame(course.course(fake_module(clock, 0.1), run, [], 100, slow_measure(clock), 2))
    assert rows["seconds"].iloc[-1] == pytest.approx(100, rel=0.02)
    assert rows["seconds"].diff().min() > 0
    assert (rows["samples"] == (rows["seconds"] * 10).round() * 16).all()
    assert set(rows["startup_seconds"]) == {9.0}
    assert rows["seconds"].iloc[0] < 1


def test_a_schedule_has_a_run_for_each_budget_that_is_expected_to_end_in_time(clock, run, capsys):
    run = replace(run, settings=common.settings_of("ours", 2, (7, 6), 1e12))
    batch = run.settings.batch
    budgets = [10 * batch, 20 * batch, 40 * batch, 80 * batch]
    rows = pd.DataFrame(course.course(fake_module(clock, 1), run, budgets, 50, slow_measure(clock), 2))
    assert rows["samples"].tolist() == budgets[:3]
    assert rows["seconds"].tolist() == [10, 20, 40]
    assert "left out, 80 s are expected" in capsys.readouterr().out


def test_calibration_chooses_the_fastest(clock, run, capsys):
    def start(run: common.Run, step_seconds: float) -> SimpleNamespace:
        def train(steps: int) -> None:
            clock.now += steps * step_seconds

        return SimpleNamespace(train=train)

    options = [{"step_seconds": seconds} for seconds in (0.2, 0.1, 0.4)]
    assert common.fastest(start, run, options) == {"step_seconds": 0.1}
    assert "step_seconds 0.1: 480 model-samples/s" in capsys.readouterr().out


def make_rows(contender: str, protocol: str, seed: int, seconds: list[float], rms: list[float]) -> pd.DataFrame:
    rows = pd.DataFrame({"seconds": seconds, "kl_rms": rms})
    identity = {"set": "paper", "contender": contender, "protocol": protocol, "seed": seed, "rows": 64, "threads": 1}
    identity |= {"beside": 0, "processor": "CPU of 2 GHz"}
    numbers = {"kl_largest": 2 * rows["kl_rms"], "of_allowed": 1.0, "critical_error": -0.01, "startup_seconds": 3.0}
    return rows.assign(**identity, **numbers, samples=100, model_samples_per_second=1e5, detail="here")


@pytest.fixture
def results(tmp_path) -> Path:
    (tmp_path / "runs").mkdir()
    tables = [
        make_rows("phasevae", "ours", 0, [10, 20, 40], [0.006, 0.0035, 0.0015]),
        make_rows("phasevae", "ours", 1, [11, 21, 41], [0.005, 0.0045, 0.0018]),
        make_rows("loop", "usual", 0, [5, 30, 50], [0.09, 0.03, 0.02]),
    ]
    for i, table in enumerate(tables):
        table.to_csv(tmp_path / "runs" / f"{i}.csv", index=False)
    return tmp_path


def test_the_table_has_times_to_the_targets_and_the_others_error_at_that_time(results):
    table = report.overview(report.read_rows(results / "runs")).set_index("contender")
    assert table.loc["phasevae", "s to 0.004"] == np.median([20, 41])
    assert table.loc["phasevae", "s to 0.002"] == np.median([40, 41])
    assert table.loc["phasevae", "seeds"] == 2
    assert table.loc["phasevae", "kl_rms"] == pytest.approx(np.median([0.0015, 0.0018]))
    assert math.isinf(table.loc["loop", "s to 0.004"])
    assert table.loc["loop", "RMS at T"] == 0.03


def test_tables_and_figures_of_existing_runs_are_written(results, capsys):
    benchmark.main(["-o", str(results), "--merge"])
    printed = capsys.readouterr().out
    assert "paper: 64 samples, 1 threads of CPU of 2 GHz; KL in nats, medians over seeds; T = 30 s" in printed
    assert (results / "time_to_accuracy.txt").read_text() in printed
    assert len(pd.read_csv(results / "time_to_accuracy.csv")) == 9
    assert (results / "time_to_accuracy-paper.png").stat().st_size > 10_000
    assert (results / "time_to_accuracy-paper.pdf").is_file()


def test_runs_that_cannot_be_compared_are_refused(results):
    make_rows("jax", "ours", 0, [1], [0.1]).assign(threads=2).to_csv(results / "runs" / "other.csv", index=False)
    with pytest.raises(InputError, match="holds runs with threads 1, 2"):
        report.read_rows(results / "runs")


@pytest.mark.parametrize("column", ["beside", "processor"])
@pytest.mark.parametrize("count", [1, 3])
def test_runs_of_an_older_version_are_refused(results, column, count):
    for i in range(count):
        path = results / "runs" / f"{i}.csv"
        pd.read_csv(path).drop(columns=column).to_csv(path, index=False)
    with pytest.raises(
        InputError, match=f"^{results / 'runs'}: .*an older version, without {column}; run them with --again"
    ):
        report.read_rows(results / "runs")


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--contenders", "torch", "--contenders: 'torch', must be of: loop, compiled, multi_rate, pythae, jax, ph"),
        ("--contenders", "jax:mine", "--contenders: 'jax:mine'"),
        ("--contenders", "loop:ours", "'loop:ours': loop has the usual protocol only"),
        ("--set", "digits", "--set: 'digits', must be some of: paper, cascade"),
        ("--seeds", "0,x", "--seeds: '0,x', must be numbers with commas between"),
    ],
)
def test_unknown_names_and_numbers_are_refused(option, value, message, capsys):
    with pytest.raises(SystemExit):
        benchmark.parse_arguments(["-o", "out", option, value])
    assert message in capsys.readouterr().err


def test_every_contender_runs_with_its_protocols_and_every_seed():
    arguments = benchmark.parse_arguments(["-o", "out", "--contenders", "loop,jax", "--seeds", "0,1"])
    protocols = [("loop", "usual"), ("jax", "usual"), ("jax", "ours")]
    expected = [("paper", *protocol, seed) for seed in (0, 1) for protocol in protocols]
    assert benchmark.entries(arguments) == expected


def test_a_framework_that_is_not_installed_is_left_out_with_a_line(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "jax", None)
    monkeypatch.delitem(sys.modules, "contenders.jax_ensemble", raising=False)
    monkeypatch.setattr(os, "sched_setaffinity", lambda *_: None)
    entry = benchmark.Entry("paper", "jax", "ours", 0)
    assert benchmark.child(entry, Namespace(threads=1, out=tmp_path)) == benchmark.CANNOT_IMPORT
    assert "jax: left out (" in (line := capsys.readouterr().out)
    assert "to install it: pip install jax" in line


@pytest.fixture
def children_in_this_process(monkeypatch):
    """Run children without a start of their own, which takes seconds for imports."""

    class InThisProcess:
        def __init__(self, command: list[str], environment: dict[str, str]):
            assert command[:2] == [sys.executable, benchmark.__file__]
            assert environment["OMP_NUM_THREADS"] == command[command.index("--threads") + 1]
            self._words = command[2:]

        def turn(self, seconds: float) -> int:
            with pytest.raises(SystemExit) as ended:
                benchmark.main(self._words)
            return ended.value.code

    monkeypatch.setattr(turns, "Stoppable", InThisProcess)
    monkeypatch.setattr(os, "sched_setaffinity", lambda *_: None)


def test_the_command_runs_missing_entries_and_keeps_existing_ones(
    tmp_path, monkeypatch, capsys, children_in_this_process
):
    monkeypatch.setattr(report, "draw", lambda rows: Figure())
    command = ["-o", str(tmp_path), "--contenders", "phasevae", "--threads", "1"]
    command += ["--rows", "512", "--samples", "512,1024", "--set", "cascade"]
    benchmark.main(command)
    first = capsys.readouterr().out
    benchmark.main(command)
    second = capsys.readouterr().out
    rows = pd.read_csv(tmp_path / "runs" / "cascade-phasevae-ours-0.csv")
    assert rows["samples"].tolist() == [512, 1024]
    assert (rows["wall_seconds"] == rows["seconds"] + rows["startup_seconds"]).all()
    assert np.isfinite(rows["kl_rms"]).all()
    assert "torch, 1 threads" in first or "native_cpu, 1 threads" in first
    assert "kept, --again would run it again" in second


def test_runs_that_fail_are_named_when_the_others_have_ended(tmp_path, monkeypatch):
    codes = {"loop": 1, "phasevae": 0, "jax": benchmark.CANNOT_IMPORT}
    ended = []

    class Fake:
        def __init__(self, command: list[str], environment: dict[str, str]):
            self._name = command[command.index("--contenders") + 1].split(":")[0]

        def turn(self, seconds: float) -> int:
            ended.append(self._name)
            return codes[self._name]

    monkeypatch.setattr(turns, "Stoppable", Fake)
    arguments = benchmark.parse_arguments(["-o", str(tmp_path), "--contenders", "loop,phasevae,jax:usual"])
    with pytest.raises(InputError, match=r"ended early: loop \(usual\) with exit code 1; the runs"):
        benchmark.run_in_turns(benchmark.entries(arguments), arguments)
    assert ended == list(codes)


def test_throughput_counts_the_operations_and_compares_with_sgemm(monkeypatch, run):
    assert throughput.flops(run) == 6 * (5 * 7 + 7 * 6 + 6 * 4 + 2 * 6 + 6 * 7 + 7 * 5)
    antithetic = run.with_settings(antithetic=True)
    assert throughput.flops(antithetic) - throughput.flops(run) == 6 * (2 * 6 + 6 * 7 + 7 * 5)
    grouped = antithetic.with_settings(rao_blackwell_group=16)
    assert throughput.flops(grouped) - throughput.flops(antithetic) == 2 * 2 * (2 * 6 + 6 * 7 + 7 * 5)
    monkeypatch.setattr(throughput, "ARCHITECTURES", {"tiny": (5, (7, 6), 2)})
    monkeypatch.setattr(throughput, "SQUARES", (16,))
    monkeypatch.setattr(throughput.loop, "prepare", lambda run: {"workers": 0, "threads": 1})
    monkeypatch.setattr(throughput, "jax_ensemble", lambda threads: None)  # a minute to compile, where it is installed
    table = throughput.measure(models=2, threads=1, rows=512, seconds=0.02, rounds=1, beside=1)
    assert table["training"].tolist()[:3] == [
        "loop, batch 128",
        "phasevae, batch 128",
        "phasevae, batch 128, antithetic",
    ]
    assert table["over loop"].iloc[0] == 1
    np.testing.assert_allclose(table["share"] * table["sgemm of its layers"], table["GFLOP/s"])
    np.testing.assert_allclose(table["GFLOP/s"].iloc[0], table["model-samples/s"].iloc[0] * throughput.flops(run) / 1e9)
    assert table["training"].iloc[4] == f"{table['training'].iloc[3]}, in single operations"
    assert (table["beside 1"] > 0).all()
