"""Variance reduction of the gradients: moment-matched noise, and Rao-Blackwellised targets with a control variate.

Close to collapse nearly all noise of the decoder's gradient is the scatter of x about E[x | z], and most of the rest is
the difference between the mean of a batch and that of the data. The decoder is therefore fitted to targets with the
same expected gradient as the rows themselves and far less noise.

Shapes: M models, B rows, A draws per row, n latents, D features.
"""

from __future__ import annotations

import torch
from torch import Tensor

from phasevae.errors import InputError
from phasevae.kernels.dispatch import implementation

NOISE_ROWS, ROWS_OF_A_LATENT = 64, 16
"""The smallest batch whose noise is matched: rows, and rows per latent. The noise of a smaller batch would not look
Gaussian."""

_ITERATIONS = 6


def moment_matched_noise(z: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    """Rescale the noise of a batch such that its second moments over the rows are exactly those of a normal.

    The noise eps becomes eps C^(-1/2), C = eps^T eps / B, with the same C for both signs: variance 1 in each latent and
    no covariance between two. This makes the rows of a batch dependent. The noise stays normal up to order n / B, the
    relative error of its fourth moments.

    Parameters
    ----------
    z : Tensor [M, A, B, n]
        Draws of `reparam_kl`.
    mu, logvar : Tensor [M, B, n]
        The posterior they were drawn from.

    Returns
    -------
    Tensor [M, A, B, n]
        z itself for batches of fewer than NOISE_ROWS rows, or fewer than ROWS_OF_A_LATENT rows per latent.
    """
    if not is_matched(*mu.shape[1:]):
        return z
    if _in_one_launch(mu):
        return implementation(mu.device.type).match_moments(z.detach(), mu, logvar)
    deviation = (0.5 * logvar).exp()
    with torch.no_grad():
        eps = (z - mu[:, None]) / deviation[:, None]
        root = _inverse_root(eps[:, 0].mT @ eps[:, 0] / mu.shape[1])
        eps = eps @ root[:, None]
    return mu[:, None] + deviation[:, None] * eps


def is_matched(rows: int, n_latent: int) -> bool:
    """Whether a batch is large enough for moment-matched noise."""
    return rows >= max(NOISE_ROWS, ROWS_OF_A_LATENT * n_latent)


def _in_one_launch(mu: Tensor) -> bool:
    """Whether a kernel matches the noise, instead of about fifty operations."""
    return mu.shape[-1] <= implementation(mu.device.type).MOST_MATCHED


def _inverse_root(matrices: Tensor) -> Tensor:
    """Compute C^(-1/2) of matrices [M, n, n] with eigenvalues between 0 and 3 by the Newton-Schulz iteration.

    It consists of products alone, so the host does not wait for the device. Six steps reach the precision of float32
    for eigenvalues between 0.3 and 2.2.
    """
    identity = torch.eye(matrices.shape[-1], dtype=matrices.dtype, device=matrices.device)
    root, inverse = matrices, identity.expand_as(matrices)
    for _ in range(_ITERATIONS):
        step = 1.5 * identity - 0.5 * inverse @ root
        root, inverse = root @ step, step @ inverse
    return inverse


@torch.no_grad()
def rao_blackwell_targets(
    x: Tensor,
    mean: Tensor | None,
    mu: Tensor,
    logvar: Tensor,
    z: Tensor,
    xhat: Tensor,
    group: int,
    classes: Tensor | None = None,
) -> Tensor:
    """Compute E[x | z] among the rows of a group, after a control variate has steadied the rows.

    A latent z_a drawn for one row could equally have been drawn for row b of its group, with a probability w_ab
    proportional to q(z_a | x_b). Averaging the squared error over these rows (Rao & Blackwell) does not change the
    expectation of the decoder's gradient, and removes the scatter of x around E[x | z]. The averaged rows are those of
    `_with_control_variate`.

    Parameters
    ----------
    x : Tensor [M, B, D] or [1, B, D]
        The rows; with 1 they are shared by all models.
    mean : Tensor [D], or [C, D] with classes, or None
        The mean of the data that the rows are drawn from, or of each class. Without it there is no control variate.
    mu, logvar : Tensor [M, B, n]
        The posterior.
    z : Tensor [M, A, B, n]
        Draws from it.
    xhat : Tensor [M, A, B, D]
        The decoder means of z.
    group : int
        Rows of a group, neighbours in the batch; a divisor of B.
    classes : Tensor [M or 1, B, C], optional
        The class of each row as columns of 0 and 1. The average is then E[x | z, c], over the rows of the same class.

    Returns
    -------
    Tensor [M, A, B, D]
        Not differentiable.

    Raises
    ------
    InputError
        If `group` does not divide B.
    """
    models, draws, rows = z.shape[:3]
    if group < 1 or rows % group:
        raise InputError(f"rao_blackwell_targets: group {group}, must be a divisor of the {rows} rows")
    kernels = implementation(x.device.type)
    if classes is None and x.device.type in kernels.TARGET_DEVICES:
        return kernels.rao_blackwell_targets(x, mean, mu, logvar, z, xhat, group)
    groups = rows // group
    # Each group lies within one half of the batch, so its targets are independent of the other half.
    if mean is not None:
        x = _with_control_variate(x, mean, xhat, groups // 2 * group, classes)
    x = x.expand(models, -1, -1)
    precision = (-logvar).exp()
    # log q(z | x_b), up to terms that are equal for all b, as a product of (z^2, z, 1) with three vectors of row b.
    of_rows = torch.cat((-0.5 * precision, mu * precision, -0.5 * (mu.square() * precision + logvar)), -1)
    of_rows = of_rows.unflatten(1, (-1, group))
    of_draws = z.unflatten(2, (-1, group)).transpose(1, 2).flatten(2, 3)
    of_draws = torch.cat((of_draws.square(), of_draws, torch.ones_like(of_draws)), -1)
    logits = of_draws.flatten(0, 1) @ of_rows.flatten(0, 1).mT
    if classes is not None:
        of_group = classes.unflatten(1, (-1, group))
        differs = (of_group @ of_group.mT == 0).expand(models, -1, -1, -1).repeat(1, 1, draws, 1)
        logits = logits.masked_fill(differs.flatten(0, 1), -torch.inf)
    weights = logits.softmax(-1)
    means = weights @ x.reshape(models * groups, group, -1)
    return means.view(models, groups, draws, group, -1).transpose(1, 2).reshape(models, draws, rows, -1)


def _with_control_variate(x: Tensor, mean: Tensor, xhat: Tensor, split: int, classes: Tensor | None) -> Tensor:
    """Subtract from each row a control variate of expectation zero: the deviation of the other half's mean from `mean`.

    The halves are the rows before `split` and the others; shapes as in `rao_blackwell_targets`. The part of a feature
    that the decoder explains no longer scatters, so the deviation is weighted by the unexplained fraction of the
    feature's variance. That weight gives the least noise. Weight and deviation use different halves, so they are
    independent. With classes, both are those of the class of the row. In discrepancy-balanced order
    (`training.row_order`) the halves are not quite independent; docs/theory/training.md has the size of that bias.
    Returns x itself if a half is empty.
    """
    if not 0 < split < x.shape[1]:
        return x
    centred = x - (mean if classes is None else classes @ mean)
    left = x - xhat.mean(1)
    halves = slice(None, split), slice(split, None)
    steady = []
    for own, other in (halves, halves[::-1]):
        of_own, of_other = (None if classes is None else classes[:, half] for half in (own, other))
        variance = _sums(centred[:, own].square(), of_own).clamp(min=torch.finfo(x.dtype).tiny)
        unexplained = (_sums(left[:, own] * centred[:, own], of_own) / variance).clamp(0, 1)
        if classes is None:
            deviation = centred[:, other].mean(1, keepdim=True)
        else:
            deviation = _sums(centred[:, other], of_other) / of_other.sum(1)[..., None].clamp(min=1)
        correction = unexplained * deviation
        steady.append(x[:, own] - (correction if classes is None else of_own @ correction))
    return torch.cat(steady, 1)


def _sums(values: Tensor, classes: Tensor | None) -> Tensor:
    """Sum over rows [M, B, D], with classes [M or 1, B, C] over those of each class: [M, C or 1, D]."""
    return values.sum(1, keepdim=True) if classes is None else classes.mT @ values
