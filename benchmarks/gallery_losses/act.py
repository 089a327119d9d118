"""tonyzhaozh/act at 742c753, policy.py, lines 28-34 and 71-84, with the --kl_weight 10 of its README.

The absolute error is averaged over steps, joints and batch; KL is summed over latents and averaged over the batch. The
mask of padded steps and the observations are left out.
"""

from torch.nn import functional as F  # noqa: N812

KL_WEIGHT = 10


def loss(actions_hat, actions, mu, logvar):
    l1 = F.l1_loss(actions_hat, actions, reduction="none").mean()
    klds = -0.5 * (1 + logvar - mu.pow(2) - logvar.exp())
    return l1 + KL_WEIGHT * klds.sum(1).mean()
