"""Mathux/ACTOR at d3b0afe, src/models/tools/losses.py, lines 7-28 and 66-69, with the --lambda_kl 1e-5 of its README.

The squared errors of the poses and of the vertices that follow from them are averaged over everything; KL is summed
over latents and batch. A fixed linear map of the poses stands for the vertices of the body model.
"""

import torch
from torch.nn import functional as F  # noqa: N812

LAMBDA_KL = 1e-5


def vertices(pose):
    generator = torch.Generator().manual_seed(0)
    body = torch.randn(pose.shape[1], 3 * pose.shape[1], generator=generator) / pose.shape[1] ** 0.5
    return pose @ body.to(pose.dtype)


def loss(output, x, mu, logvar):
    rc = F.mse_loss(x, output)
    rcxyz = F.mse_loss(vertices(x), vertices(output))
    kl = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
    return rc + rcxyz + LAMBDA_KL * kl
