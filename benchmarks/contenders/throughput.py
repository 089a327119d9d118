"""Samples per second of the usual loop, of JAX and of phasevae, and their share of the sgemm rate."""

from __future__ import annotations

import importlib
import itertools
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from types import ModuleType
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from shared import ARCHITECTURES, Steps, repeated, seconds_per_step

from contenders import loop, phasevae_trainer
from contenders.common import Run, settings_of
from contenders.turns import beside_them, busy_processes
from phasevae.sweeps.resources import estimate_cost
from phasevae.sweeps.settings import Settings

Clock = Callable[[], float]
SQUARES = (512, 1024, 2048)
LOOP = "loop, batch 128"


class Training(NamedTuple):
    """A row of the table: the run, and the function that starts it and returns its steps."""

    run: Run
    start: Callable[[Run], Steps]


def measure(
    models: int,
    threads: int,
    rows: int,
    seconds: float,
    rounds: int,
    beside: int = 0,
    clock: Clock = time.perf_counter,
) -> pd.DataFrame:
    """Time all trainings and all matrix products in turns.

    Parameters
    ----------
    models : number of models
    threads : CPU threads
    rows : samples in the data set
    seconds : duration of a turn
    rounds : turns of each training and product; the figures are medians over them
    beside : busy processes; each training has another turn beside them
    clock : of the rates; time.process_time counts the time of this process alone, whatever else the machine does

    Returns
    -------
    DataFrame : one row per network and training: model-samples/s, GFLOP/s, and the shares of both sgemm rates; also the
        rate beside the busy processes, over that alone, and over what an equal division of the cores would leave
    """
    with busy_processes(beside) as processes:
        return pd.DataFrame(rows_of_table(models, threads, rows, seconds, rounds, processes, clock))


def rows_of_table(
    models: int,
    threads: int,
    rows: int,
    seconds: float,
    rounds: int,
    processes: list[subprocess.Popen],
    clock: Clock,
) -> list[dict[str, object]]:
    """The rows of `measure`."""
    table: list[dict[str, object]] = []
    jax = jax_ensemble(threads)
    for name, (dimension, hidden, n_latent) in ARCHITECTURES.items():
        x = np.random.default_rng(0).standard_normal((rows, dimension), dtype=np.float32)
        usual, ours = (settings_of(protocol, n_latent, hidden, 1e12) for protocol in ("usual", "ours"))
        base = Run(x, tuple(np.linspace(0.6, 1.1, models)), 0, usual, threads)
        trainings = {LOOP: Training(base, partial(start_fastest, loop))}
        for settings in (usual, ours) if jax else ():
            run = replace(base, settings=settings)
            trainings[f"jax, {words(settings)}"] = Training(run, partial(start_fastest, jax))
        for settings in (usual, usual.with_changes(antithetic=True), ours):
            run = replace(base, settings=settings)
            trainings[f"phasevae, {words(settings)}"] = Training(run, start_native)
        run = replace(base, settings=ours)
        trainings[f"phasevae, {words(ours)}, in single operations"] = Training(run, start_operations)
        table += [{"network": name, **row} for row in measured(trainings, seconds, rounds, processes, clock)]
    return table


def jax_ensemble(threads: int) -> ModuleType | None:
    """The contender in JAX, with as many threads; None, with a line, where JAX cannot be imported."""
    # Read by JAX when it starts; by itself it takes all cores that the process may use.
    os.environ.setdefault("NPROC", str(threads))
    try:
        return importlib.import_module("contenders.jax_ensemble")
    except ImportError as error:
        print(f"jax: left out ({error}); to install it: pip install jax", flush=True)
        return None


def start_fastest(module: ModuleType, run: Run) -> Steps:
    """The steps of a contender as it trains fastest."""
    options = module.prepare(run)
    return with_threads(module.start(run, **options).train, options.get("threads", run.threads))


def start_native(run: Run) -> Steps:
    """The steps of phasevae."""
    return with_threads(phasevae_trainer.start(run).train, run.threads)


def start_operations(run: Run) -> Steps:
    """The same, in single operations instead of native calls of whole steps."""
    return with_threads(phasevae_trainer.start(run).in_operations().train, run.threads)


def words(settings: Settings) -> str:
    """How the table names the settings."""
    default = ", the default" if settings.schedule != "scratch" else ""
    return f"batch {settings.batch}{', antithetic' if settings.antithetic else ''}{default}"


def measured(
    trainings: dict[str, Training],
    seconds: float,
    rounds: int,
    processes: list[subprocess.Popen],
    clock: Clock,
) -> list[dict[str, object]]:
    """The rows of one network."""
    turns, work = {}, {}
    for name, (run, start) in trainings.items():
        turns[name], work[name] = start(run), float(run.settings.batch * len(run.sigma2))
        products, operations = layer_products(run)
        turns[layers_of(run)], work[layers_of(run)] = with_threads(products, run.threads), operations
    for name in trainings if processes else ():
        turns[beside(name)], work[beside(name)] = beside_them(turns[name], processes), work[name]
    for size in SQUARES:
        left, right, out = torch.randn(3, size, size)
        product = repeated(partial(torch.mm, left, right, out=out))
        turns[f"square {size}"], work[f"square {size}"] = with_threads(product, run.threads), 2.0 * size**3
    times = seconds_per_step(turns, seconds, rounds, clock=clock)
    rates = {name: work[name] / time_of_step for name, time_of_step in times.items()}
    square = max(rates[f"square {size}"] for size in SQUARES) / 1e9
    return [as_row(name, training.run, rates, square, len(processes)) for name, training in trainings.items()]


def beside(name: str) -> str:
    """The name of a training's turns beside busy processes."""
    return f"{name}, beside busy processes"


def with_threads(run: Steps, threads: int) -> Steps:
    """Set torch's number of threads, which is global, before each turn."""

    def turn(steps: int) -> None:
        torch.set_num_threads(threads)
        run(steps)

    return turn


def as_row(name: str, run: Run, rates: dict[str, float], square: float, n_busy: int) -> dict[str, object]:
    """A row of the table, from the rates by name and the best rate of square products in GFLOP/s."""
    gflops, layers = rates[name] * flops(run) / 1e9, rates[layers_of(run)] / 1e9
    row = {"training": name, "model-samples/s": rates[name], "over loop": rates[name] / rates[LOOP]}
    row |= {"GFLOP/s": gflops, "sgemm of its layers": layers, "share": gflops / layers}
    row |= {"best square sgemm": square, "share of best": gflops / square}
    if n_busy:
        share = min(1.0, len(os.sched_getaffinity(0)) / (run.threads + n_busy))
        left = rates[beside(name)] / rates[name]
        row |= {f"beside {n_busy}": left, "over equal division": left / share}
    return row


def flops(run: Run) -> float:
    """Floating-point operations of training with one sample, for one model."""
    settings = vars(run.settings) | {"samples": 1}
    return estimate_cost(settings, n_points=1, dimension=run.x.shape[1])["flops"]


def layers_of(run: Run) -> str:
    """The name under which the products of the run's layers are timed; equal shapes have the same name."""
    return f"layers: batch {run.settings.batch}, antithetic {run.settings.antithetic}"


def layer_products(run: Run) -> tuple[Steps, float]:
    """The batched products [M, B, in] x [M, in, out] of all layers at their batch sizes, and their operations."""
    products, operations = [], 0.0
    models, batch = len(run.sigma2), run.settings.batch
    decoded = batch * (2 if run.settings.antithetic else 1)
    for widths, rows in zip(run.networks, (batch, decoded), strict=True):
        for fan_in, fan_out in itertools.pairwise(widths):
            left, right = torch.randn(models, rows, fan_in), torch.randn(models, fan_in, fan_out)
            products.append(partial(torch.bmm, left, right, out=torch.empty(models, rows, fan_out)))
            operations += 2.0 * models * rows * fan_in * fan_out
    return repeated(*products), operations
