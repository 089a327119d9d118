"""How long does training take until the whole KL(sigma2) curve is right? phasevae, usual loops, pythae, JAX, MR-VAE.

    python benchmarks/time_to_accuracy.py -o DIR                                              hours
    python benchmarks/time_to_accuracy.py -o DIR --contenders phasevae --set cascade --seeds 0,1,2
    python benchmarks/time_to_accuracy.py -o DIR --merge                                      seconds
    python benchmarks/time_to_accuracy.py --throughput                                        a few minutes
    python benchmarks/time_to_accuracy.py -o DIR --rows 4096 --samples 1e4 --budget-seconds 5   a quick look

Every contender trains one VAE for each of 16 decoder variances on Gaussian data in memory, on the same cores:

    loop        the usual PyTorch code: DataLoader, nn.Module, Adam, each model in its own steps, by turns
    compiled    the same loop, with the model and its loss compiled by torch.compile
    multi_rate  one network for all decoder variances, whose layers are scaled by gates (Multi-Rate VAE)
    pythae      pythae's BetaVAE and BaseTrainer, one model after another
    jax         all models in one compiled JAX function
    phasevae    this package's Trainer, with the backend that is installed

The protocol is `usual` (from scratch, Adam with learning rate 1e-3, batch 128) or `ours` (the defaults of phasevae:
annealing, antithetic and moment-matched noise, Rao-Blackwellised targets, balanced order, learning-rate schedule,
batch). One function measures the weights on all data, against probabilistic PCA for the sample covariance. A constant
protocol has checkpoints along one run; models that are trained one after another take turns for this. A protocol with
schedules has one run for each budget of --samples. The clock runs during training only. Import, building and compiling
have a column of their own; calibrations and measurements are not counted.

Each contender and protocol is a process of its own, at most --budget-seconds per training. Those of a data set and
seed take turns of --turn-seconds: while one runs, the others are stopped, and so are their clocks. Other work on the
machine hits all alike. --beside N runs N busy processes beside each turn.

The table of a process goes to DIR/runs/ when it ends, and later calls with the same DIR keep it, so the same command
continues an interrupted comparison. Every call writes DIR/time_to_accuracy.csv (all rows), .txt (the tables) and a
figure of each data set; --merge does only this. --throughput writes DIR/throughput.csv if DIR is given.

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
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from contenders import common, course, turns
from shared import child_environment, make_parser, numbers, processor_name, some_of

from phasevae.artifacts.tables import write_table
from phasevae.cli.parent import end_with_parent
from phasevae.errors import InputError

CANNOT_IMPORT = 3


class Kind(NamedTuple):
    """Module of a contender, its protocols by default, and the command that installs its framework.

    is_one_network: it trains one network for all decoder variances, not a model for each.
    """

    module: str
    protocols: tuple[str, ...]
    install: str
    is_one_network: bool = False


KINDS = {
    "loop": Kind("loop", ("usual",), "pip install torch"),
    "compiled": Kind("compiled_loop", ("usual",), "pip install torch"),
    "multi_rate": Kind("multi_rate", ("usual",), "pip install torch", is_one_network=True),
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

    def __str__(self) -> str:
        return f"{self.problem}: {self.contender}, {self.protocol} protocol, seed {self.seed}"


def contender_list(text: str) -> list[tuple[str, str]]:
    """An argparse type: (contender, protocol) pairs of NAME or NAME:PROTOCOL with commas between."""
    pairs = []
    for part in text.split(","):
        name, _, protocol = part.partition(":")
        if name not in KINDS or protocol not in ("", *common.PROTOCOLS):
            known = f"{', '.join(KINDS)}, each alone or as NAME:usual, NAME:ours"
            raise argparse.ArgumentTypeError(f"{part!r}, must be of: {known}")
        if protocol == "ours" and protocol not in KINDS[name].protocols:
            raise argparse.ArgumentTypeError(f"{part!r}: {name} has the usual protocol only")
        pairs += itertools.product([name], [protocol] if protocol else KINDS[name].protocols)
    return pairs


def entries(arguments: argparse.Namespace) -> list[Entry]:
    """All processes that the arguments ask for; those that take turns follow each other."""
    product = itertools.product(arguments.sets, arguments.seeds, arguments.contenders)
    return [Entry(problem, contender, protocol, seed) for problem, seed, (contender, protocol) in product]


def run_entry(entry: Entry, arguments: argparse.Namespace) -> pd.DataFrame:
    """Train and measure one contender. Raises ImportError if its framework is not installed."""
    begin = turns.clock()
    kind = KINDS[entry.contender]
    module = importlib.import_module(f"contenders.{kind.module}")
    imported = turns.clock() - begin
    problem = common.PROBLEMS[entry.problem]
    settings = common.settings_of(entry.protocol, problem.n_latent, common.HIDDEN, 1e12)
    x = common.make_data(problem, arguments.rows)
    run = common.Run(x, problem.sigma2, entry.seed, settings, arguments.threads, str(entry))
    measure = course.make_measure(run, problem)
    rows = pd.DataFrame(course.course(module, run, arguments.samples, arguments.budget_seconds, measure, imported))
    identity = {"set": entry.problem, "contender": entry.contender, "protocol": entry.protocol, "seed": entry.seed}
    for place, (name, value) in enumerate(identity.items()):
        rows.insert(place, name, value)
    models = 1 if kind.is_one_network else len(problem.sigma2)
    rows["wall_seconds"] = rows["seconds"] + rows["startup_seconds"]
    rows["model_samples_per_second"] = rows["samples"] * models / rows["seconds"]
    machine = {"threads": arguments.threads, "beside": arguments.beside, "processor": processor_name()}
    return rows.assign(rows=arguments.rows, **machine)


def process_of(entry: Entry, arguments: argparse.Namespace) -> turns.Stoppable:
    """The process of an entry, which may use `--threads` cores."""
    flags = {"--set": entry.problem, "--contenders": f"{entry.contender}:{entry.protocol}", "--seeds": entry.seed}
    flags |= {"--rows": arguments.rows, "--threads": arguments.threads, "-o": arguments.out}
    flags |= {"--samples": ",".join(map(str, arguments.samples)), "--budget-seconds": arguments.budget_seconds}
    flags |= {"--beside": arguments.beside}
    command = [sys.executable, __file__, "--child", *(str(part) for pair in flags.items() for part in pair)]
    return turns.Stoppable(command, child_environment(arguments.threads))


def run_in_turns(missing: Sequence[Entry], arguments: argparse.Namespace) -> None:
    """Run the entries of one data set and seed. Raises InputError if some fail, when the others have ended."""
    processes = {entry: process_of(entry, arguments) for entry in missing}
    failed = []
    with turns.busy_processes(arguments.beside) as busy, turns.awake(busy):
        for entry, code in turns.take_turns(processes, arguments.turn_seconds):
            if code not in (0, CANNOT_IMPORT):
                failed.append(f"{entry.contender} ({entry.protocol}) with exit code {code}")
    if failed:
        raise InputError(f"ended early: {', '.join(failed)}; the runs that ended well are kept")


def child(entry: Entry, arguments: argparse.Namespace) -> int:
    """Do the work of the process of an entry; return its exit code."""
    end_with_parent()
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

    missing = []
    for entry in [] if arguments.merge else entries(arguments):
        kept = entry.path(arguments.out).is_file() and not arguments.again
        print(f"{entry}: kept, --again would run it again" if kept else f"{entry}: to run", flush=True)
        missing += [] if kept else [entry]
    for _, together in itertools.groupby(missing, key=lambda entry: (entry.problem, entry.seed)):
        run_in_turns(list(together), arguments)
    print()
    print(report.write(arguments.out, arguments.out / "runs"))


def show_throughput(arguments: argparse.Namespace) -> None:
    """Measure and print the throughput."""
    from contenders import throughput

    rows = min(arguments.rows, 65536)
    clock = time.process_time if arguments.processor_time else time.perf_counter
    table = throughput.measure(
        arguments.models, arguments.threads, rows, arguments.round_seconds, arguments.rounds, arguments.beside, clock
    )
    print(f"threads: {arguments.threads}, models: {arguments.models}; GFLOP/s in float32, Adam included\n")
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
    parser.add_argument("--turn-seconds", type=float, default=5.0, help="seconds of a turn of a process")
    parser.add_argument("--beside", type=int, default=0, help="busy processes; with --throughput in turns of their own")
    parser.add_argument("--throughput", action="store_true", help="samples/s of loop, JAX, phasevae; share of sgemm")
    parser.add_argument(
        "--processor-time",
        action="store_true",
        help="rates of --throughput by the time of this process, without the loop's workers: for a machine in use",
    )
    parser.add_argument("--models", type=int, default=16, help="models of --throughput")
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
            print("stopped; the same command continues with the contenders that had not ended", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
