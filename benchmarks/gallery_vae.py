"""What do users write? The networks, losses and trainings of predictions.py, without this package.

`predictions.py` imports this module; it is not a command of its own.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from phasevae.theory.ppca import gaussian_kl

BATCH, RATE, HIDDEN = 128, 2e-3, 64


def kl(mu: Tensor, logvar: Tensor) -> Tensor:
    """KL divergence from the prior, [batch, n]."""
    return -0.5 * (1 + logvar - mu**2 - logvar.exp())


def squared(output: Tensor, x: Tensor) -> Tensor:
    """Squared error, summed over features, [batch]."""
    return F.mse_loss(output, x, reduction="none").sum(-1)


def crossed(logits: Tensor, x: Tensor) -> Tensor:
    """Cross entropy, summed over features, [batch]."""
    return F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(-1)


def normal(output: Tensor, x: Tensor, log_sigma: Tensor) -> Tensor:
    """Negative log likelihood [batch] with a learned log standard deviation of all features or of each."""
    return -torch.distributions.Normal(output, log_sigma.exp()).log_prob(x).sum(-1)


Loss = Callable[[Tensor, Tensor, Tensor, Tensor, float, Tensor], Tensor]

LOSSES: dict[str, Loss] = {
    "half-sse": lambda f, x, mu, lv, w, _: (0.5 * squared(f, x) + w * kl(mu, lv).sum(1)).mean(),
    "sse": lambda f, x, mu, lv, w, _: (squared(f, x) + w * kl(mu, lv).sum(1)).mean(),
    "mean-se": lambda f, x, mu, lv, w, _: F.mse_loss(f, x) + w * kl(mu, lv).sum(1).mean(),
    "mean-se-mean-kl": lambda f, x, mu, lv, w, _: F.mse_loss(f, x) + w * kl(mu, lv).mean(),
    "bce": lambda f, x, mu, lv, w, _: (crossed(f, x) + w * kl(mu, lv).sum(1)).mean(),
    "mean-bce": lambda f, x, mu, lv, w, _: F.binary_cross_entropy_with_logits(f, x) + w * kl(mu, lv).sum(1).mean(),
    "gaussian-nll": lambda f, x, mu, lv, w, s: (normal(f, x, s[:1]) + w * kl(mu, lv).sum(1)).mean(),
    "scvi-normal": lambda f, x, mu, lv, w, s: (normal(f, x, s) + w * kl(mu, lv).sum(1)).mean(),
}


class VAE(nn.Module):
    """An encoder that gives means and log variances side by side, and a decoder."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module):
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mu, logvar = self.encoder(x).chunk(2, -1)
        return self.decoder(mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)), mu, logvar


def layers(width: int, out: int, activation: type[nn.Module] = nn.Tanh) -> Iterator[nn.Module]:
    """Two hidden layers and a linear one.

    Parameters
    ----------
    width, out : number of inputs and outputs
    activation : the class of the hidden layers' nonlinearity
    """
    for _ in range(2):
        yield nn.Linear(width, HIDDEN)
        yield activation()
        width = HIDDEN
    yield nn.Linear(width, out)


def raised(done: float, weight: float, critical: float, start: float = 0.3) -> float:
    """Return the weight of KL, which rises linearly from a part of the critical weight in the first half of a run.

    Parameters
    ----------
    done : fraction of the training that is over
    weight : weight of KL at the end
    critical : predicted critical weight of KL
    start : first weight in units of the critical one
    """
    first = min(weight, start * critical)
    return first + (weight - first) * min(1.0, 2 * done)


def decaying(optimiser: torch.optim.Optimizer, steps: int) -> torch.optim.lr_scheduler.LambdaLR:
    """A learning rate that stays for half of the steps and falls linearly to zero in the other half."""
    return torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: min(1.0, 2.05 * (1 - step / steps)))


def trained(x: Tensor, loss: str, n_latent: int, weight: float, critical: float, steps: int) -> VAE:
    """Train a VAE with a plain PyTorch loop.

    Parameters
    ----------
    x : data [N, D]
    loss : a key of `LOSSES`
    n_latent : number of latents
    weight, critical : as for `raised`
    steps : number of training steps
    """
    model = VAE(nn.Sequential(*layers(x.shape[1], 2 * n_latent)), nn.Sequential(*layers(n_latent, x.shape[1])))
    log_sigma = nn.Parameter(torch.zeros(x.shape[1]))
    optimiser = torch.optim.Adam([*model.parameters(), log_sigma], RATE)
    decay = decaying(optimiser, steps)
    for step in range(steps):
        batch = x[torch.randint(len(x), (BATCH,))]
        output, mu, logvar = model(batch)
        value = LOSSES[loss](output, batch, mu, logvar, raised(step / steps, weight, critical), log_sigma)
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        decay.step()
    return model


def trained_by_pythae(x: Tensor, loss: str, n_latent: int, weight: float, critical: float, steps: int) -> nn.Module:
    """Train pythae's BetaVAE with pythae's trainer. Its beta rises at the start of each epoch.

    Parameters
    ----------
    x, n_latent, weight, critical, steps : as for `trained`
    loss : pythae or pythae-bce
    """
    os.environ.setdefault("TQDM_DISABLE", "1")
    from pythae.data.datasets import BaseDataset
    from pythae.models import BetaVAE, BetaVAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.trainers import BaseTrainer, BaseTrainerConfig
    from pythae.trainers.training_callbacks import TrainingCallback

    logging.disable(logging.INFO)  # pythae sets the level of each of its loggers
    epochs = max(2, steps * BATCH // len(x))

    class Encoder(BaseEncoder):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(*layers(x.shape[1], 2 * n_latent))

        def forward(self, x: Tensor) -> ModelOutput:
            mu, logvar = self.body(x).chunk(2, -1)
            return ModelOutput(embedding=mu, log_covariance=logvar)

    class Decoder(BaseDecoder):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(*layers(n_latent, x.shape[1]))

        def forward(self, z: Tensor) -> ModelOutput:
            output = self.body(z)
            return ModelOutput(reconstruction=torch.sigmoid(output) if loss == "pythae-bce" else output)

    class Raise(TrainingCallback):
        def on_epoch_begin(self, training_config: Any, epoch: int, **more: Any) -> None:
            more["model"].beta = raised((epoch - 1) / epochs, weight, critical)

    reconstruction = "bce" if loss == "pythae-bce" else "mse"
    shape = BetaVAEConfig(input_dim=(x.shape[1],), latent_dim=n_latent, reconstruction_loss=reconstruction, beta=weight)
    model = BetaVAE(shape, Encoder(), Decoder())
    with tempfile.TemporaryDirectory() as folder:
        config = BaseTrainerConfig(
            output_dir=folder, num_epochs=epochs, per_device_train_batch_size=BATCH, learning_rate=RATE, no_cuda=True
        )
        data = BaseDataset(x, torch.zeros(len(x)))
        BaseTrainer(model, data, training_config=config, callbacks=[Raise()]).train()
    return model


@torch.no_grad()
def measured(model: nn.Module, x: Tensor) -> np.ndarray:
    """KL of each latent over all samples [n], in nats, descending."""
    output = model.encoder(x)
    mu, logvar = (output.embedding, output.log_covariance) if hasattr(output, "embedding") else output.chunk(2, -1)
    per_sample = gaussian_kl(mu.double(), logvar.double(), torch.expm1)
    return per_sample.mean(0).sort(descending=True).values.numpy()
