"""The two ELBO operations in plain PyTorch: the fallback, and the reference every other backend must match."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from phasevae import noise

_SERIES_BELOW = 0.5
_SERIES_TERMS = 13


def reparam_kl(mu: Tensor, logvar: Tensor, keys: Tensor, step: int, antithetic: bool) -> tuple[Tensor, Tensor]:
    """See `phasevae.elbo.reparam_kl`."""
    rows = torch.arange(mu.shape[1], dtype=torch.int64, device=mu.device)
    eps = noise.normals(keys, rows, mu.shape[2], step, mu.dtype)
    spread = (0.5 * logvar).exp() * eps
    z = torch.stack((mu + spread, mu - spread) if antithetic else (mu + spread,), dim=1)
    return z, 0.5 * (mu.square() + exp_excess(logvar))


def gaussian_nll(x: Tensor, xhat: Tensor, sigma2: Tensor) -> Tensor:
    """See `phasevae.elbo.gaussian_nll`."""
    return _GaussianNLL.apply(x, xhat, sigma2)


def exp_excess(t: Tensor) -> Tensor:
    """e^t - 1 - t without cancellation: its Taylor series for |t| < 1/2, where the naive float32 form loses
    every digit (t^2/2 against rounding of 1)."""
    return _ExpExcess.apply(t)


class _ExpExcess(torch.autograd.Function):
    """The derivative e^t - 1 is exact where differentiating the series would not be."""

    @staticmethod
    def forward(ctx, t: Tensor) -> Tensor:
        ctx.save_for_backward(t)
        small = t.abs() < _SERIES_BELOW
        near = torch.where(small, t, 0.0)
        series = torch.full_like(near, 1.0 / math.factorial(_SERIES_TERMS + 1))
        for order in range(_SERIES_TERMS, 1, -1):
            series.mul_(near).add_(1.0 / math.factorial(order))
        return torch.where(small, series.mul_(near).mul_(near), t.expm1() - t)

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        (t,) = ctx.saved_tensors
        return grad * t.expm1()


class _GaussianNLL(torch.autograd.Function):
    """Keeps the residual only, where autograd would keep it twice."""

    @staticmethod
    def forward(ctx, x: Tensor, xhat: Tensor, sigma2: Tensor) -> Tensor:
        residual = xhat - x.unsqueeze(1)
        ctx.save_for_backward(residual, sigma2)
        return residual.square().sum(-1).div_(2 * sigma2[:, None, None])

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[None, Tensor, None]:
        residual, sigma2 = ctx.saved_tensors
        return None, residual * (grad / sigma2[:, None, None]).unsqueeze(-1), None
