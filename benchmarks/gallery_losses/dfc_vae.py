"""yzwxx/vae-celebA at 084d524, train_dfc_vae.py, lines 105-121.

The squared errors of three layers of features, each summed over the layer and averaged over the batch, have a weight of
3e-5; KL is summed over latents and averaged over the batch. Fixed random convolutions stand for those of VGG-16.
"""

import torch
from torch.nn import functional as F  # noqa: N812

STYLE_CONTENT_WEIGHT = 3e-5
GENERATOR = torch.Generator().manual_seed(0)
FILTERS = [torch.randn(4, channels, 3, 3, generator=GENERATOR) / channels**0.5 for channels in (1, 4, 4)]


def layers(images):
    for filters in FILTERS:
        images = F.softplus(F.conv2d(images, filters.to(images.dtype), stride=2, padding=1))
        yield images


def loss(generated, x, z_mean, z_log_sigma_sq):
    fake, real = (layers(images.view(-1, 1, 8, 8)) for images in (generated, x))
    p_loss = sum(torch.sum((a - b).square(), [1, 2, 3]).mean() for a, b in zip(fake, real))
    kl_loss = -0.5 * torch.sum(1 + z_log_sigma_sq - z_mean.square() - z_log_sigma_sq.exp(), 1).mean()
    return kl_loss + STYLE_CONTENT_WEIGHT * p_loss
