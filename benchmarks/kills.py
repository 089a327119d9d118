"""Do kills change results? Kill a small run of the workflow at random moments, let it finish, and compare every byte.

    python benchmarks/kills.py FOLDER --kills 100                           about an hour
    python benchmarks/kills.py FOLDER --kills 1                             about two minutes
    python benchmarks/kills.py FOLDER --kills 100 --at-most-seconds 3000    in parts

Each run is a process group, as under a batch system: Snakemake, its shells and the trainings get SIGKILL or SIGTERM
together. A third of the kills come at any moment, a third while models train, and a third while points are written.
If a run ends before it is killed, its results are compared, deleted and made again. FOLDER/kills.csv has all kills, so
the script itself can be stopped and started again. It ends with exit code 1 if a single byte of a result differs from
those of an undisturbed run (files about time are left out).
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from shared import child_environment, make_parser, snakemake_command

from phasevae.artifacts.tables import read_table, write_table

SNAKEMAKE = snakemake_command("results/small/fit.json", "--configfile", "small.yaml")
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
LONGEST = {"any": 12.0, "training": 3.0, "writing": 2.0}
"""The kill comes within this many seconds after the moment began."""
GRACE = 30.0
"""Seconds from SIGTERM to SIGKILL, as in SLURM. Snakemake (9.27) may need them: its handler of SIGTERM waits for a lock
that it holds itself while it records which jobs are done."""


def start(folder: Path) -> subprocess.Popen:
    """Start the workflow as a process group."""
    with (folder / "output.txt").open("a") as output:
        streams = {"stdout": output, "stderr": subprocess.STDOUT}
        return subprocess.Popen(SNAKEMAKE, cwd=folder, env=child_environment(1), start_new_session=True, **streams)


def prepare(folder: Path) -> None:
    """Make the folder of a run."""
    folder.mkdir(parents=True)
    (folder / "small.yaml").write_text(yaml.safe_dump(CONFIG))


def finish(folder: Path) -> None:
    """Run to the end without a kill."""
    unlock(folder)
    if start(folder).wait() != 0:
        raise SystemExit(f"the run in {folder} failed:\n" + (folder / "output.txt").read_text()[-3000:])


def unlock(folder: Path) -> None:
    """Do the same as `snakemake --unlock` after a kill that Snakemake could not notice, but faster."""
    shutil.rmtree(folder / ".snakemake" / "locks", ignore_errors=True)


def results(top: Path) -> dict[str, bytes]:
    """Bytes of every result in the folder of a data set, without files about time."""
    skipped = {"logs", "benchmarks", "checkpoints"}
    return {
        str(path.relative_to(top)): path.read_bytes()
        for path in top.rglob("*")
        if path.is_file() and "timing" not in path.name and not skipped & set(path.relative_to(top).parts)
    }


def compare(folder: Path, expected: dict[str, bytes]) -> None:
    """Exit with a message if the results differ from the expected ones, or if temporary files are left."""
    actual = results(folder / RESULTS)
    different = sorted(name for name in actual.keys() | expected.keys() if actual.get(name) != expected.get(name))
    if different:
        raise SystemExit(f"{len(different)} of {len(expected)} results differ: {', '.join(different)}")
    hidden = (folder / "results").rglob(".*")
    if left := [str(path) for path in hidden if "partial" in path.name or ".tmp" in path.name]:
        raise SystemExit(f"temporary files were left: {', '.join(left)}")


def progress(folder: Path) -> tuple[int, int]:
    """(points with all files, points with some)."""
    folders = [path for path in (folder / RESULTS / "points").glob("*") if any(path.iterdir())]
    complete = sum((path / "point.json").is_file() for path in folders)
    return complete, len(folders) - complete


def begun(moment: str, folder: Path) -> Callable[[], bool]:
    """Return the test whether the moment has begun: whether anything was trained, or written, since now."""
    if moment == "any":
        return lambda: True
    if moment == "writing":
        before = progress(folder)
        return lambda: progress(folder) != before
    checkpoints = folder / RESULTS / "checkpoints"
    before = write_times(checkpoints)
    return lambda: write_times(checkpoints) != before


def write_times(folder: Path) -> dict[str, int]:
    """When each complete file of a folder was written."""
    times = {}
    for path in folder.glob("[!.]*"):
        with contextlib.suppress(FileNotFoundError):
            times[path.name] = path.stat().st_mtime_ns
    return times


def kill(folder: Path, number: int, moment: str, delay: float) -> dict[str, Any] | None:
    """Start a run and kill it; return a row of kills.csv, or None if the run ended before.

    Parameters
    ----------
    folder : folder of the run
    number : signal
    moment : a key of `LONGEST`
    delay : seconds between the begin of the moment and the signal
    """
    unlock(folder)
    has_begun = begun(moment, folder)
    process = start(folder)
    while not has_begun():
        if process.poll() is not None:
            return None
        time.sleep(0.002)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=delay)
        return None
    complete, incomplete = progress(folder)
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
    return {
        "signal": name,
        "moment": moment,
        "after_seconds": delay,
        "points_written": complete,
        "points_in_progress": incomplete,
        "seconds_to_end": time.monotonic() - began,
    }


def restart_if_done(folder: Path, expected: dict[str, bytes]) -> None:
    """Compare the results of a run that has ended, and begin again."""
    if (folder / RESULTS / "fit.json").is_file():
        compare(folder, expected)
        shutil.rmtree(folder)
        prepare(folder)


def main() -> None:
    """Run the command line."""
    parser = make_parser(__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--at-most-seconds", type=float, default=float("inf"), help="Stop after this time.")
    arguments = parser.parse_args()
    undisturbed, disturbed = arguments.folder / "undisturbed", arguments.folder / "disturbed"
    path = arguments.folder / "kills.csv"
    began = time.monotonic()
    if not undisturbed.is_dir():
        prepare(undisturbed)
        finish(undisturbed)
    expected = results(undisturbed / RESULTS)
    if not disturbed.is_dir():
        prepare(disturbed)
    kills = read_table(path).to_dict("records") if path.is_file() else []
    while len(kills) < arguments.kills:
        if time.monotonic() - began > arguments.at_most_seconds:
            print(f"{len(kills)} kills so far; the same command continues")
            return
        moment = list(LONGEST)[len(kills) % len(LONGEST)]
        number = random.choice([signal.SIGKILL, signal.SIGTERM])
        row = kill(disturbed, number, moment, random.uniform(0, LONGEST[moment]))
        if row is None:
            restart_if_done(disturbed, expected)
            continue
        kills.append(row)
        write_table(path, pd.DataFrame(kills))
    finish(disturbed)
    compare(disturbed, expected)
    table = pd.DataFrame(kills)
    for (name, moment), count in table.groupby(["signal", "moment"]).size().items():
        print(f"{count:4} {name} ({moment})")
    print(f"{(table['points_in_progress'] > 0).sum():4} while a point had some of its files")
    seconds = table.loc[table["signal"] == "SIGTERM", "seconds_to_end"]
    if not seconds.empty:
        print(f"SIGTERM to the end of all processes: {seconds.max():.1f} s at most")
    print(f"all {len(expected)} files of results equal those of the undisturbed run")


if __name__ == "__main__":
    main()
