"""The residual spectrum without a basis: power iteration on sampled data, extrapolated to infinitely many samples.

With B rows x_b and L draws z_l of the active latents, conditional means are averages over the rows with weights
w_lb = q(z_l | x_b) / sum_b q(z_l | x_b), and h is any function on the rows. The estimate has a bias in 1/B and in 1/L.
It takes much longer than `residual_spectrum`, which it checks: it bounds what the basis there leaves out.

Estimator and extrapolation are those of Li, arXiv:2610.11257, supplement.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from phasevae.kernels import noise
from phasevae.model import VAEEnsemble
from phasevae.rows import AnyRows, Rows
from phasevae.sweeps.settings import Member

ROWS = (1024, 2048, 4096)
DRAWS = (256, 512, 1024)
REPEATS = 16
PRIOR_DRAWS = 128
"""Shared draws of the dead latents that the decoder is averaged over."""

_STEPS, _TOLERANCE = 100, 1e-6


@dataclass(frozen=True)
class ExtrapolatedSpectrum:
    """The leading eigenvalues for infinitely many samples.

    Attributes
    ----------
    eigenvalues, standard_errors : array [modes]
        The intercept of the fit Lambda + b / B + c / L. It may be a little too small.
    largest_cell : array [modes]
        The means of the cell with the most rows and draws. They are a little too large.
    cells : array [rows, draws, modes]
        The means over the repeats.
    """

    eigenvalues: NDArray
    standard_errors: NDArray
    largest_cell: NDArray
    cells: NDArray


@torch.no_grad()
def extrapolated_spectrum(
    model: VAEEnsemble,
    rows: AnyRows | Tensor,
    member: Member,
    active: Sequence[int],
    n_rows: Sequence[int] = ROWS,
    n_draws: Sequence[int] = DRAWS,
    repeats: int = REPEATS,
    modes: int = 1,
) -> ExtrapolatedSpectrum:
    """Estimate the leading eigenvalues of the residual operator of a model with a Gaussian decoder.

    Parameters
    ----------
    model : VAEEnsemble
        An ensemble of one model.
    rows : Rows, FileRows, or Tensor [N, D]
        The full data set. A tensor is taken as centred rows.
    member : Member
        The decoder variance, beta and seed of the model; they key the random numbers.
    active : sequence of int
        The active latents.
    n_rows, n_draws : sequence of int
        The values of B and of L. Each pair is a cell of the fit.
    repeats : int
        Disjoint draws of each cell, where the data have enough rows.
    modes : int

    Returns
    -------
    ExtrapolatedSpectrum

    References
    ----------
    Li, "Residual spectral instabilities in representation learning", arXiv:2610.11257.
    """
    data = Rows.of(rows)
    generator = torch.Generator().manual_seed(noise.point_key("residual", member.seed, member.sigma2, member.beta))
    means, variances = (np.empty((len(n_rows), len(n_draws), modes)) for _ in range(2))
    for i, size in enumerate(n_rows):
        for j, count in enumerate(n_draws):
            values = np.array(
                [_eigenvalues(_sampled(model, data, active, size, count, generator), modes) for _ in range(repeats)]
            )
            means[i, j], variances[i, j] = values.mean(0), values.var(0, ddof=1) / repeats
    inverse = np.array([[1.0, 1 / size, 1 / count] for size in n_rows for count in n_draws])
    fits = [_intercept(inverse, means[..., k].ravel(), variances[..., k].ravel()) for k in range(modes)]
    eigenvalues, errors = np.array(fits).T
    return ExtrapolatedSpectrum(eigenvalues, errors, means[-1, -1], means)


def _sampled(
    model: VAEEnsemble, data: AnyRows, active: Sequence[int], size: int, count: int, generator: torch.Generator
) -> tuple[Callable[[Tensor], Tensor], int]:
    """Return the operator on functions of `size` sampled rows [B, K], from `count` draws of the active latents."""
    drawn = torch.randint(len(data), (size + count,), generator=generator).to(data.order_device)
    batch = data.gather(drawn[None])
    mu, logvar = (part[0] for part in model.encode(batch.inputs))
    chosen, n = list(active), mu.shape[1]
    unit = torch.randn(count, len(chosen), generator=generator, dtype=torch.float64).to(mu)
    z = mu[size:, chosen] + (0.5 * logvar[size:, chosen]).exp() * unit
    prior = torch.randn(PRIOR_DRAWS, n, generator=generator, dtype=torch.float64).to(mu)
    latents = prior[:, None].repeat(1, count, 1)
    latents[..., chosen] = z
    decoded = model.decode(latents.flatten(0, 1)[None])[0].unflatten(0, (PRIOR_DRAWS, count)).mean(0)
    mean, variance = mu[:size, chosen], logvar[:size, chosen].exp()
    log_density = -0.5 * ((z[:, None] - mean).square() / variance + variance.log()).sum(-1)
    weights = log_density.double().softmax(1)
    x, fitted, scale = batch.x[0, :size].double(), decoded.double(), size / count

    def apply(h: Tensor) -> Tensor:
        result = torch.empty_like(h)
        for k in range(h.shape[1]):
            fields = weights @ (x * h[:, k : k + 1]) - fitted * (weights @ h[:, k : k + 1])
            result[:, k] = ((weights.T @ fields) * x).sum(1) - weights.T @ (fields * fitted).sum(1)
        return scale * (result - result.mean(0))

    return apply, size


def _eigenvalues(operator: tuple[Callable[[Tensor], Tensor], int], modes: int) -> NDArray:
    """Return the largest eigenvalues by power iteration on a few centred functions at once."""
    apply, size = operator
    start = torch.randn(size, modes + min(modes, 4), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    functions = torch.linalg.qr(start - start.mean(0))[0]
    before = None
    for _ in range(_STEPS):
        image = apply(functions)
        values = torch.linalg.eigvalsh(functions.T @ image).flip(0)[:modes].numpy()
        if before is not None and np.abs(values - before).max() < _TOLERANCE * values[0]:
            break
        before, functions = values, torch.linalg.qr(image)[0]
    return values


def _intercept(columns: NDArray, means: NDArray, variances: NDArray) -> tuple[float, float]:
    """Return the intercept of a weighted least-squares fit and its standard error."""
    root = 1 / np.sqrt(np.maximum(variances, np.finfo(float).tiny))
    covariance = np.linalg.inv((columns * root[:, None]).T @ (columns * root[:, None]))
    coefficients = covariance @ (columns * root[:, None]).T @ (means * root)
    return float(coefficients[0]), float(covariance[0, 0] ** 0.5)
