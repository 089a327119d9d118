"""kefirski/pytorch_RVAE at 19103d1, model/rvae.py, lines 78 and 106-110, without its factor of 79 (issue 11).

Cross entropy is averaged over all tokens of the batch; KL is summed over latents and averaged over the batch.
"""

import torch
from torch.nn import functional as F  # noqa: N812


def loss(logits, tokens, mu, logvar):
    cross_entropy = F.cross_entropy(logits.flatten(0, 1), tokens.flatten())
    kld = (-0.5 * torch.sum(logvar - mu.pow(2) - logvar.exp() + 1, 1)).mean()
    return cross_entropy + kld
