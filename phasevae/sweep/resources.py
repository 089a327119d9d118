"""What a training takes: operations, time and memory of an ensemble, and what a batch system is asked for it.

Nothing here changes a number, so the training does not import it: a better estimate trains nothing again.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

from phasevae.sweep.settings import rows_sharing

CPU_FLOPS = 25e9
"""Float32 operations a second of one thread of a present-day processor in matrix products of the sizes at hand."""

CUDA_FLOPS = 1e12
"""The same of a GPU: a tenth or less of what the data sheets say, as the matrices of single models are small."""

_STEP_SECONDS = 1e-3  # a training step of the smallest ensemble
_START_SECONDS = 5.0  # imports, and reading and checking the data
_BYTES = 4  # float32
_ROW_ORDER_BYTES = 120  # a row of the data and seed, while a permutation is drawn
MOST_PAIRS, ENOUGH_PAIRS, LIKELIHOOD_ROWS, LIKELIHOOD_DRAWS = 8, 2**19, 4096, 256
"""Those of phasevae.measurement.measure, which loads torch."""

MOST_COORDINATES = 16
"""That of phasevae.training.row_order, which loads torch."""


def estimate_cost(
    settings: Mapping[str, Any],
    n_points: int,
    dimension: int,
    n_samples: int = 0,
    threads: int = 2,
    device: str = "cpu",
) -> dict[str, float]:
    """Rough cost of training and measuring `n_points` models as one ensemble on data of `dimension` features.

    Returns {parameters (of one model), flops (of all), seconds, memory_bytes (the most that is held at one time, beside
    the libraries; on a GPU an upper bound for its memory and for the host's)}. `seconds` takes CPU_FLOPS a thread, or
    CUDA_FLOPS on a `device` that starts with 'cuda'. Forward and backward pass cost 6 floating-point operations a
    weight and sample; antithetic noise decodes twice; decoder targets that rows share need one more backward pass to
    the decoder's inputs, 2 operations a weight and draw.
    """
    encoder, decoder = _layer_widths(settings, dimension)
    draws = 2 if settings["antithetic"] else 1
    shared = rows_sharing(settings["batch"], settings["rao_blackwell_group"]) > 1
    training = 6.0 * _macs(encoder) + draws * (8.0 if shared else 6.0) * _macs(decoder)
    pairs = min(MOST_PAIRS, math.ceil(ENOUGH_PAIRS / max(1, n_samples)))
    measuring = (2.0 * _macs(encoder) + 4.0 * pairs * _macs(decoder)) * n_samples
    measuring += 2.0 * min(n_samples, LIKELIHOOD_ROWS) * LIKELIHOOD_DRAWS * _macs(decoder)
    flops = n_points * (training * settings["samples"] + measuring)
    rate = CUDA_FLOPS if device.startswith("cuda") else CPU_FLOPS * threads
    computing = max(flops / rate, _STEP_SECONDS * settings["samples"] / settings["batch"])
    return {
        "parameters": _n_parameters(encoder) + _n_parameters(decoder),
        "flops": flops,
        "seconds": _START_SECONDS + computing,
        "memory_bytes": _memory(settings, n_points, dimension, n_samples),
    }


def estimate_hysteresis_cost(
    settings: Mapping[str, Any], dimension: int, n_samples: int = 0, threads: int = 2, device: str = "cpu"
) -> dict[str, float]:
    """`estimate_cost` of an upward sweep (`phasevae.training.hysteresis`): a training of all seeds for each
    `hysteresis_ratio`, one after the other, and one of all fresh models."""
    n_steps, n_seeds = len(settings["hysteresis_ratio"]), len(settings["seeds"])
    step, fresh = (
        estimate_cost(settings, n_points, dimension, n_samples, threads, device)
        for n_points in (n_seeds, n_steps * n_seeds)
    )
    return fresh | {key: n_steps * step[key] + fresh[key] for key in ("flops", "seconds")}


def matrices_mb(count: float, dimension: int) -> int:
    """MiB of `count` float64 matrices of D x D."""
    return math.ceil(count * 8 * dimension**2 / 2**20)


def resource_request(cost: Mapping[str, float], attempt: int = 1, device: str = "cpu") -> dict[str, int]:
    """{mem_mb, runtime (minutes)} to ask a batch system for a job of such a cost; more at each attempt.

    The libraries take 0.4 GB, and 2.5 GB more with CUDA; the two processes of Snakemake around a job 0.3 GB. The
    estimate of time is good to a factor of about three, and the limit of a job should not be what ends it.
    """
    libraries = 4000 if device.startswith("cuda") else 1500
    return {
        "mem_mb": math.ceil(attempt * (libraries + 1.3 * cost["memory_bytes"] / 2**20)),
        "runtime": math.ceil(attempt * (10 + 3 * cost["seconds"] / 60)),
    }


def further_resources(cluster: Mapping[str, Any], device: str) -> dict[str, str | int]:
    """What a training job asks for beside memory and time: one GPU where it is to use one, and what the configuration's
    `cluster` says of all jobs and of training jobs, which comes last and may say it otherwise."""
    given = {**cluster["jobs"], **cluster["training"]}
    named = {"gpu", "gpu_model", "gres"} & given.keys()
    return given if named or not device.startswith("cuda") else {"gpu": 1, **given}


def packed_buckets(n_buckets: int, cost: Mapping[str, float], least_seconds: float) -> int:
    """Number of buckets that take `least_seconds` or more on average: `n_buckets`, halved as often as needed.

    cost: of all points as one ensemble. Halving keeps the number the same while a sweep grows by a few points.
    """
    while n_buckets > 1 and cost["seconds"] / n_buckets < least_seconds:
        n_buckets = (n_buckets + 1) // 2
    return n_buckets


def _memory(settings: Mapping[str, Any], n_points: int, dimension: int, n_samples: int) -> float:
    """Bytes: the data twice (the file as it is read, and in memory), and the larger of two moments of the training.

    Beginning and checkpoint: random numbers of the initial weights, or copies of weights and Adam's moments, up to ten
    arrays of the parameters' size; permutations of the rows, and features by which they are balanced. A step: weights,
    gradients and two moments; each layer's output and its gradient, of the decoder once more where rows share targets;
    what `decoder_targets` holds, weights before and after the softmax, the factors of their product, and targets.
    """
    batch, n_latent = settings["batch"], settings["n_latent"]
    encoder, decoder = _layer_widths(settings, dimension)
    draws = 2 if settings["antithetic"] else 1
    group = rows_sharing(batch, settings["rao_blackwell_group"])
    parameters = _n_parameters(encoder) + _n_parameters(decoder)
    of_row = 2 * sum(encoder[1:]) + draws * (3 if group > 1 else 2) * sum(decoder[1:]) + (2 + 2 * draws) * dimension
    if group > 1:
        of_row += 2 * draws * group + (3 + 2 * draws) * (2 * n_latent + 1) + 2 * draws * dimension
    orders = _ROW_ORDER_BYTES * n_samples * len(settings.get("seeds", [0]))
    if settings["balanced_order"]:
        coordinates = min(n_latent, dimension, MOST_COORDINATES)
        orders += _BYTES * n_samples * (dimension + 3 * coordinates * (coordinates + 3) / 2)
    beginning = 10 * _BYTES * n_points * parameters + orders
    step = _BYTES * n_points * (4 * parameters + batch * of_row)
    return 2 * _BYTES * n_samples * dimension + max(beginning, step)


def _n_parameters(widths: list[int]) -> int:
    return _macs(widths) + sum(widths[1:])


def _layer_widths(settings: Mapping[str, Any], dimension: int) -> tuple[list[int], list[int]]:
    """Widths of the encoder's layers and of the decoder's, first to last."""
    hidden, n_latent = settings["hidden"], settings["n_latent"]
    return [dimension, *hidden, 2 * n_latent], [n_latent, *reversed(hidden), dimension]


def _macs(widths: list[int]) -> int:
    return sum(a * b for a, b in itertools.pairwise(widths))
