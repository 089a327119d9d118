"""Wall time until the whole KL(sigma2) curve is right: phasevae against a usual loop, pythae and a JAX ensemble.

    python benchmarks/time_to_accuracy.py -o DIR
    python benchmarks/time_to_accuracy.py -o DIR --contenders phasevae --set cascade --seeds 0,1,2
    python benchmarks/time_to_accuracy.py -o DIR --merge
    python benchmarks/time_to_accuracy.py --throughput

Every contender trains one VAE for each of 16 decoder variances on Gaussian data held in memory, on the same cores:

    loop      the usual PyTorch code: DataLoader, nn.Module, Adam, one model after another
    pythae    pythae's BetaVAE and BaseTrainer, one model after another
    jax       all models in one compiled JAX function
    phasevae  this package's Trainer, with the backend that is installed

with the protocol `usual` (from scratch, Adam 1e-3, batch 128) or `ours` (the defaults of phasevae: annealing,
antithetic noise, decoder targets shared among rows, learning-rate schedule, batch). Its weights are measured on all
data by one function, against pPCA for the sample covariance. A constant protocol has checkpoints along one run; models
that are trained one after another take turns for that. A protocol with schedules has one run for each budget of
--samples. The clock runs for training alone: import, building and compiling stand in a column of their own,
calibrations and measurements are not counted.

Each contender, protocol and seed is a process of its own; its table is written to DIR/runs/ when it ends, and is kept
by a later call with the same DIR, so an interrupted run continues with the next one. DIR gets time_to_accuracy.csv (all
rows), .txt (the tables) and a figure of each set, by every call or by --merge alone.

The contenders that are not this package's need, in an environment with phasevae:

    pip install jax
    pip install --no-deps pythae && pip install tqdm cloudpickle pydantic

What cannot be imported is left out, with a line that says so.
"""

from __future__ import annotations

import argparse
import importlib
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from contenders import common, course, report

from phasevae.artifacts.files import write_table
from phasevae.cli.arguments import numbers
from phasevae.errors import InputError

ROOT = Path(__file__).resolve().parents[1]
SAMPLES = "1e5,2e5,4e5,8e5,1.6e6"
CANNOT_IMPORT = 3


class Kind(NamedTuple):
    """Where a contender stands, the protocols it takes part with by default, and what installs its framework."""

    module: str
    protocols: tuple[str, ...]
    install: str


KINDS = {
    "loop": Kind("loop", ("usual",), "pip install torch"),
    "pythae": Kind(
        "pythae_trainer", ("usual", "ours"), "pip install --no-deps pythae && pip install tqdm cloudpickle pydantic"
    ),
    "jax": Kind("jax_ensemble", ("usual", "ours"), "pip install jax"),
    "phasevae": Kind("phasevae_trainer", ("ours",), "pip install phasevae"),
}


class Entry(NamedTuple):
    """One process of the comparison."""

    problem: str
    contender: str
    protocol: str
    seed: int

    def path(self, out: Path) -> Path:
        return out / "runs" / f"{'-'.join(map(str, self))}.csv"


def entries(sets: list[str], contenders: list[str], seeds: list[int]) -> list[Entry]:
    """What the options ask for. Raises InputError for a name that there is not."""
    chosen = []
    for words in contenders:
        name, _, protocol = words.partition(":")
        if name not in KINDS or protocol not in ("", *common.PROTOCOLS):
            known = f"{', '.join(KINDS)}, each alone or as NAME:usual, NAME:ours"
            raise InputError(f"--contenders: {words!r}, must be of: {known}")
        if (name, protocol) == ("loop", "ours"):
            raise InputError("--contenders: 'loop:ours': the usual loop has the usual protocol alone")
        chosen += [(name, one) for one in ([protocol] if protocol else KINDS[name].protocols)]
    for problem in sets:
        if problem not in common.PROBLEMS:
            raise InputError(f"--set: {problem!r}, must be of: {', '.join(common.PROBLEMS)}")
    return [Entry(problem, *pair, seed) for problem in sets for pair in chosen for seed in seeds]


def run_entry(entry: Entry, arguments: argparse.Namespace) -> pd.DataFrame:
    """Train and measure one contender. Raises ImportError when its framework is not there."""
    begin = time.perf_counter()
    module = importlib.import_module(f"contenders.{KINDS[entry.contender].module}")
    imported = time.perf_counter() - begin
    problem = common.PROBLEMS[entry.problem]
    settings = common.settings_of(entry.protocol, problem.n_latent, common.HIDDEN, 1e12)
    x = common.make_data(problem, arguments.rows)
    run = common.Run(x, problem.sigma2, entry.seed, settings, arguments.threads)
    budgets = numbers("--samples", arguments.samples)
    measure = course.make_measure(run, problem)
    rows = pd.DataFrame(course.course(module, run, budgets, arguments.budget_seconds, measure, imported))
    identity = {"set": entry.problem, "contender": entry.contender, "protocol": entry.protocol, "seed": entry.seed}
    for place, (name, value) in enumerate(identity.items()):
        rows.insert(place, name, value)
    rows["wall_seconds"] = rows["seconds"] + rows["startup_seconds"]
    rows["model_samples_per_second"] = rows["samples"] * len(problem.sigma2) / rows["seconds"]
    return rows.assign(rows=arguments.rows, threads=arguments.threads)


def run_child(entry: Entry, arguments: argparse.Namespace) -> None:
    """Run one entry in a process that may use `--threads` cores; says in a line when it is left out.

    Raises InputError when it fails.
    """
    flags = {"--set": entry.problem, "--contenders": f"{entry.contender}:{entry.protocol}", "--seeds": entry.seed}
    flags |= {"--rows": arguments.rows, "--threads": arguments.threads, "--samples": arguments.samples}
    flags |= {"--budget-seconds": arguments.budget_seconds, "-o": arguments.out}
    command = [sys.executable, __file__, "--child", *(str(part) for pair in flags.items() for part in pair)]
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "OMP_NUM_THREADS": str(arguments.threads), "PYTHONPATH": path}
    code = subprocess.run(command, check=False, env=environment).returncode
    if code not in (0, CANNOT_IMPORT):
        raise InputError(f"{entry.contender}: ended with exit code {code}; what has ended before is kept")


def child(entry: Entry, arguments: argparse.Namespace) -> int:
    """The work of a process that `run_child` started; its exit code."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.threads])
    try:
        write_table(entry.path(arguments.out), run_entry(entry, arguments))
    except ImportError as error:
        print(f"{entry.contender}: left out ({error}); to have it: {KINDS[entry.contender].install}", flush=True)
        return CANNOT_IMPORT
    return 0


def compare(arguments: argparse.Namespace) -> None:
    """Run what is missing in the folder, then write and print the tables and draw the figures."""
    for entry in entries(
        arguments.sets.split(","), arguments.contenders.split(","), numbers("--seeds", arguments.seeds, int)
    ):
        if arguments.merge:
            break
        words = f"{entry.problem}: {entry.contender}, {entry.protocol} protocol, seed {entry.seed}"
        if entry.path(arguments.out).is_file() and not arguments.again:
            print(f"{words}: kept, --again would run it again", flush=True)
            continue
        print(words, flush=True)
        run_child(entry, arguments)
    print()
    print(report.write(arguments.out, arguments.out / "runs"))


def show_throughput(arguments: argparse.Namespace) -> None:
    from contenders import throughput

    found = throughput.measure(
        16, arguments.threads, min(arguments.rows, 65536), arguments.round_seconds, arguments.rounds
    )
    print(f"{arguments.threads} threads, 16 models, GFLOP/s in float32, Adam included\n")
    print(found.to_string(index=False, float_format=lambda value: f"{value:,.0f}" if value > 999 else f"{value:.3g}"))
    if arguments.out:
        write_table(arguments.out / "throughput.csv", found)


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", type=Path, help="folder of the results")
    parser.add_argument("--contenders", default=",".join(KINDS), help="NAME or NAME:PROTOCOL, with commas between")
    parser.add_argument("--set", dest="sets", default="paper", help=f"of: {', '.join(common.PROBLEMS)}")
    parser.add_argument("--seeds", default="0", help="whole numbers, with commas between")
    parser.add_argument("--budget-seconds", type=float, default=900.0, help="training time of a run, all models")
    parser.add_argument("--samples", default=SAMPLES, help="samples a model, the budgets of protocols with schedules")
    parser.add_argument("--rows", type=int, default=256_000, help="samples in the data set")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="CPU cores for each")
    parser.add_argument("--merge", action="store_true", help="only write tables and figures of what is in DIR")
    parser.add_argument("--again", action="store_true", help="run also what is in DIR already")
    parser.add_argument("--throughput", action="store_true", help="samples/s of loop and phasevae, share of sgemm")
    parser.add_argument("--rounds", type=int, default=7, help="rounds of --throughput")
    parser.add_argument("--round-seconds", type=float, default=1.5, help="seconds of one turn in a round")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    return parser


def main() -> None:
    parser = options()
    arguments = parser.parse_args()
    if arguments.out is None and not arguments.throughput:
        parser.error("-o DIR is needed")
    try:
        if arguments.child:
            (entry,) = entries([arguments.sets], [arguments.contenders], [int(arguments.seeds)])
            sys.exit(child(entry, arguments))
        (show_throughput if arguments.throughput else compare)(arguments)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        if not arguments.child:
            print("stopped; the same command continues with the contender that was running", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
