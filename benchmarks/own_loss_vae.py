"""A plain PyTorch VAE and its training with any loss function of a user, without this package's conventions.

`criterion.py` and `uncentred.py` import this module; it is not a command of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from gallery_vae import BATCH, RATE, VAE, decaying, layers, raised
from torch import Tensor, nn

UserLoss = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""loss(recon, x, mu, logvar), a scalar: the error and the KL term, with the user's own reductions and weights."""

START = 0.1
"""First weight of KL, in units of the critical one: from 0.3, some networks start in the collapsed state."""


class Standardised(nn.Module):
    """Subtract the mean of each feature and divide by its standard deviation.

    A feature that hardly varies is divided by a tenth of the root mean square of all standard deviations.
    """

    def __init__(self, x: Tensor):
        super().__init__()
        sd = x.std(0)
        self.register_buffer("mean", x.mean(0))
        self.register_buffer("scale", sd.clamp(min=0.1 * sd.square().mean().sqrt().item()))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.scale


def with_kl_times(factor: float, loss: UserLoss, recon: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    """Return the user's loss with its KL term multiplied by a factor.

    The loss is the sum of an error and a KL term that is zero at mu = logvar = 0, so two evaluations separate them.
    """
    zero = torch.zeros_like(mu)
    error = loss(recon, x, zero, zero)
    kl_term = loss(recon.detach(), x, mu, logvar) - error.detach()
    return error + factor * kl_term


def constant_output(x: Tensor, loss: UserLoss, output_shape: Sequence[int], link: nn.Module | None = None) -> Tensor:
    """Return the best output [*output_shape], before the link, of a decoder that knows nothing of the sample.

    Parameters
    ----------
    x : what the loss compares outputs with [N, ...]
    loss : as for `trained`
    output_shape, link : as for `trained`
    """
    link = link or nn.Identity()
    output = torch.zeros(*output_shape, requires_grad=True)
    zero = torch.zeros(len(x), 1)

    def error() -> Tensor:
        return loss(link(output.expand(len(x), *output_shape)), x, zero, zero)

    scale = error().detach().abs()  # L-BFGS stops at absolute tolerances, so the error starts at 1
    optimiser = torch.optim.LBFGS([output], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        value = error() / scale
        value.backward()
        return value

    optimiser.step(closure)
    return output.detach()


def network(
    x: Tensor,
    n_latent: int,
    constant: Tensor,
    link: nn.Module | None = None,
    activation: type[nn.Module] = nn.ReLU,
    first: Callable[[Tensor], nn.Module] = Standardised,
) -> VAE:
    """Build a VAE with two hidden layers each way.

    Parameters
    ----------
    x : inputs of the encoder [N, ...]
    n_latent : number of latents
    constant : output of the decoder [*output_shape], before the link, that its last bias starts from
    link : module applied to the output, such as a sigmoid
    activation : the class of the hidden layers' nonlinearity
    first : makes the first layer of the encoder of the data [N, D]
    """
    flat = x.flatten(1).float()
    encoder = nn.Sequential(nn.Flatten(), first(flat), *layers(flat.shape[1], 2 * n_latent, activation))
    body = list(layers(n_latent, constant.numel(), activation))
    with torch.no_grad():
        body[-1].bias.copy_(constant.flatten())
    return VAE(encoder, nn.Sequential(*body, nn.Unflatten(1, tuple(constant.shape)), link or nn.Identity()))


def trained(
    x: Tensor,
    loss: UserLoss,
    n_latent: int,
    factor: float,
    critical: float,
    steps: int,
    seed: int,
    *,
    output_shape: Sequence[int] | None = None,
    target: Tensor | None = None,
    batch: int = BATCH,
    constant: Tensor | None = None,
    link: nn.Module | None = None,
    activation: type[nn.Module] = nn.ReLU,
    first: Callable[[Tensor], nn.Module] = Standardised,
    start: float = START,
    rate: float = RATE,
) -> VAE:
    """Train a VAE with a plain PyTorch loop.

    Parameters
    ----------
    x : inputs of the encoder [N, ...]
    loss : loss(recon, target, mu, logvar), a scalar
    n_latent : number of latents
    factor : multiplies the KL term of the loss; reached after half of the steps
    critical : predicted critical factor
    steps, seed : number of training steps; seed of the network, the batches and the noise
    output_shape : shape of one output; by default that of one row of `target`
    target : what the loss compares outputs with [N, ...]; by default `x`
    batch : rows in a batch
    constant : output [*output_shape] that the decoder starts from; by default the best constant output
    link : module applied to the decoder's output, such as a sigmoid
    activation : the class of the hidden layers' nonlinearity
    first : makes the first layer of the encoder of the data [N, D]
    start : first factor in units of the critical one
    rate : learning rate
    """
    torch.manual_seed(seed)
    target = x if target is None else target
    shape = tuple(target.shape[1:] if output_shape is None else output_shape)
    constant = constant_output(target, loss, shape, link) if constant is None else constant.reshape(shape)
    model = network(x, n_latent, constant, link, activation, first)
    optimiser = torch.optim.Adam(model.parameters(), rate)
    decay = decaying(optimiser, steps)
    for step in range(steps):
        rows = torch.randint(len(x), (batch,))
        recon, mu, logvar = model(x[rows].float())
        weight = raised(step / steps, factor, critical, start)
        optimiser.zero_grad()
        with_kl_times(weight, loss, recon, target[rows], mu, logvar).backward()
        optimiser.step()
        decay.step()
    return model
