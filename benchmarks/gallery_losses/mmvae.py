"""zdebruine/MMVAE at b074431, mmvae/trainers/ExampleTrainer.py, lines 42-45, and utils.py, line 15; changed by its #19.

The squared error is averaged over features and batch, KL is summed over latents and batch.
"""

import torch
from torch.nn import functional as F  # noqa: N812


def loss(recon, x, mu, logvar):
    recon_loss = F.mse_loss(recon, x)
    kl_loss = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
    return recon_loss + kl_loss
