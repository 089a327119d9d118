"""scvi-tools 1.4.2, scvi/module/_vae.py, lines 528, 563-580, with gene_likelihood="nb"; the decoder's rates are
library * softmax (scvi/nn/_base_components.py, lines 425-428).

The negative log likelihood is summed over genes and KL over latents, both are averaged over cells. The dispersion of
the genes, which scvi-tools learns, is a constant.
"""

import torch
from torch.distributions import NegativeBinomial

INVERSE_DISPERSION = 4.0


def loss(decoded, counts, mu, logvar):
    rate = counts.sum(1, keepdim=True) * torch.softmax(decoded, 1)
    px = NegativeBinomial(INVERSE_DISPERSION, logits=torch.log(rate / INVERSE_DISPERSION))
    reconst_loss = -px.log_prob(counts).sum(-1)
    kl_divergence_z = 0.5 * (mu.pow(2) + logvar.exp() - 1 - logvar).sum(1)
    return torch.mean(reconst_loss + kl_divergence_z)
