"""What a large sweep costs beside its training: planning by Snakemake, starting jobs, keeping and collecting points.

    python benchmarks/bookkeeping.py plan --points 100,500,2000,10000
    python benchmarks/bookkeeping.py run --points 2000 FOLDER

`plan` times `snakemake --dry-run` of sweeps of that many points, of which none is there yet. `run` makes a whole sweep
of the smallest models on one core, then asks again for what is there, and tells where the time went: training and
measuring as timing.csv has it, the jobs around them as Snakemake's benchmark files have it, and Snakemake itself as the
rest. Nothing else should run on the machine; where CPU time and time on the clock differ, something did.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import yaml

ROOT = Path(__file__).resolve().parents[1]
SNAKEMAKE = [
    *(sys.executable, "-m", "snakemake", "--configfile", "large.yaml", "--cores", "1"),
    *("--snakefile", str(ROOT / "Snakefile"), "--workflow-profile", str(ROOT / "workflow" / "profiles" / "default")),
]
POINTS_IN_A_BUCKET = 500
"""A job of half a minute: starting one costs four seconds, mostly for importing PyTorch."""


@dataclass(frozen=True)
class Seconds:
    """What a command took: CPU seconds of all its processes, and on the clock."""

    cpu: float
    wall: float

    def __str__(self) -> str:
        return f"{self.cpu:.1f} s CPU, {self.wall:.1f} s on the clock"


def prepare(folder: Path, n_points: int) -> None:
    """A sweep of the smallest models: few rows, few weights, few steps."""
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


def timed(command: list[str], folder: Path) -> Seconds:
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic() - start
    if result.returncode != 0:
        raise SystemExit(f"{' '.join(command)} failed:\n{(result.stdout + result.stderr)[-3000:]}")
    return Seconds(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall)


def plan(sizes: list[int]) -> None:
    print("points   dry run")
    for n_points in sizes:
        with tempfile.TemporaryDirectory() as name:
            prepare(Path(name), n_points)
            print(f"{n_points:6}   {timed([*SNAKEMAKE, '--dry-run', '--quiet'], Path(name))}", flush=True)


def run(folder: Path, n_points: int) -> None:
    prepare(folder, n_points)
    results = folder / "results" / "large"
    if (results / "sweep.csv").is_file():
        raise SystemExit(f"{results}: holds results already; give an empty folder")
    spent = timed([*SNAKEMAKE, "results/large/sweep.csv"], folder)
    timing = pd.read_csv(results / "timing.csv")
    computing = float((timing["train_seconds"] + timing["measure_seconds"]).sum())
    files = (results / "benchmarks").glob("*.tsv")
    benchmarks = {path.stem: float(pd.read_csv(path, sep="\t")["s"].iloc[0]) for path in files}
    training = {name: seconds for name, seconds in benchmarks.items() if name.startswith("train_")}
    around = sum(training.values()) - computing
    snakemake = spent.wall - sum(benchmarks.values())
    rows = [
        ("the whole run", spent.wall),
        ("training and measuring", computing),
        (f"the rest of {len(training)} training jobs: start, data, checkpoints, points", around),
        ("collecting all points", benchmarks["collect"]),
        (f"Snakemake for {len(benchmarks)} jobs", snakemake),
    ]
    for words, seconds in rows:
        print(f"{seconds:9.1f} s  {seconds / n_points:8.4f} s a point  {words}")
    bookkeeping = around + benchmarks["collect"] + benchmarks["plan"] + snakemake
    print(f"bookkeeping: {bookkeeping / n_points:.4f} s a point")
    print(f"whole run: {spent}")
    print(f"asking again, with nothing to do: {timed([*SNAKEMAKE, 'results/large/sweep.csv'], folder)}")
    for verb in ("plan --config large.yaml --dataset large -o plan.csv", "collect results/large/points -o all.csv"):
        command = [str(Path(sys.executable).with_name("phasevae")), *verb.split()]
        print(f"phasevae {verb}: {timed(command, folder)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    planning, running = verbs.add_parser("plan"), verbs.add_parser("run")
    planning.add_argument("--points", default="100,500,2000,10000")
    running.add_argument("folder", type=Path)
    running.add_argument("--points", type=int, default=2000)
    arguments = parser.parse_args()
    if arguments.verb == "plan":
        plan([int(size) for size in arguments.points.split(",")])
    else:
        run(arguments.folder, arguments.points)


if __name__ == "__main__":
    main()
