"""Kill a small run of the workflow at random moments, let it finish, and compare every number with an undisturbed one.

    python benchmarks/kills.py FOLDER --kills 100

Each run is a whole process group, as a batch system ends it: Snakemake, its shells and the trainings get SIGKILL or
SIGTERM together. A third of the kills come at any moment, a third while models train, and a third while points are
being written. When a run gets through before it is killed, its results are compared, thrown away and made again.
The kills are written down in FOLDER/kills.csv, so that the script itself may be stopped and started again; it ends
with exit code 1 when a single byte of a result differs (files about time are left out).
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
SNAKEMAKE = [
    *(sys.executable, "-m", "snakemake", "results/small/fit.json", "--configfile", "small.yaml", "--cores", "1"),
    *("--snakefile", str(ROOT / "Snakefile"), "--workflow-profile", str(ROOT / "workflow" / "profiles" / "default")),
]
CONFIG = {
    "train_threads": 1,
    "device": "cpu",
    "checkpoint_seconds": 0.3,
    "datasets": {
        "small": {
            "kind": "synthetic",
            "eigenvalues": [4.0, 2.0, 1.0, 0.5],
            "n_samples": 4000,
            "n_latent": 2,
            "hidden": [16],
            "sigma2": [0.5, 0.8, 1.2, 1.6, 2.0, 2.4, 2.8, 3.2, 3.5, 3.8, 4.2, 5.0],
            "samples": 200_000,
            "batch": 128,
            "n_buckets": 2,
        }
    },
}
RESULTS = Path("results") / "small"
COLUMNS = ["signal", "moment", "after_seconds", "points_written", "points_in_progress", "seconds_to_end"]
LONGEST = {"any": 12.0, "training": 3.0, "writing": 2.0}
"""Seconds after the moment began, within which the kill comes."""
GRACE = 30.0
"""Seconds from SIGTERM to SIGKILL, as in SLURM. Snakemake (9.27) itself may need it: its handler of SIGTERM waits for a
lock that it holds itself while it writes down which jobs are done."""


def start(folder: Path) -> subprocess.Popen:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with (folder / "output.txt").open("a") as output:
        return subprocess.Popen(
            SNAKEMAKE, cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )


def prepare(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "small.yaml").write_text(yaml.safe_dump(CONFIG))


def finish(folder: Path) -> None:
    """Run to the end, undisturbed."""
    unlock(folder)
    if start(folder).wait() != 0:
        raise SystemExit(f"the run in {folder} failed:\n" + (folder / "output.txt").read_text()[-3000:])


def unlock(folder: Path) -> None:
    """What a user does by `snakemake --unlock` after a kill that Snakemake could not notice, without its start."""
    shutil.rmtree(folder / ".snakemake" / "locks", ignore_errors=True)


def results(top: Path) -> dict[str, bytes]:
    """Bytes of every result of a data set's folder but those about time."""
    skipped = {"logs", "benchmarks", "checkpoints"}
    return {
        str(path.relative_to(top)): path.read_bytes()
        for path in top.rglob("*")
        if path.is_file() and "timing" not in path.name and not skipped & set(path.relative_to(top).parts)
    }


def differing(folder: Path, expected: dict[str, bytes]) -> list[str]:
    found = results(folder / RESULTS)
    return sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))


def partials(folder: Path) -> list[str]:
    """Temporary files that nobody will ever use again."""
    return [str(path) for path in (folder / "results").rglob(".*") if "partial" in path.name or ".tmp" in path.name]


def progress(folder: Path) -> tuple[int, int]:
    """(points with all files, points with some)."""
    folders = [path for path in (folder / RESULTS / "points").glob("*") if any(path.iterdir())]
    whole = sum((path / "point.json").is_file() for path in folders)
    return whole, len(folders) - whole


def begun(moment: str, folder: Path) -> Callable[[], bool]:
    """Whether the moment has come: something new was trained, or written, since now."""
    if moment == "any":
        return lambda: True
    if moment == "writing":
        before = progress(folder)
        return lambda: progress(folder) != before
    checkpoints = folder / RESULTS / "checkpoints"
    before = written(checkpoints)
    return lambda: written(checkpoints) != before


def written(folder: Path) -> dict[str, int]:
    """When each file of a folder was written, but for those that are being written or come to an end now."""
    found = {}
    for path in folder.glob("[!.]*"):
        with contextlib.suppress(FileNotFoundError):
            found[path.name] = path.stat().st_mtime_ns
    return found


def kill(folder: Path, number: int, moment: str, delay: float) -> dict | None:
    """Start a run and kill it `delay` seconds after the moment has come; None when it got through before."""
    unlock(folder)
    has_come = begun(moment, folder)
    process = start(folder)
    while not has_come():
        if process.poll() is not None:
            return None
        time.sleep(0.002)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=delay)
        return None
    whole, started = progress(folder)
    began = time.monotonic()
    os.killpg(process.pid, number)
    name = signal.Signals(number).name
    try:
        process.wait(timeout=GRACE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        name += " and SIGKILL"
    with contextlib.suppress(ProcessLookupError):
        while time.monotonic() - began < 60:  # the trainings may live a little longer than Snakemake
            os.killpg(process.pid, 0)
            time.sleep(0.01)
    values = [name, moment, delay, whole, started, time.monotonic() - began]
    return dict(zip(COLUMNS, values, strict=True))


def restart_if_done(folder: Path, expected: dict[str, bytes]) -> None:
    """Compare the results of a run that got through, and begin again."""
    if (folder / RESULTS / "fit.json").is_file():
        compare(folder, expected)
        shutil.rmtree(folder)
        prepare(folder)


def compare(folder: Path, expected: dict[str, bytes]) -> None:
    wrong = differing(folder, expected)
    if wrong:
        raise SystemExit(f"{len(wrong)} of {len(expected)} results differ: {', '.join(wrong)}")
    if left := partials(folder):
        raise SystemExit(f"temporary files were left: {', '.join(left)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--at-most-seconds", type=float, default=float("inf"), help="Stop after this time.")
    arguments = parser.parse_args()
    undisturbed, disturbed = arguments.folder / "undisturbed", arguments.folder / "disturbed"
    table = arguments.folder / "kills.csv"
    began = time.monotonic()
    if not undisturbed.is_dir():
        prepare(undisturbed)
        finish(undisturbed)
    expected = results(undisturbed / RESULTS)
    if not disturbed.is_dir():
        prepare(disturbed)
    kills = list(csv.DictReader(table.open())) if table.is_file() else []
    while len(kills) < arguments.kills:
        if time.monotonic() - began > arguments.at_most_seconds:
            print(f"{len(kills)} kills so far; start again to go on")
            return
        moment = list(LONGEST)[len(kills) % len(LONGEST)]
        number = random.choice([signal.SIGKILL, signal.SIGTERM])
        found = kill(disturbed, number, moment, random.uniform(0, LONGEST[moment]))
        if found is None:
            restart_if_done(disturbed, expected)
            continue
        kills.append(found)
        with table.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, COLUMNS)
            writer.writeheader()
            writer.writerows(kills)
    finish(disturbed)
    compare(disturbed, expected)
    counts = Counter((row["signal"], row["moment"]) for row in kills)
    slowest = max(float(row["seconds_to_end"]) for row in kills if row["signal"] == "SIGTERM")
    for (name, moment), count in sorted(counts.items()):
        print(f"{count:4} {name} ({moment})")
    print(f"{sum(int(row['points_in_progress']) > 0 for row in kills):4} while a point had some of its files")
    print(f"SIGTERM to the end of all processes: {slowest:.1f} s at most")
    print(f"all {len(expected)} files of results equal those of the undisturbed run")


if __name__ == "__main__":
    main()
