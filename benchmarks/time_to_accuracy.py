"""How long does training take until the whole KL(sigma2) curve is right? phasevae, a usual loop, pythae and JAX.

    python benchmarks/time_to_accuracy.py -o DIR                                              hours
    python benchmarks/time_to_accuracy.py -o DIR --contenders phasevae --set cascade --seeds 0,1,2
    python benchmarks/time_to_accuracy.py -o DIR --merge                                      seconds
    python benchmarks/time_to_accuracy.py --throughput                                        a few minutes
    python benchmarks/time_to_accuracy.py -o DIR --rows 4096 --samples 1e4 --budget-seconds 5   a quick look

Every contender trains one VAE for each of 16 decoder variances on Gaussian data in memory, on the same cores:

    loop      the usual PyTorch code: DataLoader, nn.Module, Adam, one model after another
    pythae    pythae's BetaVAE and BaseTrainer, one model after another
    jax       all models in one compiled JAX function
    phasevae  this package's Trainer, with the backend that is installed

The protocol is `usual` (from scratch, Adam with learning rate 1e-3, batch 128) or `ours` (the defaults of phasevae:
annealing, antithetic and moment-matched noise, Rao-Blackwellised targets, balanced order, learning-rate schedule,
batch). One function measures the weights on all data, against probabilistic PCA for the sample covariance. A constant
protocol has checkpoints along one run; models that are trained one after another take turns for this. A protocol with
schedules has one run for each budget of --samples. The clock runs during training only. Import, building and compiling
have a column of their own; calibrations and measurements are not counted.

Each contender, protocol and seed is a process of its own, at most --budget-seconds per training. Its table goes to
DIR/runs/ when it ends, and later calls with the same DIR keep it, so the same command continues an interrupted
comparison. Every call writes DIR/time_to_accuracy.csv (all rows), .txt (the tables) and a figure of each data set;
--merge does only this. --throughput writes DIR/throughput.csv if DIR is given.

The foreign contenders need, in an environment with phasevae:

    pip install jax
    pip install --no-deps pythae && pip install tqdm cloudpickle pydantic

A contender that cannot be imported is left out with a message.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from contenders import common, course
from shared import child_environment, make_parser, numbers, some_of

from phasevae.artifacts.tables import write_table
from phasevae.errors import InputError

CANNOT_IMPORT = 3


class Kind(NamedTuple):
    """Module of a contender, its protocols by default, and the command that installs its framework."""

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


def contender_list(text: str) -> list[tuple[str, str]]:
    """An argparse type: (contender, protocol) pairs of NAME or NAME:PROTOCOL with commas between."""
    pairs = []
    for part in text.split(","):
        name, _, protocol = part.partition(":")
        if name not in KINDS or protocol not in ("", *common.PROTOCOLS):
            known = f"{', '.join(KINDS)}, each alone or as NAME:usual, NAME:ours"
            raise argparse.ArgumentTypeError(f"{part!r}, must be of: {known}")
        if (name, protocol) == ("loop", "ours"):
            raise argparse.ArgumentTypeError("'loop:ours': the usual loop has the usual protocol only")
        pairs += itertools.product([name], [protocol] if protocol else KINDS[name].protocols)
    return pairs


def entries(arguments: argparse.Namespace) -> list[Entry]:
    """All processes that the arguments ask for."""
    product = itertools.product(arguments.sets, arguments.contenders, arguments.seeds)
    return [Entry(problem, contender, protocol, seed) for problem, (contender, protocol), seed in product]


def run_entry(entry: Entry, arguments: argparse.Namespace) -> pd.DataFrame:
    """Train and measure one contender. Raises ImportError if its framework is not installed."""
    begin = time.perf_counter()
    module = importlib.import_module(f"contenders.{KINDS[entry.contender].module}")
    imported = time.perf_counter() - begin
    problem = common.PROBLEMS[entry.problem]
    settings = common.settings_of(entry.protocol, problem.n_latent, common.HIDDEN, 1e12)
    x = common.make_data(problem, arguments.rows)
    run = common.Run(x, problem.sigma2, entry.seed, settings, arguments.threads)
    measure = course.make_measure(run, problem)
    rows = pd.DataFrame(course.course(module, run, arguments.samples, arguments.budget_seconds, measure, imported))
    identity = {"set": entry.problem, "contender": entry.contender, "protocol": entry.protocol, "seed": entry.seed}
    for place, (name, value) in enumerate(identity.items()):
        rows.insert(place, name, value)
    rows["wall_seconds"] = rows["seconds"] + rows["startup_seconds"]
    rows["model_samples_per_second"] = rows["samples"] * len(problem.sigma2) / rows["seconds"]
    return rows.assign(rows=arguments.rows, threads=arguments.threads)


def run_child(entry: Entry, arguments: argparse.Namespace) -> None:
    """Run one entry in a process that may use `--threads` cores. Raises InputError if it fails."""
    flags = {"--set": entry.problem, "--contenders": f"{entry.contender}:{entry.protocol}", "--seeds": entry.seed}
    flags |= {"--rows": arguments.rows, "--threads": arguments.threads, "-o": arguments.out}
    flags |= {"--samples": ",".join(map(str, arguments.samples)), "--budget-seconds": arguments.budget_seconds}
    command = [sys.executable, __file__, "--child", *(str(part) for pair in flags.items() for part in pair)]
    code = subprocess.run(command, check=False, env=child_environment(arguments.threads)).returncode
    if code not in (0, CANNOT_IMPORT):
        raise InputError(f"{entry.contender}: ended with exit code {code}; the runs that ended before are kept")


def child(entry: Entry, arguments: argparse.Namespace) -> int:
    """Do the work of a process that `run_child` started; return its exit code."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.threads])
    try:
        write_table(entry.path(arguments.out), run_entry(entry, arguments))
    except ImportError as error:
        print(f"{entry.contender}: left out ({error}); to install it: {KINDS[entry.contender].install}", flush=True)
        return CANNOT_IMPORT
    return 0


def compare(arguments: argparse.Namespace) -> None:
    """Run the entries that are missing in the folder, then write and print the tables and draw the figures."""
    from contenders import report

    for entry in [] if arguments.merge else entries(arguments):
        title = f"{entry.problem}: {entry.contender}, {entry.protocol} protocol, seed {entry.seed}"
        if entry.path(arguments.out).is_file() and not arguments.again:
            print(f"{title}: kept, --again would run it again", flush=True)
            continue
        print(title, flush=True)
        run_child(entry, arguments)
    print()
    print(report.write(arguments.out, arguments.out / "runs"))


def show_throughput(arguments: argparse.Namespace) -> None:
    """Measure and print the throughput."""
    from contenders import throughput

    rows = min(arguments.rows, 65536)
    clock = time.process_time if arguments.processor_time else time.perf_counter
    table = throughput.measure(
        16, arguments.threads, rows, arguments.round_seconds, arguments.rounds, arguments.beside, clock
    )
    print(f"{arguments.threads} threads, 16 models, GFLOP/s in float32, Adam included\n")
    print(table.to_string(index=False, float_format=lambda value: f"{value:,.0f}" if value > 999 else f"{value:.3g}"))
    if arguments.out:
        write_table(arguments.out / "throughput.csv", table)


def parse_arguments(words: list[str] | None = None) -> argparse.Namespace:
    """The arguments of the command line."""
    parser = make_parser(__doc__)
    parser.add_argument("-o", "--out", type=Path, help="folder of the results")
    parser.add_argument(
        "--contenders", type=contender_list, default=",".join(KINDS), help="NAME or NAME:PROTOCOL, with commas between"
    )
    parser.add_argument(
        "--set", dest="sets", type=some_of(common.PROBLEMS), default="paper", help=f"of: {', '.join(common.PROBLEMS)}"
    )
    parser.add_argument("--seeds", type=numbers(int), default="0", help="whole numbers, with commas between")
    parser.add_argument("--budget-seconds", type=float, default=900.0, help="training time of a run, all models")
    parser.add_argument(
        "--samples",
        type=numbers(),
        default="1e5,2e5,4e5,8e5,1.6e6",
        help="samples per model, the budgets of protocols with schedules",
    )
    parser.add_argument("--rows", type=int, default=256_000, help="samples in the data set")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="CPU cores for each")
    parser.add_argument("--merge", action="store_true", help="only write tables and figures of the runs in DIR")
    parser.add_argument("--again", action="store_true", help="also repeat the runs in DIR")
    parser.add_argument("--throughput", action="store_true", help="samples/s of loop and phasevae, share of sgemm")
    parser.add_argument("--beside", type=int, default=0, help="busy processes of --throughput, in turns of their own")
    parser.add_argument(
        "--processor-time",
        action="store_true",
        help="rates of --throughput by the time of this process, without the loop's workers: for a machine in use",
    )
    parser.add_argument("--rounds", type=int, default=7, help="rounds of --throughput")
    parser.add_argument("--round-seconds", type=float, default=1.5, help="seconds of one turn in a round")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args(words)
    if arguments.out is None and not arguments.throughput:
        parser.error("-o DIR is missing")
    return arguments


def main(words: list[str] | None = None) -> None:
    """Run the command line."""
    arguments = parse_arguments(words)
    try:
        if arguments.child:
            (entry,) = entries(arguments)
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
