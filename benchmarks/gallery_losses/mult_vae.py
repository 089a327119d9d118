"""younggyoseo/vae-cf-pytorch at 3619878, models.py, lines 141-146, with the weight at the end of annealing
(--anneal_cap 0.2: main.py, lines 27 and 113-117).

The multinomial log likelihood is summed over items and KL over latents, both are averaged over users.
"""

import torch
from torch.nn import functional as F  # noqa: N812

ANNEAL_CAP = 0.2


def loss(recon_x, x, mu, logvar):
    nll = -torch.mean(torch.sum(F.log_softmax(recon_x, 1) * x, -1))
    kld = -0.5 * torch.mean(torch.sum(1 + logvar - mu.pow(2) - logvar.exp(), dim=1))
    return nll + ANNEAL_CAP * kld
