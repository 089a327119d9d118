"""The functions that the residual spectrum is restricted to: of the inputs, and of the active latents."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor

MOST_LATENT_FUNCTIONS = 64
MOST_INPUTS = 256
ROWS_PER_INPUT = 32
"""Leading principal components of the inputs that h may depend on: at most MOST_INPUTS, each with so many rows."""

_REDUCED = 64
_WIDE = 1024
_SPARE, _ITERATIONS = 8, 4
_NO_VARIANCE = 1e-9


@dataclass(frozen=True)
class LatentBasis:
    """Functions of the active latents, and of the condition: 1 and polynomials of degree up to 2.

    Products of two latents are left out where there are too many of them, then squares, then latents. The functions are
    not orthonormal. The first is the constant 1.

    Attributes
    ----------
    mean, spread : Tensor [k + C]
        Of latents and condition over the draws that the functions are standardised for.
    """

    mean: Tensor
    spread: Tensor

    @classmethod
    def of(cls, latents: Tensor, condition: Tensor | None = None) -> LatentBasis:
        """Return the functions that are standardised for draws [A, N, k] and a condition [N, C]."""
        variables = _variables(latents, condition)
        if variables.shape[-1] == 0:
            return cls(variables[0, 0], variables[0, 0])
        spread, mean = torch.std_mean(variables, (0, 1), correction=0)
        return cls(mean, spread.clamp_min(_NO_VARIANCE))

    def __call__(self, latents: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return the functions [A, N, m] at draws [A, N, k] and a condition [N, C]."""
        variables = (_variables(latents, condition) - self.mean) / self.spread
        n_variables = variables.shape[-1]
        functions = [latents.new_ones(*latents.shape[:2], 1), variables]
        if 1 + 2 * n_variables <= MOST_LATENT_FUNCTIONS:
            functions.append(variables.square() - 1)
        pairs = list(itertools.combinations(range(n_variables), 2))
        if pairs and 1 + 2 * n_variables + len(pairs) <= MOST_LATENT_FUNCTIONS:
            first, second = zip(*pairs, strict=True)
            functions.append(variables[..., first] * variables[..., second])
        return torch.cat(functions, -1)[..., :MOST_LATENT_FUNCTIONS]


def _variables(latents: Tensor, condition: Tensor | None) -> Tensor:
    """Return latents [A, N, k] and condition [N, C] beside each other, [A, N, k + C]."""
    return latents if condition is None else torch.cat([latents, condition.expand(latents.shape[0], -1, -1)], -1)


def input_axes(inputs: Tensor) -> Tensor:
    """Return directions of inputs that h may depend on, orthonormal [E, K'], from some rows [N, E].

    All directions, or the leading principal ones where the inputs are wide. Those are found by subspace iteration.
    """
    n_rows, width = inputs.shape
    if width <= _WIDE:
        return torch.eye(width, dtype=torch.float64, device=inputs.device)
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(width, _kept(n_rows, width) + _SPARE, generator=generator, dtype=inputs.dtype)
    axes, centred = start.to(inputs.device), inputs - inputs.mean(0)
    for _ in range(_ITERATIONS):
        axes = torch.linalg.qr(centred.T @ (centred @ axes))[0]
    return axes.double()


def whitening(covariance: Tensor, n_rows: int) -> Tensor:
    """Return the map [K', K] to the leading principal components in units of their standard deviation.

    Parameters
    ----------
    covariance : Tensor [K', K']
        float64.
    n_rows : int
        Number of rows that products with the components are averaged over.
    """
    values, vectors = torch.linalg.eigh(covariance)
    kept = _kept(n_rows, len(values))
    values, vectors = values.flip(0)[:kept], vectors.flip(1)[:, :kept]
    varying = values > _NO_VARIANCE * values[0]
    return vectors[:, varying] / values[varying].sqrt()


def _kept(n_rows: int, width: int) -> int:
    return min(width, MOST_INPUTS, max(1, n_rows // ROWS_PER_INPUT))


def unbiased_square(parts: Tensor) -> Tensor:
    """Return the mean of M_r^T M_s over pairs of different parts, [K, K], for M of shape [parts, F, K]."""
    n_parts, total = len(parts), parts.sum(0)
    own = torch.einsum("rfk,rfl->kl", parts, parts)
    return (total.T @ total - own) / (n_parts * (n_parts - 1))


def leading_functions(parts: Tensor) -> Tensor:
    """Return the leading eigenvectors [K, K'] of `unbiased_square`, or the identity where K is small."""
    width = parts.shape[-1]
    if width <= _REDUCED:
        return torch.eye(width, dtype=torch.float64, device=parts.device)
    return torch.linalg.eigh(unbiased_square(parts))[1].flip(1)[:, :_REDUCED]
