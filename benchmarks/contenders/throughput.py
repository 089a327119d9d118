"""Samples a second of the usual loop and of phasevae at one batch size, and phasevae's share of the sgemm rate."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import torch

from contenders import loop, phasevae_trainer
from contenders.common import Run, settings_of, stretch, widths_to_shapes
from phasevae.sweep.settings import Settings, rows_sharing

# dimension, hidden, latents
ARCHITECTURES = {"8-256-128, n=4": (8, (256, 128), 4), "64-512-256, n=16": (64, (512, 256), 16)}
SQUARES = (512, 1024, 2048)
LOOP = "loop, batch 128"

Turn = Callable[[int], object]


def measure(models: int, threads: int, rows: int, seconds: float, rounds: int) -> pd.DataFrame:
    """One row an architecture and way of training: model-samples/s, GFLOP/s and shares of both sgemm rates.

    In each of the rounds all trainings and all products take turns, `seconds` each; figures are medians over rounds.
    """
    found = []
    for name, (dimension, hidden, n_latent) in ARCHITECTURES.items():
        x = np.random.default_rng(0).standard_normal((rows, dimension), dtype=np.float32)
        usual, ours = (settings_of(protocol, n_latent, hidden, 1e12) for protocol in ("usual", "ours"))
        base = Run(x, tuple(np.linspace(0.6, 1.1, models)), 0, usual, threads)
        runs = {LOOP: base}
        for settings in (usual, replace(usual, antithetic=True), ours):
            runs[f"phasevae, {words(settings)}"] = replace(base, settings=settings)
        for row in measured(runs, seconds, rounds):
            found.append({"network": name, **row})
    return pd.DataFrame(found)


def words(settings: Settings) -> str:
    default = ", the default" if settings.schedule != "scratch" else ""
    return f"batch {settings.batch}{', antithetic' if settings.antithetic else ''}{default}"


def measured(runs: dict[str, Run], seconds: float, rounds: int) -> list[dict[str, object]]:
    """The rows of one architecture; the runs of all but the loop are phasevae's."""
    threads = runs[LOOP].threads
    options = loop.prepare(runs[LOOP])
    # torch's number of threads is one for all: it is set before each turn.
    turns: dict[str, tuple[Turn, int]] = {LOOP: (loop.start(runs[LOOP], **options).train, options["threads"])}
    work = {name: run.settings.batch * len(run.sigma2) for name, run in runs.items()}
    for name, run in runs.items():
        if name != LOOP:
            turns[name] = phasevae_trainer.start(run).train, threads
        turn, operations = layer_products(run)
        turns[layers_of(run)], work[layers_of(run)] = (turn, threads), operations
    for size in SQUARES:
        left, right, out = torch.randn(3, size, size)
        product = partial(torch.mm, left, right, out=out)
        turns[f"square {size}"], work[f"square {size}"] = (partial(repeated, [product]), threads), 2.0 * size**3
    rates = {name: rate * work[name] for name, rate in step_rates(turns, seconds, rounds).items()}
    square = max(rates[f"square {size}"] for size in SQUARES) / 1e9
    return [as_row(name, run, rates, square) for name, run in runs.items()]


def as_row(name: str, run: Run, rates: dict[str, float], square: float) -> dict[str, object]:
    gflops, layers = rates[name] * flops(run) / 1e9, rates[layers_of(run)] / 1e9
    row = {"training": name, "model-samples/s": rates[name], "over loop": rates[name] / rates[LOOP]}
    row |= {"GFLOP/s": gflops, "sgemm of its layers": layers, "share": gflops / layers}
    return row | {"best square sgemm": square, "share of best": gflops / square}


def flops(run: Run) -> float:
    """Floating-point operations of a step for one model and sample: 6 a weight, the decoder's for each of its draws.

    With targets that rows share the decoder's are 8: what goes back to the encoder is another product than what gives
    the decoder's own gradient. The targets themselves, below one part in a hundred, are not counted.
    """
    encoder, decoder = (sum(a * b for a, b in widths_to_shapes(widths)) for widths in (run.encoder, run.decoder))
    shared = rows_sharing(run.settings.batch, run.settings.rao_blackwell_group) > 1
    return 6.0 * encoder + (2 if run.settings.antithetic else 1) * (8.0 if shared else 6.0) * decoder


def layers_of(run: Run) -> str:
    """The name under which the products of the run's layers are timed: equal shapes have one."""
    return f"layers: batch {run.settings.batch}, antithetic {run.settings.antithetic}"


def layer_products(run: Run) -> tuple[Turn, float]:
    """The batched products [M, B, in] x [M, in, out] of all layers at the batch each sees, and their operations."""
    products, operations = [], 0.0
    models, batch = len(run.sigma2), run.settings.batch
    decoded = batch * (2 if run.settings.antithetic else 1)
    for widths, rows in ((run.encoder, batch), (run.decoder, decoded)):
        for fan_in, fan_out in widths_to_shapes(widths):
            left, right = torch.randn(models, rows, fan_in), torch.randn(models, fan_in, fan_out)
            products.append(partial(torch.bmm, left, right, out=torch.empty(models, rows, fan_out)))
            operations += 2.0 * models * rows * fan_in * fan_out
    return partial(repeated, products), operations


def repeated(products: Sequence[Callable[[], object]], times: int) -> None:
    for _ in range(times):
        for product in products:
            product()


def step_rates(turns: dict[str, tuple[Turn, int]], seconds: float, rounds: int) -> dict[str, float]:
    """Median steps a second of each, over rounds in which they take turns; a turn and its number of threads."""
    steps, rates = {}, {name: [] for name in turns}
    for name, (turn, threads) in turns.items():
        torch.set_num_threads(threads)
        tried, elapsed = stretch(turn, 0.25 * seconds)
        steps[name] = max(1, round(tried * seconds / elapsed))
    for _ in range(rounds):
        for name, (turn, threads) in turns.items():
            torch.set_num_threads(threads)
            begin = time.perf_counter()
            turn(steps[name])
            rates[name].append(steps[name] / (time.perf_counter() - begin))
    return {name: statistics.median(values) for name, values in rates.items()}
