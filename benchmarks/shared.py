"""What the benchmarks share: the paper's data set, command-line types, timing, child processes and Markdown tables."""

from __future__ import annotations

import argparse
import os
import platform
import re
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from phasevae.spectrum.spectrum import Spectrum

ROOT = Path(__file__).resolve().parents[1]
# The benchmarks also run from a checkout whose package is not installed.
sys.path.insert(0, str(ROOT))

ARCHITECTURES = {"8-256-128, n=4": (8, (256, 128), 4), "64-512-256, n=16": (64, (512, 256), 16)}
"""Dimension, hidden widths and number of latents of the paper's two networks."""

Steps = Callable[[int], object]
"""A function of the number of steps to do."""


class Problem(NamedTuple):
    """A Gaussian data set, and decoder variances at which probabilistic PCA is the exact optimum."""

    eigenvalues: tuple[float, ...]
    n_latent: int
    sigma2: tuple[float, ...]


def paper_problem() -> Problem:
    """Return the synthetic data set of config.yaml, with its decoder variances between 0.68 and 1.08."""
    from phasevae.config import dataset_settings
    from phasevae.theory.ppca import ppca_exact_above

    settings = dataset_settings([ROOT / "config.yaml"], "gaussian")
    eigenvalues, n_latent = settings["eigenvalues"], settings["n_latent"]
    exact_above = ppca_exact_above(eigenvalues, n_latent)
    # Far above the transition every model has collapsed, which tests nothing.
    sigma2 = [value for value in settings["sigma2"] if exact_above <= value <= 1.1 * eigenvalues[0]]
    return Problem(tuple(eigenvalues), n_latent, tuple(sigma2))


def gaussian_spectrum(eigenvalues: Sequence[float], n_samples: int = 256_000) -> Spectrum:
    """The spectrum of Gaussian data whose eigenvalues are known exactly, descending."""
    from phasevae.spectrum.spectrum import Spectrum

    values = np.array(eigenvalues, dtype=float)
    zeros = np.zeros_like(values)
    return Spectrum(values, zeros, float(values.sum()), n_samples, float(values[0]), zeros, zeros)


def make_parser(description: str) -> argparse.ArgumentParser:
    """A parser whose help shows the description as it is written."""
    return argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)


def numbers(kind: type = float) -> Callable[[str], list]:
    """An argparse type: numbers with commas between."""

    def parse(text: str) -> list:
        try:
            return [kind(part) for part in text.split(",")]
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r}, must be numbers with commas between, such as 4,2,1") from None

    return parse


def some_of(allowed: Iterable[str]) -> Callable[[str], list[str]]:
    """An argparse type: names with commas between, each of them allowed."""

    def parse(text: str) -> list[str]:
        names = text.split(",")
        if unknown := [name for name in names if name not in allowed]:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)!r}, must be some of: {', '.join(allowed)}")
        return names

    return parse


def processor_name() -> str:
    """The processor as it names itself, or its architecture where Linux does not say."""
    try:
        names = re.findall(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.M)
    except OSError:
        names = []
    return names[0] if names else platform.machine()


def child_environment(threads: int | None = None, **variables: str) -> dict[str, str]:
    """Return the environment of a child process: that of this one, with this checkout first among Python's modules.

    Parameters
    ----------
    threads : number of threads of OpenMP and OpenBLAS; by default they choose
    **variables : further variables
    """
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    limits = {} if threads is None else dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
    return {**os.environ, "PYTHONPATH": path, **limits, **variables}


def snakemake_command(*arguments: str) -> list[str]:
    """The command that runs this checkout's workflow on one core."""
    profile = ROOT / "workflow" / "profiles" / "default"
    where = ["--snakefile", str(ROOT / "Snakefile"), "--workflow-profile", str(profile), "--cores", "1"]
    return [sys.executable, "-m", "snakemake", *arguments, *where]


def seconds_for(
    run: Steps,
    steps: int,
    synchronise: Callable[[], object] = lambda: None,
    clock: Callable[[], float] | None = None,
) -> float:
    """Return the wall time of all steps together, in seconds; or the time of another clock.

    Parameters
    ----------
    run : does the given number of steps
    steps : number of steps
    synchronise : waits for the device to finish; called before the clock starts and before it stops
    clock : returns seconds; time.perf_counter by default
    """
    clock = clock or time.perf_counter
    synchronise()
    start = clock()
    run(steps)
    synchronise()
    return clock() - start


def steps_lasting(
    run: Steps,
    seconds: float,
    synchronise: Callable[[], object] = lambda: None,
    clock: Callable[[], float] | None = None,
) -> tuple[int, float]:
    """Double the number of steps, from 4, until they take long enough; return the number and their seconds.

    Parameters
    ----------
    run, synchronise, clock : as for `seconds_for`
    seconds : least duration
    """
    steps = 4
    while (elapsed := seconds_for(run, steps, synchronise, clock)) < seconds:
        steps *= 2
    return steps, elapsed


def seconds_per_step(
    runs: Mapping[str, Steps],
    seconds: float,
    rounds: int,
    synchronise: Callable[[], object] = lambda: None,
    clock: Callable[[], float] | None = None,
) -> dict[str, float]:
    """Return median seconds per step by name. The runs take turns, so that a disturbance of the machine affects all.

    Parameters
    ----------
    runs : functions of the number of steps, by name
    seconds : approximate duration of one turn
    rounds : number of turns of each run
    synchronise, clock : as for `seconds_for`; the turns are as long in any case
    """
    steps: dict[str, int] = {}
    for name, run in runs.items():
        run(4)  # the first steps compile, allocate and choose kernels
        tried, elapsed = steps_lasting(run, 0.25 * seconds, synchronise)
        steps[name] = max(1, round(tried * seconds / elapsed))
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            times[name].append(seconds_for(run, steps[name], synchronise, clock) / steps[name])
    return {name: statistics.median(values) for name, values in times.items()}


def repeated(*calls: Callable[[], object]) -> Steps:
    """A function that makes all the calls, as many times as its argument says."""

    def run(times: int) -> None:
        for _ in range(times):
            for call in calls:
                call()

    return run


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """The lines of a Markdown table, from the names of the columns and the cells of each row."""
    lines = [f"| {' | '.join(map(str, cells))} |" for cells in (header, *rows)]
    return [lines[0], "|---" * len(header) + "|", *lines[1:]]


def write_tables(path: Path, tables: Mapping[str, str]) -> None:
    """Replace tables of a page, each between the marks `<!-- name -->` and `<!-- end -->`.

    Parameters
    ----------
    path : the page
    tables : Markdown by name
    """
    from phasevae.artifacts.files import replacing

    page = path.read_text()
    for name, table in tables.items():
        marks = rf"(<!-- {re.escape(name)} -->\n).*?(\n<!-- end -->)"
        page = re.sub(marks, lambda found, table=table: f"{found[1]}\n{table}\n{found[2]}", page, flags=re.S)
    with replacing(path) as temporary:
        temporary.write_text(page)
