"""A trained model becomes numbers: the ELBO and its parts over the full data set, with standard errors.

All sums run in float64 over blocks of rows; the noise is keyed by the point, the block and the row in it, so a
point's numbers are its own whatever it was trained with.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from phasevae.kernels import noise
from phasevae.kernels.elbo import gaussian_nll, reparam_kl
from phasevae.model import VAEEnsemble
from phasevae.sweep.settings import Member
from phasevae.theory.ppca import ACTIVE_KL, collapsed_elbo

MOST_PAIRS, ENOUGH_PAIRS = 8, 2**19
"""Antithetic pairs of latent draws: so many a row at most, and no more a row than gives so many over all rows."""

LIKELIHOOD_ROWS = 4096
LIKELIHOOD_DRAWS = 256
_BLOCK = 2048


def column_means(x: Tensor) -> Tensor:
    """Feature means of x [N, D] in float64, [D]."""
    return sum(block.double().sum(0) for block in x.split(_BLOCK)) / x.shape[0]


@torch.no_grad()
def measure_model(
    model: VAEEnsemble,
    x: Tensor,
    mean: Tensor,
    member: Member,
    held_out: Tensor | None = None,
    with_likelihood: bool = True,
) -> dict[str, Any]:
    """The numbers of one point.

    model: an ensemble of one model; x: [N, D], the full data set as fed to the network; mean: its feature
    means [D] (`column_means`); held_out: row numbers that training did not see.

    Energies are in nats per sample; `mse` is E|x - f(z)|^2 summed over features; `elbo` is the objective
    -(D/2) ln(2 pi sigma2) - mse / (2 sigma2) - beta kl (Eq. 17); `elbo_gap` is its distance from the collapsed
    value (Eq. 24), paired row by row. `log_likelihood` is importance weighted (Burda et al. 2016) over a fixed
    subset of rows. Keys that end in `_standard_error` are over rows.
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
        collapsed_rows.append((block[0].double() - mean).square().sum(-1))
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
    """KL per latent [R, n] and squared error [R], averaged over antithetic pairs, of one block of rows."""
    keys = torch.tensor([key], dtype=torch.int64, device=block.device)
    unit = torch.ones(1, dtype=block.dtype, device=block.device)
    sse = block.new_zeros(block.shape[1], dtype=torch.float64)
    for pair in range(pairs):
        # A block has rows of its own in the streams: its first row stands in the step's high word.
        z, kl = reparam_kl(mu, logvar, keys, pair + (start << 32), antithetic=True)
        xhat = model.decode(z.flatten(1, 2)).unflatten(1, z.shape[1:3])
        sse += 2 * gaussian_nll(block, xhat, unit)[0].double().mean(0)
    return kl[0].double(), sse / pairs


@torch.no_grad()
def log_likelihood(model: VAEEnsemble, x: Tensor, member: Member) -> dict[str, float]:
    """Importance-weighted log likelihood ln (1/K) sum_k p(x|z_k) p(z_k) / q(z_k|x), K = LIKELIHOOD_DRAWS, averaged
    over at most LIKELIHOOD_ROWS rows that are the same for every point of a data set (Burda et al. 2016)."""
    order = noise.permutation(noise.key("likelihood", "rows"), 0, x.shape[0])[:LIKELIHOOD_ROWS]
    rows = x[order.to(x.device)]
    key = noise.point_key("likelihood", member.seed, member.sigma2, member.beta)
    keys = torch.tensor([key], dtype=torch.int64, device=x.device)
    sigma2 = torch.tensor([member.sigma2], dtype=x.dtype, device=x.device)
    mu, logvar = model.encode(rows[None])
    weights = []
    for draw in range(LIKELIHOOD_DRAWS):
        z, _ = reparam_kl(mu, logvar, keys, draw, antithetic=False)
        nll = gaussian_nll(rows[None], model.decode(z[:, 0])[:, None], sigma2)[0, 0]
        standard = (z[0, 0] - mu[0]).square() / logvar[0].exp()
        weights.append(-nll.double() + 0.5 * (standard + logvar[0] - z[0, 0].square()).double().sum(-1))
    per_row = torch.logsumexp(torch.stack(weights), dim=0) - math.log(LIKELIHOOD_DRAWS)
    constant = float(collapsed_elbo(0.0, x.shape[1], member.sigma2))
    return {
        "log_likelihood": float(per_row.mean()) + constant,
        "log_likelihood_standard_error": float(per_row.std()) / math.sqrt(per_row.numel()),
    }
