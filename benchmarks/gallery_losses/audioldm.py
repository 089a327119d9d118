"""haoheliu/AudioLDM-training-finetuning at 702a638, audioldm_train/losses/contperceptual.py, lines 72-88 and 117-119.

kl_weight is 1000 as in audioldm_train/config/2023_11_13_vae_autoencoder/16k_64.yaml, line 64. The absolute error and KL
are both summed and divided by the batch size. LPIPS, the discriminator and the log variance, which is not trained, are
left out.
"""

import torch

KL_WEIGHT = 1000.0


def loss(reconstructions, inputs, mean, logvar):
    rec_loss = torch.abs(inputs - reconstructions)
    nll_loss = torch.sum(rec_loss) / rec_loss.shape[0]
    kl_loss = 0.5 * torch.sum(mean.pow(2) + logvar.exp() - 1.0 - logvar, dim=1)
    return nll_loss + KL_WEIGHT * torch.sum(kl_loss) / kl_loss.shape[0]
