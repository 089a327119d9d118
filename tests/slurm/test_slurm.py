"""The workflow through a real SLURM, with a job that is cancelled while it runs.

Only `make test-slurm` runs this, and it starts a SLURM of its own, so that no test submits to a user's cluster.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from pathlib import Path

import pytest
import yaml
from kills import results
from workflow_runs import ROOT, SNAKEMAKE, snakemake

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif("PHASEVAE_TEST_SLURM" not in os.environ, reason="needs a SLURM of its own: make test-slurm"),
]

CONFIG = {
    "run": ["tiny"],
    "train_threads": 1,
    "device": "cpu",
    # The node has no GPU to compute with, but the request for a GPU and its scheduling can be tested.
    "cluster": {"jobs": {"slurm_partition": "main"}, "training": {"slurm_partition": "gpu", "gpu": 1}},
    "datasets": {
        "tiny": {
            "kind": "synthetic",
            "eigenvalues": [4.0, 2.0, 1.0, 0.5],
            "n_samples": 2000,
            "n_latent": 2,
            "hidden": [16],
            "sigma2": [1.0, 3.5, 5.0],  # two points fall in bucket 0, one in bucket 1
            "samples": 1_000_000,
            "batch": 256,
            "n_buckets": 2,
        }
    },
}
TARGET = "results/tiny/fit.json"
TRAINING_LOG = Path("results/tiny/logs/train_0.log")
SLURM_OPTIONS = [
    *("--workflow-profile", str(ROOT / "workflow" / "profiles" / "slurm")),
    *("--slurm-status-command", "squeue", "--slurm-no-account", "--slurm-init-seconds-before-status-checks", "2"),
    *("--latency-wait", "5"),
]


def write_config(folder: Path) -> str:
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(CONFIG))
    return str(path)


def squeue(*columns: str) -> list[list[str]]:
    """All jobs, also those that ended; one list of the columns a job."""
    options = [f"--Format={','.join(f'{column}:|' for column in columns)}", "--states=all", "--noheader"]
    output = subprocess.run(["squeue", *options], check=True, capture_output=True, text=True).stdout
    return sorted([field.strip() for field in line.split("|")[:-1]] for line in output.splitlines())


def jobs_of(rule: str) -> list[list[str]]:
    """[id, state, memory, partition, GPUs] of the jobs of a rule or group, in the order they were submitted."""
    columns = ("JobID", "State", "MinMemory", "Partition", "tres-per-job", "Comment")
    return [fields[:-1] for fields in squeue(*columns) if rule in fields[-1]]


def wait_for_training(log: Path, process: subprocess.Popen) -> int:
    """Wait until a training reports its progress; return its step."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and process.poll() is None:
        if log.is_file() and (match := re.search(r"models?: step (\d+)/", log.read_text())):
            return int(match[1])
        time.sleep(0.05)
    raise AssertionError(f"no training was seen in {log}")


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[Path, str]:
    """(folder, output) of the run through SLURM, in which the first training job was cancelled."""
    folder = tmp_path_factory.mktemp("slurm")
    command = [*SNAKEMAKE, TARGET, "--snakefile", str(ROOT / "Snakefile"), "--configfile", write_config(folder)]
    with (folder / "output.txt").open("w") as output:
        process = subprocess.Popen([*command, *SLURM_OPTIONS], cwd=folder, stdout=output, stderr=subprocess.STDOUT)
        try:
            wait_for_training(folder / TRAINING_LOG, process)
            ((job, *_),) = jobs_of("rule_train_tiny_0")
            subprocess.run(["scancel", job], check=True)
            process.wait(timeout=240)
        finally:
            process.terminate()
            process.wait()
    text = (folder / "output.txt").read_text()
    assert process.returncode == 0, text
    return folder, text


def test_a_cancelled_job_runs_again_from_its_checkpoint_with_more_memory(finished):
    folder, output = finished
    first, second = jobs_of("rule_train_tiny_0")
    assert [first[1], second[1]] == ["CANCELLED", "COMPLETED"]
    once, twice = (int(job[2].rstrip("M")) for job in (first, second))
    assert twice in (2 * once - 1, 2 * once), "both are rounded up"
    assert "Trying to restart job" in output
    match = re.search(r"2 models continue at step (\d+)", (folder / TRAINING_LOG).read_text())
    assert match is not None, (folder / TRAINING_LOG).read_text()
    assert 0 < int(match[1]) < 3907


def test_training_jobs_have_their_own_partition_and_gpu(finished):
    assert [job[3:] for job in jobs_of("rule_train_tiny_1")] == [["gpu", "gres:gpu:1"]]
    assert [job[3] for job in jobs_of("rule_tables_")] == ["main"]


def test_short_jobs_share_one(finished):
    """Data and spectrum, table and fit are four rules in two jobs; the other three jobs are trainings."""
    assert len(jobs_of("rule_data_")) == len(jobs_of("rule_tables_")) == 1
    assert len(jobs_of("")) == 5


def test_the_numbers_are_those_of_a_local_run(finished, tmp_path):
    result = snakemake(tmp_path, TARGET, "--configfile", write_config(tmp_path))
    assert result.returncode == 0, result.stdout
    assert results(finished[0] / "results" / "tiny") == results(tmp_path / "results" / "tiny")
