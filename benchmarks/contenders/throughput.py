"""Samples a second of the usual loop and of phasevae at one batch size, and phasevae's share of the sgemm rate."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch

from contenders import loop, phasevae_trainer
from contenders.common import Contender, Run, settings_of, stretch, widths_to_shapes

# dimension, hidden, latents
ARCHITECTURES = {"8-256-128, n=4": (8, (256, 128), 4), "64-512-256, n=16": (64, (512, 256), 16)}
SQUARES = (512, 1024, 2048)


def measure(models: int, threads: int, rows: int, seconds: float, rounds: int) -> pd.DataFrame:
    """One row an architecture and way of training: model-samples/s, GFLOP/s and shares of both sgemm rates.

    All take turns, `rounds` times for `seconds` each; the figures are medians over the rounds.
    """
    rng = np.random.default_rng(0)
    torch.set_num_threads(threads)
    best_square = max(_gflops(_square(size), 2.0 * size**3, seconds) for size in SQUARES)
    found = []
    for name, (dimension, hidden, n_latent) in ARCHITECTURES.items():
        x = rng.standard_normal((rows, dimension), dtype=np.float32)
        base = Run(x, tuple(np.linspace(0.6, 1.1, models)), 0, settings_of("usual", n_latent, hidden, 1e12), threads)
        options = loop.prepare(base)
        runs = dict(variants(base, settings_of("ours", n_latent, hidden, 1e12)))
        # torch's number of threads is one for all, so each sets its own when its turn comes.
        contenders: dict[str, tuple[Contender, int]] = {
            "loop, batch 128": (loop.start(base, **options), options["threads"])
        }
        contenders |= {variant: (phasevae_trainer.start(run), threads) for variant, run in runs.items()}
        runs = {"loop, batch 128": base, **runs}
        rates = take_turns({key: _turn(*pair, runs[key]) for key, pair in contenders.items()}, seconds, rounds)
        for variant, run in runs.items():
            gflops = rates[variant] * flops(run) / 1e9
            layers = layer_gflops(run, threads, seconds / 4)
            row = {"network": name, "training": variant, "model-samples/s": rates[variant]}
            row |= {"over loop": rates[variant] / rates["loop, batch 128"], "GFLOP/s": gflops}
            row |= {"sgemm of its layers": layers, "share": gflops / layers}
            found.append(row | {"best square sgemm": best_square, "share of best": gflops / best_square})
    return pd.DataFrame(found)


def variants(base: Run, ours: Any) -> Iterator[tuple[str, Run]]:
    """The ways phasevae trains: as the loop does, with antithetic noise, and by default."""
    for antithetic in (False, True):
        settings = replace(base.settings, antithetic=antithetic)
        yield (
            f"phasevae, batch {settings.batch}{', antithetic' if antithetic else ''}",
            replace(base, settings=settings),
        )
    words = f"batch {ours.batch}{', antithetic' if ours.antithetic else ''}"
    yield f"phasevae by default: {words}", replace(base, settings=ours)


def flops(run: Run) -> float:
    """Floating-point operations of a step for one model and sample: 6 a weight, the decoder's twice when antithetic."""
    encoder, decoder = (sum(a * b for a, b in widths_to_shapes(widths)) for widths in (run.encoder, run.decoder))
    return 6.0 * (encoder + (2 if run.settings.antithetic else 1) * decoder)


def layer_gflops(run: Run, threads: int, seconds: float) -> float:
    """GFLOP/s of the batched products [M, B, in] x [M, in, out] of all layers at the batch the network sees: all
    their operations over all their time."""
    torch.set_num_threads(threads)
    models, batch, total, elapsed = len(run.sigma2), run.settings.batch, 0.0, 0.0
    decoded = batch * (2 if run.settings.antithetic else 1)
    for widths, rows in ((run.encoder, batch), (run.decoder, decoded)):
        for fan_in, fan_out in widths_to_shapes(widths):
            operations = 2.0 * models * rows * fan_in * fan_out
            left, right = torch.randn(models, rows, fan_in), torch.randn(models, fan_in, fan_out)
            out = torch.empty(models, rows, fan_out)
            product = partial(torch.bmm, left, right, out=out)
            total += operations
            elapsed += operations / (1e9 * _gflops(product, operations, seconds))
    return total / elapsed / 1e9


def take_turns(turns: dict[str, Callable[[int], float]], seconds: float, rounds: int) -> dict[str, float]:
    """Median rate of each over rounds in which they take turns; a turn is given steps and returns samples a second."""
    rates: dict[str, list[float]] = {name: [] for name in turns}
    steps = {}
    for name, turn in turns.items():
        tried, elapsed = stretch(turn, 0.25 * seconds)
        steps[name] = max(1, round(tried * seconds / elapsed))
    for _ in range(rounds):
        for name, turn in turns.items():
            rates[name].append(turn(steps[name]))
    return {name: statistics.median(values) for name, values in rates.items()}


def _turn(contender: Contender, threads: int, run: Run) -> Callable[[int], float]:
    def turn(steps: int) -> float:
        torch.set_num_threads(threads)
        begin = time.perf_counter()
        contender.train(steps)
        return steps * run.settings.batch * len(run.sigma2) / (time.perf_counter() - begin)

    return turn


def _square(size: int) -> Callable[[], object]:
    left, right, out = torch.randn(3, size, size)
    return partial(torch.mm, left, right, out=out)


def _gflops(product: Callable[[], object], operations: float, seconds: float) -> float:
    """Median rate over five stretches of a fifth of `seconds`."""
    product()
    rates = []
    for _ in range(5):
        count, begin = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - begin) < seconds / 5:
            product()
            count += 1
        rates.append(count * operations / elapsed / 1e9)
    return statistics.median(rates)
