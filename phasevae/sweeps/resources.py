"""What jobs cost, and what a batch system is asked for: operations, time and memory of a training.

No result depends on these estimates, so the training does not import them: a better estimate retrains nothing.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from phasevae.sweeps.plan import read_plan
from phasevae.sweeps.points import budgets
from phasevae.sweeps.settings import rows_sharing

CPU_FLOPS = 25e9
"""Float32 operations per second of one thread of a present-day processor, in matrix products of the usual sizes."""

CUDA_FLOPS = 1e12
"""The same for a GPU: at most a tenth of the data sheets' numbers, because the matrices of single models are small."""

_STEP_SECONDS = 1e-3  # a training step of the smallest ensemble
_START_SECONDS = 5.0  # imports, reading and checking the data
_BYTES = 4  # float32
_ROW_ORDER_BYTES = 120  # per row of a chapter, while a permutation is drawn
MOST_PAIRS, ENOUGH_PAIRS, LIKELIHOOD_ROWS, LIKELIHOOD_DRAWS = 8, 2**19, 4096, 256
"""Copies of the constants in phasevae.measurement.measure, which loads torch."""

OWN_NETWORKS = 8.0
"""Networks of the user's own are taken to need this many times the operations and activations of an MLP of the widths
`hidden`, because convolutions use each weight at many places. Nobody knows before they have run."""

MOST_COORDINATES = 16
"""Copy of the constant in phasevae.training.row_order, which loads torch."""

MOST_ROWS, CHAPTER_ROWS = 2**20, 2**18
"""Copies of the constants in phasevae.training.chapters, which loads torch."""

_BLOCK_BYTES = 8192 * (4 + 2 * 8)  # per feature, for the rows whose principal axes are computed


def estimate_cost(
    settings: Mapping[str, Any],
    n_points: int,
    dimension: int,
    n_samples: int = 0,
    threads: int = 2,
    device: str = "cpu",
    data_memory_mb: int | None = None,
) -> dict[str, float]:
    """Estimate the cost of training and measuring models as one ensemble.

    The forward and backward pass cost 6 floating-point operations per weight and sample. Antithetic noise decodes
    twice. Rao-Blackwellised targets need one more backward pass to the decoder's inputs: 2 operations per weight and
    draw.

    Parameters
    ----------
    settings : validated settings of the data set
    n_points : number of models
    dimension : number of features
    n_samples : number of samples; 0 counts the training alone
    threads : threads of the processor, of CPU_FLOPS each
    device : name of a torch device; one that starts with 'cuda' computes CUDA_FLOPS
    data_memory_mb : memory for the samples; without it they are taken to fit the memory

    Returns
    -------
    parameters (of one model), flops (of all models), seconds, and memory_bytes: the largest amount held at one time,
    without the libraries; for a GPU an upper bound for its memory and for that of the host.
    """
    encoder, decoder = layer_widths(settings, dimension)
    top = _top_widths(settings)
    of_draw = _macs(decoder) + sum(map(_macs, top))
    draws = 2 if settings["antithetic"] else 1
    shared = rows_sharing(settings["batch"], settings["rao_blackwell_group"]) > 1
    training = 6.0 * _macs(encoder) + draws * (8.0 if shared else 6.0) * of_draw
    pairs = min(MOST_PAIRS, math.ceil(ENOUGH_PAIRS / max(1, n_samples)))
    measuring = (2.0 * _macs(encoder) + 4.0 * pairs * of_draw) * n_samples
    measuring += 2.0 * min(n_samples, LIKELIHOOD_ROWS) * LIKELIHOOD_DRAWS * of_draw
    flops = _factor(settings) * n_points * (training * settings["samples"] + measuring)
    rate = CUDA_FLOPS if device.startswith("cuda") else CPU_FLOPS * threads
    computing = max(flops / rate, _STEP_SECONDS * settings["samples"] / settings["batch"])
    return {
        "parameters": sum(map(_n_parameters, (encoder, decoder, *top))),
        "flops": flops,
        "seconds": _START_SECONDS + computing,
        "memory_bytes": _memory(settings, n_points, dimension, n_samples, data_memory_mb),
    }


def bucket_cost(
    settings: Mapping[str, Any],
    n_points: int,
    shape: tuple[int, int],
    threads: int,
    device: str,
    data_memory_mb: int | None = None,
) -> dict[str, float]:
    """Estimate the cost of a bucket, whose points are trained as one ensemble.

    With `extend_unconverged` the estimate is the worst case: no point converges, and all are trained with 1, 2, 4, ...
    times the samples.

    Parameters
    ----------
    settings : validated settings of the data set
    n_points : number of points in the bucket
    shape : (samples, features) of the data
    threads, device, data_memory_mb : as in `estimate_cost`

    Returns
    -------
    As `estimate_cost`.
    """
    n_samples, dimension = shape
    longest = {**settings, "samples": sum(budgets(settings["extend_unconverged"])) * settings["samples"]}
    return estimate_cost(longest, n_points, dimension, n_samples, threads, device, data_memory_mb)


def planned_points(plan: Path | str, bucket: int) -> int:
    """Return the number of points in a bucket of a plan; 1 while the plan does not exist, as in a dry run.

    Parameters
    ----------
    plan : file of the plan
    bucket : number of the bucket
    """
    points = read_plan(plan) if Path(plan).is_file() else []
    return max(1, sum(point.bucket == bucket for point in points))


def upward_cost(
    settings: Mapping[str, Any], shape: tuple[int, int], threads: int, device: str, data_memory_mb: int | None = None
) -> dict[str, float]:
    """Estimate the cost of an upward sweep (`phasevae.training.hysteresis`).

    It trains all seeds at each `hysteresis_ratio`, one ratio after the other, and then all fresh models at once. Every
    model gets `samples` once, whether it converges or not.

    Parameters
    ----------
    settings : validated settings of the data set, with `hysteresis_ratio`
    shape : (samples, features) of the data
    threads, device, data_memory_mb : as in `estimate_cost`

    Returns
    -------
    As `estimate_cost`.
    """
    n_samples, dimension = shape
    n_steps, n_seeds = len(settings["hysteresis_ratio"]), len(settings["seeds"])
    step, fresh = (
        estimate_cost(settings, n_points, dimension, n_samples, threads, device, data_memory_mb)
        for n_points in (n_seeds, n_steps * n_seeds)
    )
    return fresh | {key: n_steps * step[key] + fresh[key] for key in ("flops", "seconds")}


def matrices_mb(count: float, dimension: int) -> int:
    """Return the size of float64 matrices of D x D, in MiB.

    Parameters
    ----------
    count : number of matrices
    dimension : D
    """
    return math.ceil(count * 8 * dimension**2 / 2**20)


def resource_request(cost: Mapping[str, float], attempt: int = 1, device: str = "cpu") -> dict[str, int]:
    """Return what to ask a batch system for.

    The libraries take 0.4 GB, and 2.5 GB more with CUDA. The two processes of Snakemake around a job take 0.3 GB. The
    estimate of time is good to a factor of about three, and a job should not be ended by its time limit.

    Parameters
    ----------
    cost : estimate of the job's cost
    attempt : number of the attempt at the job, from 1; each attempt asks for more
    device : name of a torch device

    Returns
    -------
    mem_mb and runtime (minutes).
    """
    libraries = 4000 if device.startswith("cuda") else 1500
    return {
        "mem_mb": math.ceil(attempt * (libraries + 1.3 * cost["memory_bytes"] / 2**20)),
        "runtime": math.ceil(attempt * (10 + 3 * cost["seconds"] / 60)),
    }


def further_resources(cluster: Mapping[str, Any], device: str) -> dict[str, str | int]:
    """Return what a training job asks for besides memory and time.

    Parameters
    ----------
    cluster : section `cluster` of the configuration: resources of all `jobs`, and of `training` jobs, which win
    device : name of a torch device; one that starts with 'cuda' asks for one GPU unless `cluster` names GPUs
    """
    given = {**cluster["jobs"], **cluster["training"]}
    named = {"gpu", "gpu_model", "gres"} & given.keys()
    return given if named or not device.startswith("cuda") else {"gpu": 1, **given}


def packed_buckets(n_buckets: int, cost: Mapping[str, float], least_seconds: float) -> int:
    """Return a number of buckets that take long enough on average: `n_buckets`, halved as often as needed.

    Halving keeps the number the same while a sweep grows by a few points.

    Parameters
    ----------
    n_buckets : largest number of buckets
    cost : cost of all points as one ensemble
    least_seconds : time that a bucket should take at least
    """
    while n_buckets > 1 and cost["seconds"] / n_buckets < least_seconds:
        n_buckets = (n_buckets + 1) // 2
    return n_buckets


def _memory(
    settings: Mapping[str, Any], n_points: int, dimension: int, n_samples: int, data_memory_mb: int | None
) -> float:
    """Largest number of bytes held at one time.

    The data, or the windows of them if they do not fit. To them comes the larger of two moments. Start and checkpoint:
    up to ten arrays of the size of the parameters (random numbers of the initial weights, or copies of weights and of
    Adam's moments), permutations of the rows of a chapter, and the features that balance them.
    A step: weights, gradients and two moments; the output of each layer and its gradient, once more for the decoder
    where rows share targets; and what `rao_blackwell_targets` holds: weights before and after the softmax, the factors
    of their product, and targets.
    """
    batch, n_latent = settings["batch"], settings["n_latent"]
    encoder, decoder = layer_widths(settings, dimension)
    draws = 2 if settings["antithetic"] else 1
    group = rows_sharing(batch, settings["rao_blackwell_group"])
    top = _top_widths(settings)
    parameters = sum(map(_n_parameters, (encoder, decoder, *top)))
    of_row = 2 * sum(encoder[1:]) + draws * (3 if group > 1 else 2) * sum(decoder[1:]) + (2 + 2 * draws) * dimension
    of_row += draws * 3 * sum(sum(widths) for widths in top)
    of_row *= _factor(settings)
    if group > 1:
        of_row += 2 * draws * group + (3 + 2 * draws) * (2 * n_latent + 1) + 2 * draws * dimension
    ordered = n_samples if n_samples <= MOST_ROWS else CHAPTER_ROWS
    orders = (_ROW_ORDER_BYTES + 16 * len(settings.get("seeds", [0]))) * ordered
    if settings["balanced_order"]:
        coordinates = min(n_latent, dimension, MOST_COORDINATES)
        orders += 2.5 * _BYTES * ordered * coordinates * (coordinates + 3) / 2
        orders += min(8192, ordered) / 8192 * _BLOCK_BYTES * dimension
    beginning = 10 * _BYTES * n_points * parameters + orders
    step = _BYTES * n_points * (4 * parameters + batch * of_row)
    data = _BYTES * n_samples * dimension
    if data_memory_mb is not None:
        data = min(data, data_memory_mb * 2**20)
    return data + max(beginning, step)


def _factor(settings: Mapping[str, Any]) -> float:
    return OWN_NETWORKS if "module" in (settings.get("network") or {}) else 1.0


def _n_parameters(widths: list[int]) -> int:
    """Weights and biases of a network."""
    return _macs(widths) + sum(widths[1:])


def layer_widths(settings: Mapping[str, Any], dimension: int) -> tuple[list[int], list[int]]:
    """Return the widths of the encoder's layers and of the decoder's, first to last.

    Parameters
    ----------
    settings : settings with `hidden` and `n_latent`
    dimension : number of features
    """
    hidden, n_latent = settings["hidden"], settings["n_latent"]
    return [dimension, *hidden, 2 * n_latent], [n_latent, *reversed(hidden), dimension]


def _top_widths(settings: Mapping[str, Any]) -> list[list[int]]:
    """Return the widths of the networks of a hierarchy's top level; none without one."""
    hierarchy = settings.get("hierarchy")
    if hierarchy is None:
        return []
    hidden, n_latent, n_top = settings["hidden"], settings["n_latent"], hierarchy["n_top"]
    return [[n_latent, *hidden, 2 * n_top], [n_top, *reversed(hidden), n_latent]]


def _macs(widths: list[int]) -> int:
    """Multiplications of a network per row, which is the number of its weights."""
    return sum(a * b for a, b in itertools.pairwise(widths))
