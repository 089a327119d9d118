"""Measurement of a trained model: the ELBO and its parts over the full data set, with standard errors.

Sums run in float64 over blocks of rows. The noise is keyed by the point, the block and the row in it, so the numbers of
a point do not depend on the ensemble that it was trained in.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from phasevae.kernels import noise
from phasevae.kernels.elbo import gaussian_nll, posterior_draws, reparam_kl
from phasevae.model import VAEEnsemble
from phasevae.sweeps.settings import Member
from phasevae.theory.ppca import ACTIVE_KL, collapsed_elbo

MOST_PAIRS, ENOUGH_PAIRS = 8, 2**19
"""Antithetic pairs of latent draws: the most per row, and the number over all rows that is enough."""

LIKELIHOOD_ROWS = 4096
LIKELIHOOD_DRAWS = 256
_BLOCK = 2048
# Several draws of all rows are decoded in one pass, because a pass over few rows is mostly overhead. The outputs of a
# layer have at most this many numbers in a pass (8 MiB in float32): larger ones leave the cache.
_PASS_NUMBERS = 2**21
_LEAST_WIDTH = 32


@torch.no_grad()
def measure_model(
    model: VAEEnsemble,
    x: Tensor,
    member: Member,
    held_out: Tensor | None = None,
    with_likelihood: bool = True,
) -> dict[str, Any]:
    """Measure one point. Energies are in nats per sample.

    Parameters
    ----------
    model : VAEEnsemble
        An ensemble of one model.
    x : Tensor [N, D]
        The full data set as fed to the network: centred, so that the collapsed decoder is zero.
    member : Member
        The decoder variance, beta and seed of the model.
    held_out : Tensor, optional
        Row numbers that training did not see.
    with_likelihood : bool
        Whether to estimate the log likelihood, which takes longer than the rest.

    Returns
    -------
    dict
        `mse` is E|x - f(z)|^2 summed over features; `elbo` is -(D/2) ln(2 pi sigma2) - mse / (2 sigma2) - beta kl
        (Eq. 17); `elbo_gap` is its distance from the collapsed value (Eq. 24), paired row by row; `log_likelihood` is
        that of `log_likelihood`. Keys that end in `_standard_error` are over rows. `holdout` has the numbers of the
        held-out rows.
    """
    n_latent, dimension = model.architecture.n_latent, x.shape[1]
    key = noise.point_key("measure", member.seed, member.sigma2, member.beta)
    pairs = min(MOST_PAIRS, math.ceil(ENOUGH_PAIRS / x.shape[0]))
    kl_rows, sse_rows, collapsed_rows = [], [], []
    kl_sum = x.new_zeros(n_latent, dtype=torch.float64)
    variance_sum, mu_sum = kl_sum.clone(), kl_sum.clone()
    mu_products = x.new_zeros(n_latent, n_latent, dtype=torch.float64)
    for start in range(0, x.shape[0], _BLOCK):
        block = x[None, start : start + _BLOCK]
        mu, logvar = model.encode(block)
        kl, sse = _block_terms(model, block, mu, logvar, key, start, pairs)
        kl_sum += kl.sum(0)
        variance_sum += logvar[0].double().exp().sum(0)
        mu_sum += mu[0].double().sum(0)
        mu_products += mu[0].double().T @ mu[0].double()
        kl_rows.append(kl.sum(-1))
        sse_rows.append(sse)
        collapsed_rows.append(block[0].double().square().sum(-1))
    n = x.shape[0]
    kl_rows, sse_rows, collapsed_rows = (torch.cat(rows) for rows in (kl_rows, sse_rows, collapsed_rows))
    covariance = (mu_products / n - torch.outer(mu_sum, mu_sum) / n**2).cpu().numpy()
    gap_rows = (collapsed_rows - sse_rows) / (2 * member.sigma2) - member.beta * kl_rows
    kl_per_dim = (kl_sum / n).cpu().numpy()

    def summary(rows: Tensor | slice) -> dict[str, float]:
        kl, mse = float(kl_rows[rows].mean()), float(sse_rows[rows].mean())
        elbo = float(collapsed_elbo(mse, dimension, member.sigma2)) - member.beta * kl
        return {"elbo": elbo, "kl": kl, "mse": mse}

    result = summary(slice(None))
    result |= {
        "kl_per_dim": kl_per_dim,
        "latent_variance": (variance_sum / n).cpu().numpy(),
        "mean_variance": np.diagonal(covariance).copy(),
        "mean_covariance": covariance,
        "latent_mean": (mu_sum / n).cpu().numpy(),
        "collapsed_elbo": float(collapsed_elbo(float(collapsed_rows.mean()), dimension, member.sigma2)),
        "elbo_gap": float(gap_rows.mean()),
        "elbo_gap_standard_error": float(gap_rows.std()) / math.sqrt(n),
        "active_dims": int((kl_per_dim > ACTIVE_KL).sum()),
        "n_samples": n,
    }
    if with_likelihood:
        result |= log_likelihood(model, x, member)
    if held_out is not None and held_out.numel():
        result["holdout"] = {"n_samples": held_out.numel(), **summary(held_out.to(kl_rows.device))}
    return result


def _block_terms(
    model: VAEEnsemble, block: Tensor, mu: Tensor, logvar: Tensor, key: int, start: int, pairs: int
) -> tuple[Tensor, Tensor]:
    """Return the KL per latent [R, n] and the squared error [R] of a block of rows, averaged over antithetic pairs."""
    keys = torch.tensor([key], dtype=torch.int64, device=block.device)
    unit = torch.ones(1, dtype=block.dtype, device=block.device)
    # The first row of the block is the high word of the step, so each block has rows of its own in the streams.
    first_step = start << 32
    _, kl = reparam_kl(mu, logvar, keys, first_step)
    sse = block.new_zeros(block.shape[1], dtype=torch.float64)
    for steps in _passes(model, 2 * block.shape[1], pairs):
        z = posterior_draws(mu, logvar, keys, steps.to(block.device) + first_step, antithetic=True)
        nll = gaussian_nll(block, _decode_draws(model, z), unit)[0].unflatten(0, (-1, 2))
        for pair in nll.double().mean(1):
            sse += 2 * pair
    return kl[0].double(), sse / pairs


@torch.no_grad()
def log_likelihood(model: VAEEnsemble, x: Tensor, member: Member) -> dict[str, float]:
    """Estimate the log likelihood by importance weighting: ln (1/K) sum_k p(x|z_k) p(z_k) / q(z_k|x).

    Parameters
    ----------
    model : VAEEnsemble
        An ensemble of one model.
    x : Tensor [N, D]
        The full data set as fed to the network.
    member : Member
        The decoder variance, beta and seed of the model.

    Returns
    -------
    dict
        `log_likelihood` in nats per sample, with K = LIKELIHOOD_DRAWS, averaged over at most LIKELIHOOD_ROWS rows that
        are the same for every point of a data set; and `log_likelihood_standard_error` over these rows.

    References
    ----------
    Burda, Grosse & Salakhutdinov, "Importance weighted autoencoders", ICLR 2016.
    """
    order = noise.permutation(noise.key("likelihood", "rows"), 0, x.shape[0])[:LIKELIHOOD_ROWS]
    rows = x[order.to(x.device)]
    key = noise.point_key("likelihood", member.seed, member.sigma2, member.beta)
    keys = torch.tensor([key], dtype=torch.int64, device=x.device)
    sigma2 = torch.tensor([member.sigma2], dtype=x.dtype, device=x.device)
    mu, logvar = model.encode(rows[None])
    variance = logvar.exp()
    weights = []
    for steps in _passes(model, rows.shape[0], LIKELIHOOD_DRAWS):
        z = posterior_draws(mu, logvar, keys, steps.to(x.device))
        nll = gaussian_nll(rows[None], _decode_draws(model, z), sigma2)[0]
        log_ratio = 0.5 * ((z[0] - mu).square() / variance + logvar - z[0].square())
        weights.append(-nll.double() + log_ratio.double().sum(-1))
    per_row = torch.logsumexp(torch.cat(weights), dim=0) - math.log(LIKELIHOOD_DRAWS)
    constant = float(collapsed_elbo(0.0, x.shape[1], member.sigma2))
    return {
        "log_likelihood": float(per_row.mean()) + constant,
        "log_likelihood_standard_error": float(per_row.std()) / math.sqrt(per_row.numel()),
    }


def _passes(model: VAEEnsemble, rows: int, draws: int) -> Iterator[Tensor]:
    """Yield the numbers of the draws of each pass; its size keeps the activations of `rows` rows per draw in cache."""
    widths = (*model.architecture.hidden, model.architecture.dimension, _LEAST_WIDTH)
    yield from torch.arange(draws).split(max(1, _PASS_NUMBERS // (rows * max(widths))))


def _decode_draws(model: VAEEnsemble, z: Tensor) -> Tensor:
    """Decode draws [1, A, B, n] in one pass, [1, A, B, D]."""
    return model.decode(z.flatten(1, 2)).unflatten(1, z.shape[1:3])
