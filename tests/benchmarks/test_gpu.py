"""benchmarks/gpu.py where there may be no GPU: what cannot be done is skipped, what can is reported."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu.py"


def run(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, str(SCRIPT), *arguments], check=False, capture_output=True, text=True)


@pytest.mark.skipif(torch.cuda.is_available(), reason="is about machines without a GPU")
def test_without_a_gpu_the_rest_runs_and_is_reported(tmp_path):
    done = run("--out", str(tmp_path), "--dry", "--stages", "build,racecheck,sweep")
    assert done.returncode == 0, done.stdout + done.stderr
    stages = json.loads((tmp_path / "gpu.json").read_text())["stages"]
    assert {name: stage["state"] for name, stage in stages.items()} == {
        "build": "skipped",
        "racecheck": "skipped",
        "sweep": "done",
    }
    assert "finds no CUDA device" in stages["build"]["result"]
    assert stages["sweep"]["result"]["models"] == 2
    report = (tmp_path / "gpu.md").read_text()
    assert "DRY RUN" in report
    assert "| racecheck | skipped |" in report


def test_an_unknown_stage_is_refused(tmp_path):
    done = run("--out", str(tmp_path), "--stages", "brew")
    assert done.returncode == 2
    assert "--stages must be some of: build, tests, memcheck, racecheck, tiers, sweep" in done.stderr
