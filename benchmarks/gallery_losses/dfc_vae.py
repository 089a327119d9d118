"""yzwxx/vae-celebA at 084d524, train_dfc_vae.py, lines 105-121.

The squared errors of three layers of features, each summed over the layer and averaged over the batch, have a weight of
3e-5; KL is summed over latents and averaged over the batch. Fixed random layers of 32 values stand for those of VGG-16.
"""

import torch
from torch.nn import functional as F  # noqa: N812

STYLE_CONTENT_WEIGHT = 3e-5
GENERATOR = torch.Generator().manual_seed(0)
WEIGHTS = [torch.randn(32, 32, generator=GENERATOR) / 3 for _ in range(3)]


def features(images):
    for weights in WEIGHTS:
        images = F.softplus(images @ weights.to(images.dtype))
        yield images


def loss(generated, x, z_mean, z_log_sigma_sq):
    layers = zip(features(generated), features(x), strict=True)
    p_loss = sum(torch.sum((fake - real).square(), 1).mean() for fake, real in layers)
    kl_loss = -0.5 * torch.sum(1 + z_log_sigma_sq - z_mean.square() - z_log_sigma_sq.exp(), 1).mean()
    return kl_loss + STYLE_CONTENT_WEIGHT * p_loss
