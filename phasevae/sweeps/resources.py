"""What jobs cost, and what a batch system is asked for: operations, time and memory of a training.

No result depends on these estimates, so the training does not import them: a better estimate retrains nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from phasevae.sweeps.memory import job_memory
from phasevae.sweeps.network_sizes import layer_widths, multiplications, n_parameters, own_factor, top_widths
from phasevae.sweeps.plan import read_plan
from phasevae.sweeps.points import budgets
from phasevae.sweeps.settings import rows_sharing

CPU_FLOPS = 25e9
"""Float32 operations per second of one thread of a present-day processor, in matrix products of the usual sizes."""

CUDA_FLOPS = 1e12
"""The same for a GPU: at most a tenth of the data sheets' numbers, because the matrices of single models are small."""

_STEP_SECONDS = 1e-3  # a training step of the smallest ensemble
_START_SECONDS = 5.0  # imports, reading and checking the data
MOST_PAIRS, ENOUGH_PAIRS, LIKELIHOOD_ROWS, LIKELIHOOD_DRAWS = 8, 2**19, 4096, 256
"""Copies of the constants in phasevae.measurement.measure, which loads torch."""


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
    without the libraries (`phasevae.sweeps.memory`); for a GPU an upper bound for its memory and for that of the host.
    """
    encoder, decoder = layer_widths(settings, dimension)
    of_draw = multiplications(decoder) + sum(map(multiplications, top_widths(settings)))
    draws = 2 if settings["antithetic"] else 1
    shared = rows_sharing(settings["batch"], settings["rao_blackwell_group"]) > 1
    training = 6.0 * multiplications(encoder) + draws * (8.0 if shared else 6.0) * of_draw
    pairs = min(MOST_PAIRS, math.ceil(ENOUGH_PAIRS / max(1, n_samples)))
    measuring = (2.0 * multiplications(encoder) + 4.0 * pairs * of_draw) * n_samples
    measuring += 2.0 * min(n_samples, LIKELIHOOD_ROWS) * LIKELIHOOD_DRAWS * of_draw
    flops = own_factor(settings) * n_points * (training * settings["samples"] + measuring)
    rate = CUDA_FLOPS if device.startswith("cuda") else CPU_FLOPS * threads
    computing = max(flops / rate, _STEP_SECONDS * settings["samples"] / settings["batch"])
    return {
        "parameters": n_parameters(settings, dimension),
        "flops": flops,
        "seconds": _START_SECONDS + computing,
        "memory_bytes": job_memory(settings, n_points, dimension, n_samples, threads, device, data_memory_mb),
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
