"""Do kills change results? Kill small runs of the workflow in many ways, let them finish, and compare every byte.

    python benchmarks/kills.py FOLDER --series 10 --kills 10                    a hundred kills, about an hour
    python benchmarks/kills.py FOLDER --series 1 --kills 1                      about three minutes
    python benchmarks/kills.py FOLDER --at-most-seconds 3000                    in parts

Each series is a run of its own, which is killed again and again and then finishes. The kills take turns: the whole
process group, as under a batch system; Snakemake alone, so that its training goes on for a moment beside the next run,
which starts at once; the training alone; and two runs in the same folder at once (Snakemake's own lock is off), which
are killed one after the other. A kill comes at any moment, while models train, or while a file is being written.
If a run ends before it is killed, its results are compared, deleted and made again. FOLDER/kills.csv has all kills, so
the script itself can be stopped and started again. It ends with exit code 1 if a single byte of a result differs from
those of an undisturbed run (files about time are left out), or if a process does not end in time.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import yaml
from shared import child_environment, make_parser, snakemake_command

from phasevae.artifacts.tables import read_table, write_table

CONFIG = {
    "train_threads": 1,
    "device": "cpu",
    "checkpoint_seconds": 0.1,
    "run": ["small"],
    "datasets": {
        "small": {
            "kind": "synthetic",
            "eigenvalues": [2.0, 1.0, 0.5],
            "n_samples": 1000,
            "seed": 3,
            "n_latent": 2,
            "hidden": [16, 8],
            "sigma2": [0.6, 1.2, 1.9, 2.4],
            "seeds": [0],
            "samples": 40_000,
            "batch": 64,
            "n_buckets": 1,
            "extend_unconverged": 2,
            "bracket": True,
            "refine": True,
            "hysteresis_ratio": [0.7, 1.1, 1.3],
        }
    },
}
RESULTS = Path("results") / "small"
TARGETS = ("fit.json", "dimensions.csv", "histories.csv", "hysteresis.csv", "bracketing.csv", "bracketing.json")
SNAKEMAKE = snakemake_command(*(str(RESULTS / name) for name in TARGETS), "--configfile", "small.yaml")
VICTIMS = ("group", "Snakemake", "training", "both of two")
LONGEST = {"any": 20.0, "training": 3.0, "writing": 0.05}
"""The kill comes within this many seconds after the moment began."""
PATIENCE = 600.0
"""A process that has been killed ends within this many seconds. Snakemake first finishes what needs no killed job."""


def start(folder: Path, *arguments: str) -> subprocess.Popen:
    """Start the workflow as a process group."""
    with (folder / "output.txt").open("a") as output:
        streams = {"stdout": output, "stderr": subprocess.STDOUT}
        command = [*SNAKEMAKE, *arguments]
        return subprocess.Popen(command, cwd=folder, env=child_environment(1), start_new_session=True, **streams)


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
        raise SystemExit(f"{folder}: {len(different)} of {len(expected)} results differ: {', '.join(different)}")
    hidden = (folder / "results").rglob(".*")
    if left := [str(path) for path in hidden if "partial" in path.name or ".tmp" in path.name]:
        raise SystemExit(f"temporary files were left: {', '.join(left)}")


def progress(folder: Path) -> tuple[int, int]:
    """(points with all files, points with some)."""
    folders = [path for path in (folder / RESULTS).rglob("sigma2=*") if any(path.iterdir())]
    complete = sum((path / "point.json").is_file() for path in folders)
    return complete, len(folders) - complete


def begun(moment: str, folder: Path) -> Callable[[], bool]:
    """Return the test whether the moment has begun: whether anything was trained since now, or is being written."""
    if moment == "any":
        return lambda: True
    if moment == "writing":
        return lambda: any("partial" in path.name for path in _files(folder / RESULTS))
    checkpoints = [folder / RESULTS / part / "checkpoints" for part in ("", "second")]
    before = [write_times(path) for path in checkpoints]
    return lambda: [write_times(path) for path in checkpoints] != before


def _files(folder: Path) -> Iterator[Path]:
    """All files of a folder that changes."""
    with contextlib.suppress(FileNotFoundError):
        yield from folder.rglob(".*")


def write_times(folder: Path) -> dict[str, int]:
    """When each complete file of a folder was written."""
    times = {}
    for path in folder.glob("[!.]*"):
        with contextlib.suppress(FileNotFoundError):
            times[path.name] = path.stat().st_mtime_ns
    return times


def trainings(folder: Path) -> list[psutil.Process]:
    """The processes that train in the folder of a run, also those whose Snakemake is gone."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if {"train", "hysteresis"} & set(process.cmdline()[1:4]) and Path(process.cwd()) == folder:
                found.append(process)
    return found


def wait_for_moment(folder: Path, moment: str, delay: float, process: subprocess.Popen) -> bool:
    """Wait until some time after a moment has begun; return whether the process is still running then."""
    has_begun = begun(moment, folder)
    while not has_begun():
        if process.poll() is not None:
            return False
        time.sleep(0.001)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=delay)
    return process.poll() is None


def end_of(processes: list[subprocess.Popen], what: str) -> None:
    """Wait for processes to end; exit with a message if one does not in time."""
    deadline = time.monotonic() + PATIENCE
    for process in processes:
        try:
            process.wait(timeout=max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGABRT)
            raise SystemExit(f"{process.args[-1]}: has not ended within {PATIENCE:.0f} s after {what}") from None


def group_ends(process: subprocess.Popen) -> None:
    """Wait until no process of a group is left, such as a training that lives a little longer than Snakemake."""
    deadline = time.monotonic() + PATIENCE
    with contextlib.suppress(ProcessLookupError):
        while time.monotonic() < deadline:
            os.killpg(process.pid, 0)
            time.sleep(0.01)
        raise SystemExit(f"processes of {process.pid} have not ended within {PATIENCE:.0f} s")


def kill(folder: Path, victim: str, number: int, moment: str, delay: float) -> dict[str, Any] | None:
    """Start a run and kill it; return a row of kills.csv, or None if the run ended before.

    Parameters
    ----------
    folder : folder of the run
    victim : one of `VICTIMS`
    number : signal
    moment : a key of `LONGEST`
    delay : seconds between the begin of the moment and the signal
    """
    unlock(folder)
    orphans = len(trainings(folder))
    runs = [start(folder)]
    if victim == "both of two":
        runs.append(start(folder, "--nolock"))
    if not wait_for_moment(folder, moment, delay, runs[0]):
        end_of(runs, "the other run")
        return None
    complete, incomplete = progress(folder)
    began = time.monotonic()
    name = signal.Signals(number).name
    if victim in ("group", "both of two"):
        os.killpg(runs[0].pid, number)
        end_of(runs[:1], name)
        group_ends(runs[0])
        with contextlib.suppress(subprocess.TimeoutExpired):  # it may fail: files were taken away from it
            runs[-1].wait(timeout=LONGEST["any"])
        with contextlib.suppress(ProcessLookupError):
            os.killpg(runs[-1].pid, number)
        end_of(runs[1:], name)
        group_ends(runs[-1])
    elif victim == "Snakemake":
        runs[0].send_signal(number)
        end_of(runs, name)  # its training may go on
    else:
        for process in trainings(folder):
            process.send_signal(number)
        end_of(runs, f"{name} to its training")
        group_ends(runs[0])
    return {
        "victim": victim,
        "signal": name,
        "moment": moment,
        "after_seconds": delay,
        "points_written": complete,
        "points_in_progress": incomplete,
        "orphans_at_start": orphans,
        "seconds_to_end": time.monotonic() - began,
    }


def restart_if_done(folder: Path, expected: dict[str, bytes]) -> None:
    """Compare the results of a run that has ended, and begin again."""
    if all((folder / RESULTS / name).is_file() for name in TARGETS):
        finish(folder)
        compare(folder, expected)
        shutil.rmtree(folder)
        prepare(folder)


def run_series(folder: Path, number: int, count: int, kills: list[dict[str, Any]], path: Path) -> None:
    """Kill the run of a series until there are `count` kills, and let it finish."""
    expected = results(path.parent / "undisturbed" / RESULTS)
    if not folder.is_dir():
        prepare(folder)
    turns = itertools.product((signal.SIGKILL, signal.SIGTERM), VICTIMS, LONGEST)
    # Each series begins elsewhere among the ways to kill.
    turns = itertools.islice(
        itertools.cycle(random.Random(number).sample(list(turns), 24)), sum_of(kills, number), None
    )
    while sum_of(kills, number) < count:
        signal_number, victim, moment = next(turns)
        row = kill(folder, victim, signal_number, moment, random.uniform(0, LONGEST[moment]))
        if row is None:
            restart_if_done(folder, expected)
            continue
        kills.append({"series": number, **row})
        write_table(path, pd.DataFrame(kills))
        print(", ".join(f"{key} {value}" for key, value in kills[-1].items()), flush=True)
    finish(folder)
    compare(folder, expected)
    print(f"series {number}: all {len(expected)} files of results equal those of the undisturbed run", flush=True)


def sum_of(kills: list[dict[str, Any]], number: int) -> int:
    """The number of kills of a series."""
    return sum(row["series"] == number for row in kills)


def main() -> None:
    """Run the command line."""
    parser = make_parser(__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--series", type=int, default=10)
    parser.add_argument("--kills", type=int, default=10, help="Kills of each series.")
    parser.add_argument("--at-most-seconds", type=float, default=float("inf"), help="Begin no series after this time.")
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    path = folder / "kills.csv"
    began = time.monotonic()
    if not (folder / "undisturbed" / RESULTS / TARGETS[-1]).is_file():
        shutil.rmtree(folder / "undisturbed", ignore_errors=True)
        prepare(folder / "undisturbed")
        finish(folder / "undisturbed")
        print(f"undisturbed: {time.monotonic() - began:.0f} s", flush=True)
    kills = read_table(path).to_dict("records") if path.is_file() else []
    for number in range(arguments.series):
        if time.monotonic() - began > arguments.at_most_seconds:
            print(f"{len(kills)} kills so far; the same command continues")
            return
        run_series(folder / f"series_{number}", number, arguments.kills, kills, path)
    table = pd.DataFrame(kills)
    for key, count in table.groupby(["victim", "signal", "moment"]).size().items():
        print(f"{count:4} {', '.join(key)}")
    print(f"{(table['points_in_progress'] > 0).sum():4} while a point had some of its files")
    print(f"{(table['orphans_at_start'] > 0).sum():4} beside a training whose Snakemake had been killed")
    print(f"from the signal to the end of all processes: {table['seconds_to_end'].max():.1f} s at most")


if __name__ == "__main__":
    main()
