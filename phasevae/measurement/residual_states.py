"""Draws (x, z) from a trained model with the scores and curvatures of its decoder, for the residual spectrum."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from phasevae.kernels import noise
from phasevae.kernels.elbo import posterior_draws
from phasevae.kernels.reconstruction import GaussianReconstruction, Reconstruction
from phasevae.measurement.residual_bases import input_axes
from phasevae.rows import AnyRows, Batch

MOST_ROWS = 2**15
"""Most rows that are used, the same for every point of a data set."""

LEAST_ROWS = 2**11
MOST_DRAWS = 8
"""Most draws per row, in antithetic pairs; there are enough when rows and draws give MOST_ROWS pairs."""

_NUMBERS = 2**24
"""Most numbers of the scores, or of the curvatures, of all rows."""

MOST_INTERACTING = 128
"""Most outputs that may interact, as those of a softmax do: their curvature is a matrix for each draw."""

_BLOCK = 2048
_WIDTH = 0.02
_WIDTH_OF_DATA = 0.1
"""Half the width of the differences that give the curvature: of outputs without a unit, such as logits, and in standard
deviations of the data for errors with kinks."""

Posterior = Callable[[Tensor], tuple[Tensor, Tensor]]
"""From inputs [B, E] to mu and log variance, each [B, n]."""

Decoder = Callable[[Tensor, Tensor | None], Tensor]
"""From latents [B, n] and a condition [B, C] or None to the outputs of the decoder [B, P], with their offset."""


@dataclass(frozen=True)
class States:
    """Draws from the joint distribution of data and latents, A for each of N rows.

    Attributes
    ----------
    inputs : Tensor [N, K']
        What a new latent could be a function of, along `axes` and less its mean over all rows: what the encoder sees,
        the scores of the constant decoder where they are not the rows, and products with a condition.
    axes : Tensor [E, K']
        float64, orthonormal directions of the inputs.
    covariance : Tensor [K', K']
        float64, of the inputs along the axes, over all rows.
    latents : Tensor [A, N, k]
        The active latents.
    scores : Tensor [A, N, P]
        Minus the derivative of the energy by the outputs, at sigma2 = 1.
    curvature : Tensor [A, N, P], [A, N, P, P] or None
        The second derivative: its diagonal where outputs do not interact, None where it is 1.
    condition : Tensor [N, C] or None
    """

    inputs: Tensor
    axes: Tensor
    covariance: Tensor
    latents: Tensor
    scores: Tensor
    curvature: Tensor | None = None
    condition: Tensor | None = None

    def curved(self, moves: Tensor) -> Tensor:
        """Return the curvature times moves [A, N, P] of the outputs."""
        if self.curvature is None:
            return moves
        if self.curvature.ndim == 3:
            return self.curvature * moves
        return (self.curvature @ moves[..., None])[..., 0]


@torch.no_grad()
def draw_states(
    encode: Posterior,
    decode: Decoder,
    rows: AnyRows,
    active: Sequence[int],
    key: int,
    reconstruction: Reconstruction | None = None,
) -> States | None:
    """Draw latents of some rows, the active ones from the posterior and the others from the prior.

    Parameters
    ----------
    encode, decode
        The networks of one model.
    rows : Rows or FileRows
        The full data set.
    active : sequence of int
        Which latents are active.
    key : int
        Key of the stream of random numbers.
    reconstruction : Reconstruction, optional
        The family of likelihoods; Gaussian by default.

    Returns
    -------
    States or None
        None where more than MOST_INTERACTING outputs interact.
    """
    reconstruction = reconstruction or GaussianReconstruction(rows.n_features)
    curvature = _curvature_of(reconstruction, rows.gather(_some(rows, _BLOCK)[None]))
    if curvature.full and reconstruction.n_outputs > MOST_INTERACTING:
        return None
    per_output = reconstruction.n_outputs if curvature.full else 1
    enough = max(LEAST_ROWS, min(MOST_ROWS, _NUMBERS // (2 * reconstruction.n_outputs * per_output)))
    order = _some(rows, enough)
    pairs = max(1, min(MOST_DRAWS // 2, math.ceil(enough / len(rows))))
    parts: list[tuple[Tensor, ...]] = []
    conditions: list[Tensor] = []
    for start in range(0, len(order), _BLOCK):
        batch = Batch(*(None if part is None else part[0] for part in rows.gather(order[None, start : start + _BLOCK])))
        z = _draws(*encode(batch.inputs), active, key, start, pairs)
        condition = None
        if batch.condition is not None:
            conditions.append(batch.condition)
            condition = batch.condition.repeat(len(z), 1)
        outputs = decode(z.flatten(0, 1), condition).unflatten(0, z.shape[:2])
        scores, curved = curvature.at(batch.x, outputs)
        parts.append(
            (_features(batch, rows, curvature), z[..., list(active)], scores, *(() if curved is None else (curved,)))
        )
    inputs = torch.cat([part[0] for part in parts])
    latents, scores, *curved = (torch.cat(column, 1) for column in list(zip(*parts, strict=True))[1:])
    axes = input_axes(inputs)
    mean, covariance = _moments(rows, axes, curvature)
    inputs = inputs @ axes.to(inputs.dtype) - mean.to(inputs.dtype)
    condition = torch.cat(conditions) if conditions else None
    return States(inputs, axes, covariance, latents, scores, curved[0] if curved else None, condition)


def _features(batch: Batch, rows: AnyRows, curvature: _Curvature) -> Tensor:
    """Return what h may be linear in [B, E].

    This is what the encoder sees, the scores of the constant decoder where they are not the rows, and the products of
    all these with the condition, if the encoder sees it.
    """
    features = torch.cat([batch.inputs, *curvature.collapsed_scores(batch)], 1)
    if batch.condition is None or not (rows.conditioning is None or rows.conditioning.encoder_sees):
        return features
    return torch.cat([features, (features[:, :, None] * batch.condition[:, None, :]).flatten(1)], 1)


def _moments(rows: AnyRows, axes: Tensor, curvature: _Curvature) -> tuple[Tensor, Tensor]:
    """Return mean and covariance of the inputs along the axes over all rows, in float64."""
    total, products = axes.new_zeros(axes.shape[1]), axes.new_zeros(axes.shape[1], axes.shape[1])
    shift = None
    for _, batch in rows.blocks(_BLOCK):
        along = (
            _features(Batch(*(None if part is None else part[0] for part in batch)), rows, curvature).double() @ axes
        )
        # Data far from zero keep their digits.
        shift = along.mean(0) if shift is None else shift
        along = along - shift
        total += along.sum(0)
        products += along.T @ along
    mean = total / len(rows)
    return mean + shift, products / len(rows) - torch.outer(mean, mean)


def _some(rows: AnyRows, count: int) -> Tensor:
    """Return the numbers of at most `count` rows, the same for all points of a data set."""
    return noise.subset(noise.key("residual", "rows"), count, len(rows)).to(rows.order_device)


def _draws(mu: Tensor, logvar: Tensor, active: Sequence[int], key: int, start: int, pairs: int) -> Tensor:
    """Return antithetic draws [2 pairs, B, n] of the latents of rows from number `start` on."""
    dead = torch.ones(mu.shape[1], dtype=torch.bool, device=mu.device)
    dead[list(active)] = False
    mu, logvar = mu.masked_fill(dead, 0.0), logvar.masked_fill(dead, 0.0)
    keys = torch.tensor([key], dtype=torch.int64, device=mu.device)
    # The first row of the block is the high word of the step, so each block has rows of its own in the streams.
    steps = torch.arange(pairs, device=mu.device) + (start << 32)
    return posterior_draws(mu[None], logvar[None], keys, steps, antithetic=True)[0]


class _Curvature:
    """Scores and curvatures of a family, from differences of the derivative of its energy.

    Differences serve families with kinks, and operations that can be differentiated only once.
    """

    def __init__(self, reconstruction: Reconstruction, width: Tensor | float, full: bool):
        self._reconstruction, self._width, self.full = reconstruction, width, full

    def at(self, x: Tensor, outputs: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return scores [A, B, P] and curvatures for rows x [B, D] and outputs [A, B, P]."""
        if isinstance(self._reconstruction, GaussianReconstruction):
            return x - outputs, None
        statistics = self._reconstruction.statistics(x[None])
        scores = -self._derivative(statistics, outputs)
        if not self.full:
            return scores, self.product(statistics, outputs, torch.ones_like(outputs))
        units = torch.eye(outputs.shape[-1], dtype=outputs.dtype, device=outputs.device)
        columns = [self.product(statistics, outputs, unit.expand_as(outputs)) for unit in units]
        return scores, torch.stack(columns, -1)

    def collapsed_scores(self, batch: Batch) -> tuple[Tensor, ...]:
        """Return the scores [B, P] of rows [B, D] under the constant decoder; nothing where they are the rows."""
        reconstruction = self._reconstruction
        if isinstance(reconstruction, GaussianReconstruction):
            return ()
        x, condition = batch.x, batch.condition
        columns = None if condition is None else condition[None]
        outputs = reconstruction.with_offset(x.new_zeros(1, len(x), reconstruction.n_outputs), columns)
        return (-self._derivative(reconstruction.statistics(x[None]), outputs)[0],)

    def product(self, statistics: Tensor, outputs: Tensor, vector: Tensor) -> Tensor:
        """Return the curvature times a vector [A, B, P]."""
        move = self._width * vector
        change = self._derivative(statistics, outputs + move) - self._derivative(statistics, outputs - move)
        return change / (2 * self._width)

    @torch.enable_grad()
    def _derivative(self, statistics: Tensor, outputs: Tensor) -> Tensor:
        outputs = outputs[None].detach().requires_grad_()
        unit = torch.ones(1, dtype=outputs.dtype, device=outputs.device)
        energy = self._reconstruction.energy(statistics, outputs, unit)
        return torch.autograd.grad(energy.sum(), outputs)[0][0]


def _curvature_of(reconstruction: Reconstruction, batch: Batch) -> _Curvature:
    """Return the curvature of a family, and whether its outputs interact, from some rows as one stream."""
    x, condition = batch.x[0], batch.condition
    if isinstance(reconstruction, GaussianReconstruction):
        return _Curvature(reconstruction, _WIDTH, full=False)
    of_data = not reconstruction.is_linear and reconstruction.n_outputs == x.shape[1]
    width = _WIDTH_OF_DATA * x.std(0).clamp_min(torch.finfo(x.dtype).tiny) if of_data else _WIDTH
    curvature = _Curvature(reconstruction, width, full=False)
    if reconstruction.n_outputs == 1:
        return curvature
    # A diagonal times a vector of signs is the diagonal times these signs, whatever they are.
    few = x[None, :64]
    columns = None if condition is None else condition[:, :64]
    outputs = reconstruction.with_offset(few.new_zeros(1, few.shape[1], reconstruction.n_outputs), columns)
    signs = torch.ones(reconstruction.n_outputs, dtype=x.dtype, device=x.device)
    signs[::2] = -1
    statistics = reconstruction.statistics(few)
    first, second = (curvature.product(statistics, outputs, s.expand_as(outputs)) * s for s in (signs.abs(), signs))
    scale = first.abs().max().clamp_min(second.abs().max())
    return _Curvature(reconstruction, width, full=bool((first - second).abs().max() > 1e-3 * scale))
