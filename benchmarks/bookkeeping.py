"""What does a large sweep cost in addition to its training: planning, starting jobs, storing and collecting points?

    python benchmarks/bookkeeping.py plan --points 100,500,2000,10000    about two minutes
    python benchmarks/bookkeeping.py run --points 2000 FOLDER            about ten minutes
    python benchmarks/bookkeeping.py run --points 20 FOLDER              half a minute, a quick look

`plan` times `snakemake --dry-run` of sweeps of this many points, none of which exists. `run` makes a whole sweep of the
smallest models on one core in FOLDER, which must be empty, and then the same command again with nothing left to do. It
prints where the time went: training and measuring by timing.csv, the rest of the jobs by Snakemake's benchmark files,
and the remainder, which is Snakemake itself. Nothing else should run on the machine; if CPU time and wall time differ,
something did.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import yaml
from shared import child_environment, make_parser, numbers, snakemake_command

from phasevae.artifacts.tables import read_table

SNAKEMAKE = snakemake_command("--configfile", "large.yaml")
TARGET = "results/large/sweep.csv"
POINTS_IN_A_BUCKET = 500
"""A job of half a minute: starting a job takes four seconds, mostly for importing PyTorch."""


def prepare(folder: Path, n_points: int) -> None:
    """Configure a sweep of the smallest models: few rows, few weights, few steps."""
    settings = {
        "kind": "synthetic",
        "eigenvalues": [2.0, 1.0],
        "n_samples": 64,
        "n_latent": 1,
        "hidden": [2],
        "sigma2": [round(0.5 + 2 * i / n_points, 6) for i in range(n_points)],
        "samples": 640,
        "batch": 64,
        "n_buckets": max(1, n_points // POINTS_IN_A_BUCKET),
    }
    folder.mkdir(parents=True, exist_ok=True)
    config = {"train_threads": 1, "device": "cpu", "datasets": {"large": settings}}
    (folder / "large.yaml").write_text(yaml.safe_dump(config))


def timed(command: list[str], folder: Path) -> tuple[float, str]:
    """Run a command in a folder; return its wall seconds, and a text with CPU and wall seconds."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    result = subprocess.run(command, cwd=folder, env=child_environment(), capture_output=True, text=True, check=False)
    after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic() - start
    if result.returncode != 0:
        raise SystemExit(f"{' '.join(command)} failed:\n{(result.stdout + result.stderr)[-3000:]}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, f"{cpu:.1f} s CPU, {wall:.1f} s wall time"


def plan(sizes: list[int]) -> None:
    """Time dry runs."""
    print("points   dry run")
    for n_points in sizes:
        with tempfile.TemporaryDirectory() as name:
            prepare(Path(name), n_points)
            print(f"{n_points:6}   {timed([*SNAKEMAKE, '--dry-run', '--quiet'], Path(name))[1]}", flush=True)


def run(folder: Path, n_points: int) -> None:
    """Make a sweep of `n_points` in an empty folder and print where the time went."""
    prepare(folder, n_points)
    results = folder / "results" / "large"
    if (results / "sweep.csv").is_file():
        raise SystemExit(f"{results}: holds results already; give an empty folder")
    wall, whole_run = timed([*SNAKEMAKE, TARGET], folder)
    timing = read_table(results / "timing.csv")
    computing = float((timing["train_seconds"] + timing["measure_seconds"]).sum())
    files = (results / "benchmarks").glob("*.tsv")
    jobs = {path.stem: float(pd.read_csv(path, sep="\t")["s"].iloc[0]) for path in files}
    training = [seconds for name, seconds in jobs.items() if name.startswith("train_")]
    around = sum(training) - computing
    snakemake = wall - sum(jobs.values())
    rows = [
        ("the whole run", wall),
        ("training and measuring", computing),
        (f"the rest of {len(training)} training jobs: start, data, checkpoints, points", around),
        ("collecting all points", jobs["collect"]),
        (f"Snakemake for {len(jobs)} jobs", snakemake),
    ]
    for name, seconds in rows:
        print(f"{seconds:9.1f} s  {seconds / n_points:8.4f} s per point  {name}")
    bookkeeping = around + jobs["collect"] + jobs["plan"] + snakemake
    print(f"bookkeeping: {bookkeeping / n_points:.4f} s per point")
    print(f"whole run: {whole_run}")
    print(f"again, with nothing to do: {timed([*SNAKEMAKE, TARGET], folder)[1]}")
    for verb in ("plan --config large.yaml --dataset large -o plan.csv", "collect results/large/points -o all.csv"):
        command = [str(Path(sys.executable).with_name("phasevae")), *verb.split()]
        print(f"phasevae {verb}: {timed(command, folder)[1]}")


def main() -> None:
    """Run the command line."""
    parser = make_parser(__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    planning, running = verbs.add_parser("plan"), verbs.add_parser("run")
    planning.add_argument("--points", type=numbers(int), default="100,500,2000,10000")
    running.add_argument("folder", type=Path)
    running.add_argument("--points", type=int, default=2000)
    arguments = parser.parse_args()
    if arguments.verb == "plan":
        plan(arguments.points)
    else:
        run(arguments.folder, arguments.points)


if __name__ == "__main__":
    main()
