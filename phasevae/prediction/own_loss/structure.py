"""Which outputs of the decoder a loss couples, found from its gradient.

Most losses couple nothing (squared error, cross entropy), or the outputs of one feature (two heads) or of one position
(classes). Their second derivative is then made of small blocks, and everything can be streamed.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from phasevae.prediction.own_loss.function import LossFunction

LARGEST_BLOCK = 512
"""Larger blocks are treated as a loss that couples all outputs."""

_LARGEST_UNIT = 1e3
"""Outputs that are logarithms must not move too far, whatever the unit of the data."""

_TOLERANCE = {False: (1e-9, 1e-12), True: (2e-3, 1e-5)}
"""Gradients that change by less than these parts of the largest change and gradient stay, in float64 and float32."""

_MOVES = 3
"""Number of random halves of the blocks that are moved."""


def coupled_outputs(loss: LossFunction, constant: NDArray, block: NDArray) -> NDArray[np.int64]:
    """Return the blocks of outputs that the loss couples with each other.

    Parameters
    ----------
    loss : LossFunction
    constant : array [P]
        An output at which the loss is finite.
    block : array [b, D]
        Rows of the target.

    Returns
    -------
    array [blocks, k]
        Numbers of the outputs. A single block of all outputs if no finer division holds.
    """
    for blocks in _divisions(loss):
        if blocks.shape[1] <= LARGEST_BLOCK and _are_apart(loss, constant, block, blocks):
            return blocks
    return np.arange(loss.n_outputs)[None]


def _divisions(loss: LossFunction) -> list[NDArray]:
    """Candidates, the finest first: single outputs, heads of a feature, the first or last axis of an output."""
    numbers = np.arange(loss.n_outputs)
    divisions = [numbers[:, None]]
    if len(set(loss.sizes)) == 1 and len(loss.sizes) > 1:
        divisions.append(numbers.reshape(len(loss.sizes), -1).T)
    for axis in (0, -1):
        if len(loss.output_shapes) == 1 and len(loss.output_shapes[0]) > 1:
            shaped = np.moveaxis(numbers.reshape(loss.output_shapes[0]), axis, -1)
            divisions.append(shaped.reshape(-1, shaped.shape[-1]))
    return sorted(divisions, key=lambda blocks: blocks.shape[1])


def _are_apart(loss: LossFunction, constant: NDArray, block: NDArray, blocks: NDArray) -> bool:
    """Whether the gradient of a block stays as it is when others move."""
    if len(blocks) == 1:
        return False
    rng, x = np.random.default_rng(0), loss.x(block)
    offset = 0.01 * np.clip(np.std(block), 1, _LARGEST_UNIT)  # an output of 0 has to move, too
    outputs = loss.outputs(constant, len(block))
    before = loss.output_gradient(outputs, x)
    for _ in range(_MOVES):
        moved = rng.permutation(len(blocks)) < max(1, len(blocks) // 2)
        sizes = rng.uniform(0.5, 0.95, loss.n_outputs)  # a factor keeps probabilities and scales in their range
        shifts = np.ones(loss.n_outputs)
        shifts[blocks[moved].ravel()] = sizes[blocks[moved].ravel()]
        offsets = np.where(shifts < 1, offset, 0.0)
        changed = outputs * torch.as_tensor(shifts) + torch.as_tensor(offsets)
        after = loss.output_gradient(changed.to(loss.dtype), x)
        kept = torch.as_tensor(blocks[~moved].ravel())
        if not torch.isfinite(after).all():
            return False
        change = (after - before).abs()
        part, rounding = _TOLERANCE[loss.single]
        if change[:, kept].max() > max(part * change.max(), rounding * before.abs().max()):
            return False
    return True
