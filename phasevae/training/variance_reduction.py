"""What the decoder is fitted to: targets with the same expected gradient as the rows themselves, and far less noise.

Close to collapse nearly all noise of the decoder's gradient is the scatter of x about E[x | z], and most of the rest is
the chance by which a batch's mean differs from the data's. M models, B rows, A draws per row, n latents, D features.
"""

from __future__ import annotations

import torch
from torch import Tensor

from phasevae.errors import InputError

NOISE_ROWS, ROWS_OF_A_LATENT = 64, 16
"""Rows of a batch, at least and for each latent, whose noise is changed: a smaller one's would not look Gaussian."""

_ITERATIONS = 6


def moment_matched_noise(z: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    """Draws whose noise, over the rows of the batch, has the variance 1 in each latent and no covariance of two.

    z: [M, A, B, n], draws of `reparam_kl`; mu, logvar: [M, B, n]. Returns z with its noise eps replaced
    by eps C^(-1/2), C = eps^T eps / B: the same for both signs, and normal up to order n / B. That ties the rows of a
    batch together: second moments are exact, fourth ones off by order n / B. Batches of fewer than NOISE_ROWS rows, or
    ROWS_OF_A_LATENT for each latent, are left as they are.
    """
    rows, n_latent = mu.shape[1:]
    if rows < max(NOISE_ROWS, ROWS_OF_A_LATENT * n_latent):
        return z
    deviation = (0.5 * logvar).exp()
    with torch.no_grad():
        eps = (z - mu[:, None]) / deviation[:, None]
        root = _inverse_root(eps[:, 0].mT @ eps[:, 0] / rows)
        eps = eps @ root[:, None]
    return mu[:, None] + deviation[:, None] * eps


def _inverse_root(near_one: Tensor) -> Tensor:
    """C^(-1/2) of matrices [M, n, n] whose eigenvalues lie between 0 and 3, by Newton's and Schulz's iteration: of
    products alone, which wait for no device. Six steps reach float32 between 0.3 and 2.2."""
    one = torch.eye(near_one.shape[-1], dtype=near_one.dtype, device=near_one.device)
    root, inverse = near_one, one.expand_as(near_one)
    for _ in range(_ITERATIONS):
        step = 1.5 * one - 0.5 * inverse @ root
        root, inverse = root @ step, step @ inverse
    return inverse


@torch.no_grad()
def rao_blackwell_targets(
    x: Tensor, mean: Tensor, mu: Tensor, logvar: Tensor, z: Tensor, xhat: Tensor, group: int
) -> Tensor:
    """E[x | z] among the rows of a group, free of the chance in the batch's mean.

    A latent z_a drawn for one row may as well have been drawn for row b of its group, with the probability w_ab that is
    proportional to q(z_a | x_b). Averaging the squared error over these rows (Rao & Blackwell) changes no expectation
    of the decoder's gradient, and takes out the scatter of x around E[x | z]. The rows it averages are those of
    `_without_chance_of_mean`.

    x: [M, B, D], or [1, B, D] shared by all models; mean: [D], that of the data which the rows are drawn from; mu,
    logvar: [M, B, n]; z: [M, A, B, n]; xhat: [M, A, B, D], what is decoded; group: rows of a group, a divisor of B,
    neighbours in the batch. Returns [M, A, B, D]; nothing is differentiated.
    Raises InputError when `group` does not divide B.
    """
    models, draws, rows = z.shape[:3]
    if group < 1 or rows % group:
        raise InputError(f"decoder_targets: group {group}, must be a divisor of the {rows} rows")
    groups = rows // group
    # A group within one half, so that its targets know nothing of the other.
    x = _without_chance_of_mean(x, mean, xhat, groups // 2 * group).expand(models, -1, -1)
    precision = (-logvar).exp()
    # log q(z | x_b) up to what all b share, as one product of (z^2, z, 1) with three vectors of row b.
    of_rows = torch.cat((-0.5 * precision, mu * precision, -0.5 * (mu.square() * precision + logvar)), -1)
    of_rows = of_rows.unflatten(1, (-1, group))
    of_draws = z.unflatten(2, (-1, group)).transpose(1, 2).flatten(2, 3)
    of_draws = torch.cat((of_draws.square(), of_draws, torch.ones_like(of_draws)), -1)
    weights = (of_draws.flatten(0, 1) @ of_rows.flatten(0, 1).mT).softmax(-1)
    means = weights @ x.reshape(models * groups, group, -1)
    return means.view(models, groups, draws, group, -1).transpose(1, 2).reshape(models, draws, rows, -1)


def _without_chance_of_mean(x: Tensor, mean: Tensor, xhat: Tensor, split: int) -> Tensor:
    """Rows less a control variate of expectation zero: how far the other half's mean is from the data's mean.

    Rows before `split` are one half, the others the other one; shapes as in `decoder_targets`. What the decoder has
    explained of a feature scatters no more, so the deviation counts by the part of the feature's variance left
    unexplained: that makes the noise least, and neither part knows of the other's rows. Halves of a batch of balanced
    rows (`training.row_order`) are not independent: docs/training.md has the size of that bias. x itself where a half
    is empty.
    """
    if not 0 < split < x.shape[1]:
        return x
    centred = x - mean
    left = x - xhat.mean(1)
    halves = slice(None, split), slice(split, None)
    steady = []
    for own, other in (halves, halves[::-1]):
        variance = centred[:, own].square().sum(1, keepdim=True).clamp(min=torch.finfo(x.dtype).tiny)
        unexplained = ((left[:, own] * centred[:, own]).sum(1, keepdim=True) / variance).clamp(0, 1)
        steady.append(x[:, own] - unexplained * centred[:, other].mean(1, keepdim=True))
    return torch.cat(steady, 1)
