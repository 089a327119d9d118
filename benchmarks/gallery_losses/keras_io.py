"""keras-team/keras-io, examples/generative/vae.py, as in its issue 270; changed since.

Cross entropy is averaged over pixels and batch and multiplied by the number of pixels; KL is averaged over latents and
batch. The sigmoid at the end of the decoder is part of the loss here.
"""

from torch.nn import functional as F  # noqa: N812


def loss(logits, x, z_mean, z_log_var):
    reconstruction_loss = F.binary_cross_entropy_with_logits(logits, x) * x[0].numel()
    kl_loss = -0.5 * (1 + z_log_var - z_mean.square() - z_log_var.exp()).mean()
    return reconstruction_loss + kl_loss
