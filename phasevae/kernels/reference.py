"""The ELBO operations in plain PyTorch: the fallback, and the reference that every other backend must match."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.nn import functional

from phasevae.kernels import float32, noise

MOST_MATCHED = 0
"""`phasevae.training.variance_reduction` has its own PyTorch code."""
TARGET_DEVICES = ()
"""The same."""

_SERIES_BELOW = 0.5
_SERIES_TERMS = 14


def has_network_kernels(device_type: str) -> bool:
    """Return False: `phasevae.kernels.mlp` has its own PyTorch code."""
    return False


def has_step_kernels(device_type: str) -> bool:
    """Return False: a step consists of single operations."""
    return False


def reparam_kl(mu: Tensor, logvar: Tensor, keys: Tensor, step: int | Tensor, antithetic: bool) -> tuple[Tensor, Tensor]:
    """See `phasevae.kernels.elbo.reparam_kl`."""
    return _ReparamKL.apply(mu, logvar, keys, step, antithetic)


def gaussian_nll(x: Tensor, xhat: Tensor, sigma2: Tensor) -> Tensor:
    """See `phasevae.kernels.elbo.gaussian_nll`."""
    return _GaussianNLL.apply(x, xhat, sigma2)


def bernoulli_nll(x: Tensor, logits: Tensor, sigma2: Tensor) -> Tensor:
    """See `phasevae.kernels.elbo.bernoulli_nll`."""
    return _BernoulliNLL.apply(x, logits, sigma2)


def reparam_kl_backward(
    grad_z: Tensor, grad_kl: Tensor, mu: Tensor, logvar: Tensor, z: Tensor
) -> tuple[Tensor, Tensor]:
    """See `phasevae.kernels.elbo.reparam_kl_backward`."""
    _, _, slope = width(logvar)
    total, difference = grad_z[:, 0], grad_z[:, 0]
    if grad_z.shape[1] == 2:
        total, difference = grad_z[:, 0] + grad_z[:, 1], grad_z[:, 0] - grad_z[:, 1]
    return total + grad_kl * mu, 0.5 * (difference * (z[:, 0] - mu) + grad_kl * slope)


def gaussian_slopes(x: Tensor, xhat: Tensor, sigma2: Tensor) -> Tensor:
    """See `phasevae.kernels.elbo.gaussian_slopes`."""
    return (xhat - x[:, None]) * _of_a_mean(xhat, sigma2)


def bernoulli_slopes(x: Tensor, logits: Tensor, sigma2: Tensor) -> Tensor:
    """See `phasevae.kernels.elbo.bernoulli_slopes`."""
    return (chances(logits) - x[:, None]) * _of_a_mean(logits, sigma2)


def chances(logits: Tensor) -> Tensor:
    """See `phasevae.kernels.elbo.chances`."""
    return softplus(logits)[1]


def mean_over_rows(values: Tensor, rows: int) -> Tensor:
    """See `phasevae.kernels.elbo.mean_over_rows`."""
    return values.flatten(1).sum(1) / rows


def _of_a_mean(outputs: Tensor, sigma2: Tensor) -> Tensor:
    """The derivative of a mean over draws and rows by its values, over sigma2."""
    return ((1.0 / (outputs.shape[1] * outputs.shape[2])) / sigma2)[:, None, None, None]


def normals(keys: Tensor, steps: Tensor, rows: int, n: int, dtype: torch.dtype) -> Tensor:
    """Draw the noise that `reparam_kl` uses for several streams, each at a step of its own.

    Parameters
    ----------
    keys, steps : Tensor [M]
        int64 on one device: the streams and their steps.
    rows, n : int
        Rows per stream and latents per row.
    dtype : torch.dtype
        float32 or float64.

    Returns
    -------
    Tensor [M, rows, n]
        Standard normal numbers.
    """
    return noise.normals(keys, torch.arange(rows, device=keys.device), n, steps, dtype)


class _ReparamKL(torch.autograd.Function):
    """Does the same operations in the same order as csrc/cpu/elbo_rows.cpp: in float32 the bits agree."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, mu: Tensor, logvar: Tensor, keys: Tensor, step: int | Tensor, antithetic: bool
    ) -> tuple[Tensor, Tensor]:
        rows = torch.arange(mu.shape[1], dtype=torch.int64, device=mu.device)
        eps = noise.normals(keys, rows, mu.shape[2], step, mu.dtype)
        scale, excess, _ = width(logvar)
        spread = scale * eps
        z = torch.stack((mu + spread, mu - spread) if antithetic else (mu + spread,), dim=1)
        ctx.save_for_backward(mu, logvar, z)
        return z, 0.5 * (mu * mu + excess)

    @staticmethod
    def backward(ctx: FunctionCtx, grad_z: Tensor, grad_kl: Tensor) -> tuple[Tensor | None, ...]:
        return *reparam_kl_backward(grad_z, grad_kl, *ctx.saved_tensors), None, None, None


def width(t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return e^(t/2), e^t - 1 - t and its derivative e^t - 1 for log variances t.

    The second is a Taylor series for small t, where the naive form loses all digits (t^2/2 next to 1).
    """
    if t.dtype == torch.float32:
        return float32.width(t)
    slope = t.expm1()
    small = t.abs() < _SERIES_BELOW
    near = torch.where(small, t, 0.0)
    series = torch.full_like(near, 1.0 / math.factorial(_SERIES_TERMS))
    for order in range(_SERIES_TERMS - 1, 1, -1):
        series.mul_(near).add_(1.0 / math.factorial(order))
    return (0.5 * t).exp(), torch.where(small, series.mul_(near).mul_(near), slope - t), slope


class _GaussianNLL(torch.autograd.Function):
    """Keeps the residual once, where autograd would keep it twice."""

    @staticmethod
    def forward(ctx, x: Tensor, xhat: Tensor, sigma2: Tensor) -> Tensor:
        residual = xhat - x.unsqueeze(1)
        ctx.save_for_backward(residual, sigma2)
        return residual.square().sum(-1).div_(2 * sigma2[:, None, None])

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[None, Tensor, None]:
        residual, sigma2 = ctx.saved_tensors
        return None, residual * (grad / sigma2[:, None, None]).unsqueeze(-1), None


class _BernoulliNLL(torch.autograd.Function):
    """Keeps the residual of the chances, so that the derivative is one product."""

    @staticmethod
    def forward(ctx, x: Tensor, logits: Tensor, sigma2: Tensor) -> Tensor:
        x = x.unsqueeze(1)
        value, chance = softplus(logits)
        ctx.save_for_backward(chance - x, sigma2)
        return (value - x * logits).sum(-1).div_(sigma2[:, None, None])

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[None, Tensor, None]:
        residual, sigma2 = ctx.saved_tensors
        return None, residual * (grad / sigma2[:, None, None]).unsqueeze(-1), None


def softplus(t: Tensor) -> tuple[Tensor, Tensor]:
    """Return ln(1 + e^t) and its derivative."""
    if t.dtype == torch.float32:
        return float32.softplus(t)
    return functional.softplus(t), t.sigmoid()
