"""How the tests of the workflow run it: the real `snakemake` in a folder of its own, with the default profile."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import forked
import yaml

ROOT = Path(__file__).parents[2]
SNAKEMAKE = [sys.executable, "-m", "snakemake"]


def snakemake(folder: Path, *arguments: str, root: Path = ROOT) -> subprocess.CompletedProcess:
    """Run the workflow of `root`, with the package in it, in `folder` with the default profile.

    The `phasevae` of its jobs is a function of the shell that starts the command with its libraries imported. The
    result holds both streams in stdout.
    """
    environment = os.environ | {"OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(folder / "cache")}
    environment["PYTHONPATH"] = str(root)
    environment["BASH_FUNC_phasevae%%"] = f'() {{ {forked.command("phasevae.cli.main:main")} "$@"; }}'
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


TINY = {
    "kind": "synthetic",
    "eigenvalues": [4.0, 2.0, 1.0, 0.5],
    "n_samples": 500,
    "n_latent": 2,
    "hidden": [8],
    "sigma2": [1.0, 3.5, 5.0],  # two points fall in bucket 0, one in bucket 1
    "samples": 2000,
    "batch": 64,
    "n_buckets": 2,
}
LONGER = TINY | {"n_samples": 200, "sigma2": [1.0], "n_buckets": 1, "extend_unconverged": 2}
BROKEN = {"kind": "array", "path": "broken.csv", "n_latent": 1, "sigma2": [1.0], "n_buckets": 1}


class Run(NamedTuple):
    """A finished run of the data sets `tiny`, `longer` (its table alone) and `broken`."""

    folder: Path
    status: int | None = None
    output: str = ""

    def configured(self, run: tuple[str, ...] = ("tiny",), **changes) -> list[str]:
        """Write the configuration with changes to the data set `tiny`; return the arguments that name it."""
        (self.folder / "broken.csv").write_text("a,b\n1\n")
        path = self.folder / "tiny.yaml"
        datasets = {"tiny": TINY | changes, "longer": LONGER, "broken": BROKEN}
        path.write_text(yaml.safe_dump({"run": list(run), "train_threads": 1, "datasets": datasets}))
        return ["--configfile", str(path)]
