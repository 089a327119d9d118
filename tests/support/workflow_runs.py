"""How the tests of the workflow run it: the real `snakemake` in a folder of its own, with the default profile."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import forked

ROOT = Path(__file__).parents[2]
SNAKEMAKE = [sys.executable, "-m", "snakemake"]


def snakemake(folder: Path, *arguments: str, root: Path = ROOT) -> subprocess.CompletedProcess:
    """Run the workflow of `root`, with the package that is there, in `folder` with the default profile; the result
    holds both streams in stdout."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(folder / "cache")}
    environment["PYTHONPATH"] = str(root)
    profile = root / "workflow" / "profiles" / "default"
    where = ["--snakefile", str(root / "Snakefile"), "--directory", str(folder), "--workflow-profile", str(profile)]
    command = [*arguments, *where, "--cores", "2"]
    return forked.run("snakemake.cli:main", *command, folder=folder, environment=environment, together=True)


def planned_jobs(output: str) -> dict[str, int]:
    """The last table of job counts of a dry run; empty when there is nothing to do."""
    if "Nothing to be done" in output:
        return {}
    table = output.rsplit("Job stats:", 1)[1].split("total", 1)[0]
    return {name: int(count) for name, count in re.findall(r"^(\w+) +(\d+)$", table, re.MULTILINE)}


def dry_run(folder: Path, *arguments: str, root: Path = ROOT) -> dict[str, int]:
    result = snakemake(folder, "--dry-run", *arguments, root=root)
    assert result.returncode == 0, result.stdout
    return planned_jobs(result.stdout)
