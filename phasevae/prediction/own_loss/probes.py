"""What a loss function does with a batch: found by calling it on a few rows.

A loss that this package can judge is a sum over samples of a reconstruction part and a regulariser, each with a factor
that may depend on the batch size. Everything else is named in one line.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from phasevae.errors import InputError
from phasevae.prediction.own_loss.function import LossFunction

FEW_ROWS = 8
"""Batches of the probes have this number of rows, and half of it."""

_TOLERANCE = {False: 1e-7, True: 2e-3}
"""Relative difference that counts as rounding, in float64 and float32."""


@dataclass(frozen=True)
class Scaling:
    """How the two parts of a loss depend on the batch size: both factors are relative to those of one reference."""

    reconstruction: float  # power of 1 / batch size: 1 for a mean over the batch, 0 for a sum
    regulariser: float

    @property
    def differs(self) -> bool:
        return abs(self.reconstruction - self.regulariser) > 0.01

    def reconstruction_factor(self, rows: int, batch_size: int) -> float:
        """Return what turns a gradient of a batch of `rows` into that of a batch of `batch_size`."""
        return (rows / batch_size) ** self.reconstruction


def starting_outputs(loss: LossFunction, block: NDArray, rows: NDArray) -> tuple[LossFunction, NDArray]:
    """Return the loss in a precision that works, and the constant output [P] with the least loss of a few simple ones.

    Parameters
    ----------
    loss : LossFunction
    block : array [b, D]
        Rows of the target on which the loss is compared.
    rows : array [n, D]
        Rows whose mean is tried: of a few rows it may lie at the end of the domain.

    Raises
    ------
    InputError
        If the loss fails or is not finite at all of them.
    """
    candidates = _candidates(loss, rows)
    for attempt in (loss, replace(loss, single=True)):
        values = np.array([attempt.loss_at(constant, block) for constant in candidates])
        if np.isfinite(values).any():
            return attempt, candidates[int(np.nanargmin(np.where(np.isfinite(values), values, np.nan)))]
    value = float(loss.collapsed_value(loss.outputs(candidates[0], len(block)), loss.x(block)).detach())
    if loss.is_likelihood:
        raise InputError(
            f"likelihood {loss.name}: is {value} for every constant output tried, must be finite for one "
            f"(does it take the logarithm of an output, which may be any real number?)"
        )
    raise InputError(
        f"loss {loss.name}: is {value} at mu = logvar = 0 for every constant reconstruction tried, must be finite for "
        f"one (is its fourth argument the log variance?)"
    )


def check(loss: LossFunction, constant: NDArray, block: NDArray) -> None:
    """Raise InputError unless the loss is a differentiable sum over samples of two separate parts.

    Parameters
    ----------
    loss : LossFunction
    constant : array [P]
        An output at which the loss is finite.
    block : array [FEW_ROWS, D]
        Rows of the target.
    """
    outputs, x = loss.outputs(constant, len(block)), loss.x(block)
    zeros = loss.zeros(len(block))
    ones = torch.ones_like(zeros)
    values = [float(loss.value(outputs, x, part, part).detach()) for part in (zeros, zeros, ones, ones)]
    if values[0] != values[1] or values[2] != values[3]:
        raise InputError(f"loss {loss.name}: is random, must give the same value for the same batch")
    gradient = loss.output_gradient(outputs, x)
    if not torch.isfinite(gradient).all():
        raise InputError(f"loss {loss.name}: its gradient is not finite at a constant reconstruction")
    if not gradient.abs().max() > 0:
        raise InputError(f"loss {loss.name}: does not depend on the reconstruction")
    _check_samples_apart(loss, outputs, x)
    moved = loss.output_gradient(outputs, x, mu=ones)
    if not _equal(loss, moved, gradient):
        raise InputError(
            f"loss {loss.name}: the weight of its reconstruction depends on mu, must be a sum of a reconstruction part "
            f"and a KL part"
        )


def scaling(loss: LossFunction, constant: NDArray, block: NDArray) -> Scaling:
    """Return how the parts of the loss depend on the batch size.

    Parameters
    ----------
    loss, constant, block : as for `check`
    """
    half = len(block) // 2
    x = loss.x(block)
    outputs = loss.outputs(constant, len(block))
    whole = loss.output_gradient(outputs, x)[:half]
    part = loss.output_gradient(outputs[:half], x[:half])
    return Scaling(
        _power(whole, part), _power(*(_mu_gradient(loss, outputs[:n], x[:n])[:half] for n in (2 * half, half)))
    )


def _mu_gradient(loss: LossFunction, outputs: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """The gradient by mu far from zero, where free bits do not hide it."""
    mu = torch.full((len(outputs), loss.n_latent), 3.0, dtype=loss.dtype, requires_grad=True)
    value = loss.value(outputs, x, mu, torch.zeros_like(mu))
    gradient = torch.autograd.grad(value, mu, allow_unused=True)[0] if value.requires_grad else None
    if gradient is None or not gradient.abs().max() > 0:
        raise InputError(f"loss {loss.name}: does not depend on mu, must contain a KL term of mu and logvar")
    return gradient


def _power(whole: torch.Tensor, part: torch.Tensor) -> float:
    """The power of 1 / batch size in a gradient, from a batch and half of it."""
    ratio = float((part * part).sum() / (whole * part).sum())
    return float(np.log2(ratio)) if ratio > 0 else float("nan")


def _check_samples_apart(loss: LossFunction, outputs: torch.Tensor, x: torch.Tensor) -> None:
    """Change half of a batch and look at the gradient of the other half.

    The outputs differ between rows here: a variance over the batch has no gradient where they are equal.
    """
    half = len(x) // 2
    shares = torch.linspace(0, 1, len(x), dtype=loss.dtype)[:, None]
    moved = outputs * (1 - 0.1 * shares) + 0.02 * shares  # probabilities and scales stay in their range
    before = loss.output_gradient(moved, x)
    if not torch.isfinite(before).all():
        return
    turned = torch.cat([moved[:half], moved[half:].flip(0)]), torch.cat([x[:half], x[half:].flip(0).roll(1, 0)])
    copied = torch.cat([moved[:half], moved[:half]]), torch.cat([x[:half], x[:half]])
    for changed in (turned, copied):
        if not _equal(loss, loss.output_gradient(*changed)[:half], before[:half]):
            raise InputError(
                f"loss {loss.name}: mixes samples (the gradient of one depends on the others of its batch, as with "
                f"batch norm, contrastive terms, a variance over the batch or a mean over unmasked tokens), must be a "
                f"sum or mean over samples"
            )


def _equal(loss: LossFunction, a: torch.Tensor, b: torch.Tensor) -> bool:
    return bool((a - b).abs().max() <= _TOLERANCE[loss.single] * b.abs().max())


def _candidates(loss: LossFunction, rows: NDArray) -> list[NDArray]:
    """Constant outputs of a few kinds: those of values, probabilities, logits, log rates and log variances."""
    candidates = []
    if not loss.several_heads and loss.n_outputs == rows.shape[1]:
        mean = rows.mean(0)
        within = np.clip(mean, 0.01, 0.99)
        candidates.append(mean)
        if rows.min() >= 0:
            candidates.append(np.log(np.maximum(mean, 0.01)))
        if rows.min() >= 0 and rows.max() <= 1:
            candidates += [within, np.log(within / (1 - within))]
    if loss.several_heads and loss.sizes[0] == rows.shape[1]:
        rest, variance = loss.n_outputs - rows.shape[1], rows.var(0)
        variance = np.where(variance > 0, variance, variance.max() or 1.0)
        seconds = [np.zeros(rest)]
        if rest == rows.shape[1]:
            seconds += [np.log(variance), 0.5 * np.log(variance), variance, np.sqrt(variance)]
        candidates += [np.concatenate([rows.mean(0), second]) for second in seconds]
    return [*candidates, *(np.full(loss.n_outputs, value) for value in (0.0, 0.5, 1.0))]
