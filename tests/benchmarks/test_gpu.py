"""benchmarks/gpu.py on machines without a GPU: it skips what needs one and reports what it ran."""

from __future__ import annotations

import json

import gpu
import pytest
import torch

TWO_STEPS = {architecture: 1.5 for architecture in gpu.ARCHITECTURES}


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        gpu.main(list(arguments))
    return ended.value.code


@pytest.mark.skipif(torch.cuda.is_available(), reason="is about machines without a GPU")
def test_without_a_gpu_the_rest_runs_and_is_reported(tmp_path):
    assert run("--out", str(tmp_path), "--dry", "--stages", "build,racecheck,sweep") == 0
    stages = json.loads((tmp_path / "gpu.json").read_text())["stages"]
    assert {name: stage["state"] for name, stage in stages.items()} == {
        "build": "skipped",
        "racecheck": "skipped",
        "sweep": "done",
    }
    assert "finds no CUDA device" in stages["build"]["result"]
    assert stages["sweep"]["result"]["float32"]["models"] == 2
    report = (tmp_path / "gpu.md").read_text()
    assert "DRY RUN" in report
    assert "| racecheck | skipped |" in report


def test_a_part_that_fails_is_reported_and_the_others_are_kept(tmp_path, monkeypatch):
    def part(stage: str, name: str, *_, **__) -> dict:
        if name == "tier:ii":
            raise RuntimeError("exit code 1: out of memory")
        return TWO_STEPS

    monkeypatch.setattr(gpu, "part", part)
    assert run("--out", str(tmp_path), "--dry", "--stages", "tiers") == 0
    report = (tmp_path / "gpu.md").read_text()
    assert "| i | DataLoader, one model after another | 1.50 | 1.50 |" in report
    assert "| ii | data on the GPU | exit code 1: out of memory |  |" in report


def test_the_tests_that_it_runs_exist():
    assert all((gpu.ROOT / path).is_file() for path in gpu.TESTS)


def test_it_tests_before_it_times_and_takes_ten_minutes_at_most(tmp_path, monkeypatch):
    done = []
    stages = {name: lambda arguments, name=name: done.append(name) or {} for name in gpu.STAGES}
    monkeypatch.setattr(gpu, "STAGES", stages)
    assert run("--out", str(tmp_path), "--stages", "sweep,tiers,tests,build") == 0
    assert done == ["build", "tests", "tiers", "sweep"]
    assert sum(gpu.LIMITS.values()) <= 600
    assert json.loads((tmp_path / "gpu.json").read_text())["versions"]["tf32"] is False


def test_an_unknown_stage_is_refused(tmp_path, capsys):
    assert run("--out", str(tmp_path), "--stages", "brew") == 2
    expected = "--stages: 'brew', must be some of: build, tests, memcheck, racecheck, tiers, sweep"
    assert expected in capsys.readouterr().err
