"""What a run leaves that was stopped or whose job has failed, and what the next run makes of it."""

from __future__ import annotations

import json
from pathlib import Path

from workflow_runs import Run, dry_run, snakemake

TABLE = "results/longer/sweep.csv"


def trained_longer(run: Run, times: int) -> list[str]:
    """The arguments of a run in which unconverged points are trained up to this many times."""
    arguments = run.configured()
    path = Path(arguments[-1])
    path.write_text(path.read_text().replace("extend_unconverged: 2", f"extend_unconverged: {times}"))
    return [TABLE, *arguments]


def budget(folder: Path) -> int:
    (record,) = folder.glob("results/longer/points/*/point.json")
    return json.loads(record.read_text())["extended"]


def test_a_job_that_failed_is_done_again_although_its_files_are_there(finished):
    arguments = trained_longer(finished, 4)
    assert budget(finished.folder) == 2
    checkpoints = finished.folder / "results/longer/checkpoints"
    checkpoints.rename(checkpoints.with_name("aside"))
    checkpoints.write_text("in the way")
    failed = snakemake(finished.folder, *arguments)
    assert failed.returncode != 0 and "checkpoints" in failed.stdout
    assert budget(finished.folder) == 2  # the earlier version
    checkpoints.unlink()
    assert dry_run(finished.folder, *arguments) == {"train_longer_0": 1, "collect": 1}
    assert snakemake(finished.folder, *arguments).returncode == 0
    assert budget(finished.folder) == 4
