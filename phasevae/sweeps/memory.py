"""The memory of a training job: an estimate of the most bytes that it holds at one time, without the libraries.

It is within about a third of what was measured with both backends (tests/sweeps/test_resources.py).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from phasevae.kernels.backends import family, torch_build
from phasevae.sweeps.network_sizes import layer_widths, n_parameters, own_factor, top_widths
from phasevae.sweeps.settings import GAUSSIAN, rows_sharing

_BYTES = 4  # float32
_ROW_ORDER_BYTES = 120  # per row of a chapter, while a permutation is drawn

MOST_COORDINATES = 16
"""Copy of the constant in phasevae.training.row_order, which loads torch."""

MOST_ROWS, CHAPTER_ROWS = 2**20, 2**18
"""Copies of the constants in phasevae.training.chapters, which loads torch."""

MOST_MATCHED = 16
"""Copy of the constant in phasevae.kernels.native, which loads torch."""

PARTS, MOST_LATENT_FUNCTIONS, MOST_FUNCTIONS, ROWS_PER_INPUT = 16, 64, 64, 32
"""Copies of the constants of the residual spectrum in phasevae.measurement, which loads torch; MOST_FUNCTIONS of the
inputs are its `residual_bases._REDUCED`."""

MOST_STATES, LEAST_STATES, MOST_PAIRS_OF_STATES, SCORE_NUMBERS = 2**15, 2**11, 4, 2**24
"""Copies of MOST_ROWS, LEAST_ROWS, half of MOST_DRAWS and _NUMBERS of phasevae.measurement.residual_states."""

BLOCK, PASS_NUMBERS = 2048, 2**21
"""Copies of the constants in phasevae.measurement.measure."""

_BLOCK_BYTES = 8192 * (4 + 2 * 8)  # per feature, for the rows whose principal axes are computed
_FIELDS_AT_ONCE, _SCORES_AT_ONCE, _PASSES_AT_ONCE = 7.0, 5.5, 3.0  # copies that the measurement holds, as measured


def job_memory(
    settings: Mapping[str, Any],
    n_points: int,
    dimension: int,
    n_samples: int,
    threads: int,
    device: str,
    data_memory_mb: int | None = None,
) -> float:
    """Return the largest number of bytes that the training and measurement of an ensemble hold at one time.

    The data, or the windows of them if they do not fit; and weights, gradients and Adam's two moments of all models. To
    them comes the largest of three moments:

    * Start and checkpoint: up to six more arrays of the size of the weights (random numbers of the initial weights, or
      copies), permutations of the rows of a chapter, and the features that balance them.
    * A step. It is that of PyTorch's operations, which hold the most, unless it is known to be native.
    * The measurement of a model.

    Parameters
    ----------
    settings : validated settings of the data set
    n_points : number of models
    dimension : number of features
    n_samples : number of samples; 0 counts the training alone
    threads : threads of the processor
    device : name of a torch device
    data_memory_mb : memory for the samples; without it they are taken to fit the memory
    """
    data = _BYTES * n_samples * dimension
    fits = data_memory_mb is None or data <= data_memory_mb * 2**20
    held = _BYTES * n_points * n_parameters(settings, dimension)
    step, fewer = n_points * _torch_step(settings, dimension), (threads - 1) * _torch_step(settings, dimension)
    if fits and _has_native_steps(settings, n_points, threads, device):
        # Of a bucket fewer may be left to train than threads, which may be by PyTorch's operations.
        step = max(threads * _native_step(settings, dimension), fewer)
    measuring = _measurement(settings, dimension, n_samples) if n_samples else 0.0
    beginning = 6 * held + _orders(settings, dimension, n_samples)
    return (data if fits else data_memory_mb * 2**20) + 4 * held + max(beginning, step, measuring)


def _orders(settings: Mapping[str, Any], dimension: int, n_samples: int) -> float:
    ordered = n_samples if n_samples <= MOST_ROWS else CHAPTER_ROWS
    orders = (_ROW_ORDER_BYTES + 16 * len(settings.get("seeds", [0]))) * ordered
    if settings["balanced_order"]:
        coordinates = min(settings["n_latent"], dimension, MOST_COORDINATES)
        orders += 2.5 * _BYTES * ordered * coordinates * (coordinates + 3) / 2
        orders += min(8192, ordered) / 8192 * _BLOCK_BYTES * dimension
    return orders


def _torch_step(settings: Mapping[str, Any], dimension: int) -> float:
    """For each model the output of each layer and its gradient, once more for the decoder where rows share targets; and
    what `rao_blackwell_targets` holds: weights before and after the softmax, the factors of their product, and targets.
    """
    batch, n_latent = settings["batch"], settings["n_latent"]
    encoder, decoder = layer_widths(settings, dimension)
    draws, group = _draws(settings), rows_sharing(batch, settings["rao_blackwell_group"])
    of_row = 2 * sum(encoder[1:]) + draws * (3 if group > 1 else 2) * sum(decoder[1:]) + (2 + 2 * draws) * dimension
    of_row += draws * 3 * sum(map(sum, top_widths(settings)))
    of_row *= own_factor(settings)
    if group > 1:
        of_row += 2 * draws * group + (3 + 2 * draws) * (2 * n_latent + 1) + 2 * draws * dimension
    return _BYTES * batch * of_row


def _native_step(settings: Mapping[str, Any], dimension: int) -> float:
    """What each thread holds for the model that it trains (`StepMemory` of csrc/cpu/step.cpp), and its weights in the
    order of the kernels."""
    encoder, decoder = layer_widths(settings, dimension)
    draws, n_latent = _draws(settings), settings["n_latent"]
    of_row = sum(encoder) + draws * sum(decoder) + (1 + 5 * draws) * dimension + (9 + 3 * draws) * n_latent
    return _BYTES * (settings["batch"] * of_row + n_parameters(settings, dimension))


def _has_native_steps(settings: Mapping[str, Any], n_points: int, threads: int, device: str) -> bool:
    """Whether all steps are known to be native: see `NativeSteps` of phasevae.training.native_steps.

    The family of the backend is that of this process, as for the digests of the points. Where a job may get a GPU it is
    not known what computes.
    """
    is_cpu = device == "cpu" or (device == "auto" and "+cpu" in (torch_build() or ""))
    matches = settings["moment_matched_noise"]
    return (
        is_cpu
        and threads <= n_points
        and settings.get("likelihood", GAUSSIAN) in (GAUSSIAN, "bernoulli")
        and settings.get("hierarchy") is None
        and "condition" not in settings
        and settings.get("kind") != "conditional"
        and own_factor(settings) == 1
        and (not matches or settings["n_latent"] <= MOST_MATCHED)
        and family() == "native"
    )


def _measurement(settings: Mapping[str, Any], dimension: int, n_samples: int) -> float:
    """The passes of a model over the data; then, for its residual spectrum, the products of the decoder's scores with
    functions of the latents and of the inputs, in parts of the rows. All latents are taken to be active."""
    widest = max([dimension, *settings["hidden"]])
    passes = _PASSES_AT_ONCE * _BYTES * max(PASS_NUMBERS, 2 * BLOCK * widest) * own_factor(settings)
    if settings.get("hierarchy") is not None:
        return passes
    enough = max(LEAST_STATES, min(MOST_STATES, SCORE_NUMBERS // (2 * dimension)))
    draws = 2 * min(MOST_PAIRS_OF_STATES, math.ceil(enough / n_samples))
    rows = min(enough, n_samples)
    scores = _BYTES * draws * rows * dimension
    if settings.get("likelihood", GAUSSIAN) != GAUSSIAN:
        scores *= 2  # and their curvature
    functions = _latent_functions(settings["n_latent"]) * min(MOST_FUNCTIONS, dimension, max(1, rows // ROWS_PER_INPUT))
    fields = 8 * PARTS * functions * dimension
    return max(passes, _FIELDS_AT_ONCE * fields + _SCORES_AT_ONCE * scores)


def _latent_functions(n_latent: int) -> int:
    """How many functions of the latents `residual_bases.LatentBasis` takes: products and squares only if they fit."""
    squares, products = 1 + 2 * n_latent, n_latent * (n_latent - 1) // 2
    counts = (squares + products, squares, 1 + n_latent)
    return next((count for count in counts if count <= MOST_LATENT_FUNCTIONS), MOST_LATENT_FUNCTIONS)


def _draws(settings: Mapping[str, Any]) -> int:
    return 2 if settings["antithetic"] else 1
