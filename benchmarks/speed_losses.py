"""Loss functions for `predict_speed.py`: of single outputs, smooth and with kinks, and one that couples all outputs."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

WEIGHT = 0.00025


def kl(mu: Tensor, logvar: Tensor) -> Tensor:
    """KL summed over latents, mean over the batch."""
    return -0.5 * (1 + logvar - mu.pow(2) - logvar.exp()).sum(1).mean()


def huber(recon: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    """Mean Huber loss."""
    return F.huber_loss(recon, x) + WEIGHT * kl(mu, logvar)


def l1(recon: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    """Mean absolute error."""
    return F.l1_loss(recon, x) + WEIGHT * kl(mu, logvar)


def _filters() -> nn.Conv2d:
    made = nn.Conv2d(3, 8, 3, padding=1, bias=False)
    nn.init.normal_(made.weight, std=0.3, generator=torch.Generator().manual_seed(0))
    return made.requires_grad_(False)


_FILTERS = _filters()


def perceptual(recon: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    """Squared error of square colour images and of fixed random convolutions of them, both as means."""
    side = int((recon.shape[1] / 3) ** 0.5)
    recon, x = (images.reshape(-1, 3, side, side) for images in (recon, x))
    error = F.mse_loss(_FILTERS(recon), _FILTERS(x)) + F.mse_loss(recon, x)
    return error + WEIGHT * kl(mu, logvar)
