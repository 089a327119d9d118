"""zkf1997/DART at 4db72d3, mld/train_mvae.py, lines 98-99, 245, 258-267 and 339; the losses of the body model are left
out.

Huber's loss is averaged over steps, features and batch; KL is averaged over latents and batch.
"""

import torch
from torch.distributions import Normal, kl_divergence

WEIGHT_KL = 1e-4


def loss(future_motion_pred, future_motion_gt, mu, logvar):
    rec_criterion = torch.nn.HuberLoss(reduction="mean", delta=1.0)
    dist = Normal(mu, torch.exp(0.5 * logvar))
    kl_loss = kl_divergence(dist, Normal(torch.zeros_like(mu), torch.ones_like(mu))).mean()
    return WEIGHT_KL * kl_loss + rec_criterion(future_motion_pred, future_motion_gt)
