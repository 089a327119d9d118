"""Measurement of a trained hierarchy x - z1 - z2: the ELBO and its parts over the full data set, level by level.

Everything is measured at the draws of z1, because the ELBO is: the top level encodes the draw, not its mean. Sums and
noise are as in `phasevae.measurement.measure`.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from phasevae.hierarchy import HierarchyEnsemble
from phasevae.kernels import noise
from phasevae.kernels.elbo import posterior_draws, reparam_kl
from phasevae.kernels.reconstruction import Reconstruction
from phasevae.measurement.measure import (
    BLOCK,
    ENOUGH_PAIRS,
    LIKELIHOOD_DRAWS,
    MOST_PAIRS,
    collapsed_energy,
    importance_weighted,
)
from phasevae.measurement.row_means import RowMeans
from phasevae.rows import AnyRows, Batch, part_of
from phasevae.sweeps.settings import Member
from phasevae.theory.ppca import ACTIVE_KL

_TERMS = ("kl", "kl_top", "energy", "elbo", "collapsed", "gap")


@torch.no_grad()
def measure_hierarchy(
    model: HierarchyEnsemble,
    rows: AnyRows,
    member: Member,
    held_out: Tensor,
    reconstruction: Reconstruction,
    with_likelihood: bool = True,
) -> dict[str, Any]:
    """Measure one point. Energies are in nats per sample.

    Parameters
    ----------
    model : HierarchyEnsemble
        An ensemble of one model.
    rows : Rows or FileRows
        The full data set.
    member : Member
        The decoder variance, weights and seed of the model.
    held_out : Tensor
        Row numbers that training did not see, ascending.
    reconstruction : Reconstruction
    with_likelihood : bool
        Whether to estimate the log likelihood, which takes longer than the rest.

    Returns
    -------
    dict
        The keys of `measure_model`, with these differences. `kl` is the divergence of both levels, less that of the
        collapsed state, which is not zero if the posterior variance of level 1 is fixed. `elbo` weighs the two levels
        by beta and beta_top. The latents are those of level 1, and `kl_per_dim` is their divergence from the normal
        distribution with their own mean and variance: the information about the data, on the scale that z1 has.
        `prior_residual` is E(z1 - f2(z2))^2 of each latent. `top` has the top level: its `kl`, `active_dims`, and the
        numbers of its latents.
    """
    n = len(rows)
    keys = [_key("measure", member, level) for level in (1, 2)]
    keys = [torch.tensor([key], dtype=torch.int64, device=rows.device) for key in keys]
    pairs = min(MOST_PAIRS, math.ceil(ENOUGH_PAIRS / n))
    architecture = model.architecture
    bottom, top = (_Latents(rows.device, size) for size in (architecture.n_latent, architecture.n_top))
    residual, kl_top_dims = bottom.zeros(), top.zeros()
    of_all, of_held = (RowMeans(_TERMS, count, rows.device) for count in (n, held_out.numel()))
    for start, batch in rows.blocks(BLOCK):
        mu, logvar = model.encode(batch.inputs)
        bottom.add(mu, logvar)
        statistics = reconstruction.statistics(batch.x)
        energy, error, kl_top = (batch.x.new_zeros(batch.x.shape[1], dtype=torch.float64) for _ in range(3))
        for pair in range(pairs):
            # The first row of the block is the high word of the step, so each block has rows of its own in the streams.
            step = torch.tensor([(start << 32) + pair], dtype=torch.int64, device=rows.device)
            z1 = posterior_draws(mu, logvar, keys[0], step, antithetic=True)
            energy += _energy(model, reconstruction, statistics, z1, 1.0).mean(0)
            mu2, logvar2, kl, z2 = _top_draws(model, z1, keys[1], step)
            top.add(mu2, logvar2)
            squares = (z1.flatten(1, 2) - model.decode_top(z2)).double().square()[0].unflatten(0, (2, -1)).mean(0)
            residual += squares.sum(0) / (n * pairs)
            error += squares.sum(-1)
            kl_top += kl.sum(-1).unflatten(0, (2, -1)).mean(0)
            kl_top_dims += kl.sum(0) / (2 * n * pairs)
        terms = _terms(model, member, batch, reconstruction, error / pairs, kl_top / pairs, energy / pairs, logvar)
        of_all.add(**terms)
        held = part_of(held_out, start, len(energy)).to(rows.device)
        of_held.add(**{name: values[held] for name, values in terms.items()})
    result = _result(of_all, bottom, top, residual, kl_top_dims)
    if held_out.numel():
        result["holdout"] = {"n_samples": held_out.numel(), **_summary(of_held)}
    if with_likelihood:
        log_weights = functools.partial(_log_weights, model, reconstruction, member)
        result |= importance_weighted(rows, reconstruction, member, log_weights)
    return result


def _terms(
    model: HierarchyEnsemble,
    member: Member,
    batch: Batch,
    reconstruction: Reconstruction,
    error: Tensor,
    kl_top: Tensor,
    energy: Tensor,
    logvar: Tensor,
) -> dict[str, Tensor]:
    """Return the numbers _TERMS of some rows [R] from E(z1 - f2(z2))^2, the divergence of the top level and the energy,
    each [R], and the log variance of level 1 [1, R, n]."""
    collapsed_kl = model.architecture.collapsed_kl
    kl_bottom = 0.5 * (error - (logvar[0].double() + 1).sum(-1))
    collapsed = collapsed_energy(reconstruction, batch)
    constant = reconstruction.constant(batch.x[0].double(), member.sigma2)
    penalty = member.beta * kl_bottom + member.beta_top * kl_top
    return {
        "kl": kl_bottom + kl_top - collapsed_kl,
        "kl_top": kl_top,
        "energy": energy,
        "elbo": -(energy / member.sigma2 + constant + penalty),
        "collapsed": -(collapsed / member.sigma2 + constant) - member.beta * collapsed_kl,
        "gap": (collapsed - energy) / member.sigma2 - penalty + member.beta * collapsed_kl,
    }


class _Latents:
    """The moments of the posterior of one level, summed over rows and draws."""

    def __init__(self, device: torch.device, size: int):
        self._device, self._size, self._count = device, size, 0
        self._variance, self._mu, self._logvar = self.zeros(), self.zeros(), self.zeros()
        self._products = torch.zeros(size, size, dtype=torch.float64, device=device)

    def zeros(self) -> Tensor:
        return torch.zeros(self._size, dtype=torch.float64, device=self._device)

    def add(self, mu: Tensor, logvar: Tensor) -> None:
        """Add posteriors [1, R, n]."""
        mu, logvar = mu[0].double(), logvar[0].double()
        self._count += len(mu)
        self._variance += logvar.exp().sum(0)
        self._logvar += logvar.sum(0)
        self._mu += mu.sum(0)
        self._products += mu.T @ mu

    def summary(self) -> dict[str, np.ndarray]:
        """The means over everything that was added, and the divergence from the normal of equal mean and variance."""
        mean, variance, logvar = (total / self._count for total in (self._mu, self._variance, self._logvar))
        covariance = self._products / self._count - torch.outer(mean, mean)
        own = 0.5 * (torch.log(covariance.diagonal() + variance) - logvar)
        numbers = {
            "kl_per_dim": own.clamp(min=0),
            "latent_variance": variance,
            "mean_variance": covariance.diagonal().clone(),
            "mean_covariance": covariance,
            "latent_mean": mean,
        }
        return {name: tensor.cpu().numpy() for name, tensor in numbers.items()}


def _summary(means: RowMeans) -> dict[str, float]:
    return {"elbo": means.mean("elbo"), "kl": means.mean("kl"), "mse": 2 * means.mean("energy")}


def _result(means: RowMeans, bottom: _Latents, top: _Latents, residual: Tensor, kl_top_dims: Tensor) -> dict[str, Any]:
    levels = bottom.summary(), top.summary() | {"kl_per_dim": kl_top_dims.cpu().numpy()}
    active = [int((level["kl_per_dim"] > ACTIVE_KL).sum()) for level in levels]
    return _summary(means) | {
        **levels[0],
        "prior_residual": residual.cpu().numpy(),
        "top": {"kl": means.mean("kl_top"), "active_dims": active[1], **levels[1]},
        "collapsed_elbo": means.mean("collapsed"),
        "elbo_gap": means.mean("gap"),
        "elbo_gap_standard_error": means.standard_error("gap"),
        "active_dims": active[0],
        "n_samples": means.n_rows,
    }


def _log_weights(
    model: HierarchyEnsemble, reconstruction: Reconstruction, member: Member, batch: Batch, start: int
) -> Tensor:
    """Return the log weights of draws of both levels, [K, R]; see `measure.importance_weighted`."""
    keys = [torch.tensor([_key("likelihood", member, level)], device=batch.x.device) for level in (1, 2)]
    statistics = reconstruction.statistics(batch.x)
    mu, logvar = model.encode(batch.inputs)
    weights = batch.x.new_empty(LIKELIHOOD_DRAWS, batch.x.shape[1], dtype=torch.float64)
    for draw in range(LIKELIHOOD_DRAWS):
        step = torch.tensor([(start << 32) + draw], dtype=torch.int64, device=batch.x.device)
        z1 = posterior_draws(mu, logvar, keys[0], step)
        mu2, logvar2, _, z2 = _top_draws(model, z1, keys[1], step)
        of_prior = (z1[0] - model.decode_top(z2)).square().sum(-1) + z2.square().sum(-1)
        of_z1 = ((z1[0] - mu).square() / logvar.exp() + logvar).sum(-1)
        of_z2 = ((z2 - mu2).square() / logvar2.exp() + logvar2).sum(-1)
        log_ratio = 0.5 * (of_z1 + of_z2 - of_prior)
        weights[draw] = log_ratio[0].double() - _energy(model, reconstruction, statistics, z1, member.sigma2)[0]
    return weights


def _key(purpose: str, member: Member, level: int) -> int:
    return noise.point_key(purpose, member.seed, member.sigma2, member.beta, member.beta_top, level)


def _energy(
    model: HierarchyEnsemble, reconstruction: Reconstruction, statistics: Tensor, z1: Tensor, sigma2: float
) -> Tensor:
    """Return the energy [A, R] of draws z1 [1, A, R, n]."""
    outputs = reconstruction.with_offset(model.decode(z1.flatten(1, 2)).unflatten(1, z1.shape[1:3]))
    return reconstruction.energy(statistics, outputs, z1.new_full((1,), sigma2))[0].double()


def _top_draws(model: HierarchyEnsemble, z1: Tensor, key: Tensor, step: Tensor) -> tuple[Tensor, ...]:
    """Return mu and log variance of the top level for z1 [1, A, R, n], KL [A R, m] and a draw; others [1, A R, m]."""
    mu, logvar = model.encode_top(z1.flatten(1, 2))
    z2, kl = reparam_kl(mu, logvar, key, step[0])
    return mu, logvar, kl[0].double(), z2[:, 0]
