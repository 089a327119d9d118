"""Measurement of a trained model: the ELBO and its parts over the full data set, with standard errors.

Sums run in float64 over blocks of rows. The noise is keyed by the point, the block and the row in it, so the numbers of
a point do not depend on the ensemble that it was trained in.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from phasevae.kernels import noise
from phasevae.kernels.elbo import posterior_draws, reparam_kl
from phasevae.kernels.reconstruction import GaussianReconstruction, Reconstruction
from phasevae.measurement.conditions import ClassSums, class_numbers, error_numbers
from phasevae.measurement.row_means import RowMeans
from phasevae.model import VAEEnsemble
from phasevae.rows import AnyRows, Batch, Rows, has_classes, part_of
from phasevae.sweeps.settings import Member
from phasevae.theory.ppca import ACTIVE_KL

MOST_PAIRS, ENOUGH_PAIRS = 8, 2**19
"""Antithetic pairs of latent draws: the most per row, and the number over all rows that is enough."""

LIKELIHOOD_ROWS = 4096
LIKELIHOOD_DRAWS = 256
_LIKELIHOOD_NUMBERS = 2**22
"""The most numbers of the rows whose log likelihood is estimated together. Several copies of them are held."""

BLOCK = 2048
"""Rows that are measured together."""

# Several draws of all rows are decoded in one pass, because a pass over few rows is mostly overhead. The outputs of a
# layer have at most this many numbers in a pass (8 MiB in float32): larger ones leave the cache.
_PASS_NUMBERS = 2**21
_LEAST_WIDTH = 32
_TERMS = ("kl", "energy", "collapsed", "constant", "gap")


@torch.no_grad()
def measure_model(
    model: VAEEnsemble,
    rows: AnyRows | Tensor,
    member: Member,
    held_out: Tensor | None = None,
    with_likelihood: bool = True,
    reconstruction: Reconstruction | None = None,
) -> dict[str, Any]:
    """Measure one point. Energies are in nats per sample.

    Parameters
    ----------
    model : VAEEnsemble
        An ensemble of one model.
    rows : Rows, or Tensor [N, D]
        The full data set. A tensor is taken as centred rows.
    member : Member
        The decoder variance, beta and seed of the model.
    held_out : Tensor, optional
        Row numbers that training did not see, ascending.
    with_likelihood : bool
        Whether to estimate the log likelihood, which takes longer than the rest.
    reconstruction : Reconstruction, optional
        The family of likelihoods; Gaussian by default.

    Returns
    -------
    dict
        `mse` is E|x - f(z)|^2 summed over features, None for other families; `reconstruction`, for these, is -E ln
        p(x|z); `elbo` is E ln p(x|z) - beta kl (Eq. 17); `elbo_gap` is its distance from the value of the constant
        decoder (Eq. 24), paired row by row; `log_likelihood` is that of `log_likelihood`. Keys that end in
        `_standard_error` are over rows. `conditions` is that of `class_numbers`, where the rows have classes. `holdout`
        has the numbers of the held-out rows.
    """
    data = Rows.of(rows)
    reconstruction = reconstruction or GaussianReconstruction(data.n_features)
    gaussian = isinstance(reconstruction, GaussianReconstruction)
    n = len(data)
    n_latent = model.architecture.n_latent
    key = noise.point_key("measure", member.seed, member.sigma2, member.beta)
    pairs = min(MOST_PAIRS, math.ceil(ENOUGH_PAIRS / n))
    held_out = torch.empty(0, dtype=torch.int64) if held_out is None else held_out
    of_all, of_held = (RowMeans(_TERMS, count, data.device) for count in (n, held_out.numel()))
    of_classes = ClassSums(data.conditioning.coding) if has_classes(data) else None
    kl_sum = torch.zeros(n_latent, dtype=torch.float64, device=data.device)
    variance_sum, mu_sum = kl_sum.clone(), kl_sum.clone()
    mu_products = kl_sum.new_zeros(n_latent, n_latent)
    for start, batch in data.blocks(BLOCK):
        mu, logvar = model.encode(batch.inputs)
        kl, energy = _block_terms(model, reconstruction, batch, mu, logvar, key, start, pairs)
        kl_sum += kl.sum(0)
        variance_sum += logvar[0].double().exp().sum(0)
        mu_sum += mu[0].double().sum(0)
        mu_products += mu[0].double().T @ mu[0].double()
        collapsed = collapsed_energy(reconstruction, batch)
        constant = reconstruction.constant(batch.x[0].double(), member.sigma2)
        if of_classes is not None:
            product = mu[0, :, :, None].double() * mu[0, :, None].double()
            variance = logvar[0].double().exp()
            sums = {"kl": kl, "energy": energy, "constant": constant, "variance": variance, "mu": mu[0]}
            of_classes.add(batch.condition[0], **sums, mu_product=product)
        terms = {"kl": kl.sum(-1), "energy": energy, "collapsed": collapsed, "constant": constant}
        terms["gap"] = (collapsed - energy) / member.sigma2 - member.beta * terms["kl"]
        of_all.add(**terms)
        held = part_of(held_out, start, len(energy)).to(data.device)
        of_held.add(**{name: values[held] for name, values in terms.items()})
    covariance = (mu_products / n - torch.outer(mu_sum, mu_sum) / n**2).cpu().numpy()
    kl_per_dim = (kl_sum / n).cpu().numpy()

    def summary(means: RowMeans) -> dict[str, float]:
        kl, energy, constant = (means.mean(name) for name in ("kl", "energy", "constant"))
        elbo = -energy / member.sigma2 - constant - member.beta * kl
        return {"elbo": elbo, "kl": kl, **error_numbers(energy, constant, gaussian)}

    result = summary(of_all)
    result |= {
        "kl_per_dim": kl_per_dim,
        "latent_variance": (variance_sum / n).cpu().numpy(),
        "mean_variance": np.diagonal(covariance).copy(),
        "mean_covariance": covariance,
        "latent_mean": (mu_sum / n).cpu().numpy(),
        "collapsed_elbo": -of_all.mean("collapsed") / member.sigma2 - of_all.mean("constant"),
        "elbo_gap": of_all.mean("gap"),
        "elbo_gap_standard_error": of_all.standard_error("gap"),
        "active_dims": int((kl_per_dim > ACTIVE_KL).sum()),
        "n_samples": n,
    }
    if of_classes is not None:
        result["conditions"] = class_numbers(of_classes, gaussian)
    if with_likelihood:
        result |= log_likelihood(model, data, member, reconstruction)
    if held_out.numel():
        result["holdout"] = {"n_samples": held_out.numel(), **summary(of_held)}
    return result


def _block_terms(
    model: VAEEnsemble,
    reconstruction: Reconstruction,
    batch: Batch,
    mu: Tensor,
    logvar: Tensor,
    key: int,
    start: int,
    pairs: int,
) -> tuple[Tensor, Tensor]:
    """Return the KL per latent [R, n] and the energy [R] at sigma2 = 1 of rows, averaged over antithetic pairs."""
    x = batch.x
    keys = torch.tensor([key], dtype=torch.int64, device=x.device)
    unit = torch.ones(1, dtype=x.dtype, device=x.device)
    # The first row of the block is the high word of the step, so each block has rows of its own in the streams.
    first_step = start << 32
    _, kl = reparam_kl(mu, logvar, keys, first_step)
    statistics = reconstruction.statistics(x)
    total = x.new_zeros(x.shape[1], dtype=torch.float64)
    for steps in _passes(model, 2 * x.shape[1], pairs):
        z = posterior_draws(mu, logvar, keys, steps.to(x.device) + first_step, antithetic=True)
        outputs = _decode_draws(model, reconstruction, z, batch.condition)
        energy = reconstruction.energy(statistics, outputs, unit)[0].unflatten(0, (-1, 2))
        for pair in energy.double().mean(1):
            total += pair
    return kl[0].double(), total / pairs


def collapsed_energy(reconstruction: Reconstruction, batch: Batch) -> Tensor:
    """Return the energy of the constant decoder at sigma2 = 1 for some rows, [R]."""
    statistics = reconstruction.statistics(batch.x.double())
    condition = None if batch.condition is None else batch.condition[:, None]
    outputs = reconstruction.with_offset(statistics.new_zeros(1, 1, 1, reconstruction.n_outputs), condition)
    outputs = outputs.double().expand(-1, -1, batch.x.shape[1], -1)
    return reconstruction.energy(statistics, outputs, statistics.new_ones(1))[0, 0]


@torch.no_grad()
def log_likelihood(
    model: VAEEnsemble, rows: AnyRows | Tensor, member: Member, reconstruction: Reconstruction | None = None
) -> dict[str, float]:
    """Estimate the log likelihood by importance weighting: ln (1/K) sum_k p(x|z_k) p(z_k) / q(z_k|x).

    Parameters
    ----------
    model : VAEEnsemble
        An ensemble of one model.
    rows : Rows, or Tensor [N, D]
        The full data set. A tensor is taken as centred rows.
    member : Member
        The decoder variance, beta and seed of the model.
    reconstruction : Reconstruction, optional
        The family of likelihoods; Gaussian by default.

    Returns
    -------
    dict
        `log_likelihood` in nats per sample, with K = LIKELIHOOD_DRAWS, averaged over at most LIKELIHOOD_ROWS rows that
        are the same for every point of a data set; and `log_likelihood_standard_error` over these rows.

    References
    ----------
    Burda, Grosse & Salakhutdinov, "Importance weighted autoencoders", ICLR 2016.
    """
    data = Rows.of(rows)
    reconstruction = reconstruction or GaussianReconstruction(data.n_features)
    return importance_weighted(
        data, reconstruction, member, functools.partial(_log_weights, model, reconstruction, member)
    )


def importance_weighted(
    rows: AnyRows, reconstruction: Reconstruction, member: Member, log_weights: Callable[[Batch, int], Tensor]
) -> dict[str, float]:
    """Return the numbers of `log_likelihood` from the weights of the draws.

    Parameters
    ----------
    rows : Rows or FileRows
        The full data set.
    reconstruction : Reconstruction
    member : Member
    log_weights : callable
        Of some rows and the number of the first; returns ln p(x|z_k) p(z_k) / q(z_k|x) without the constant of the
        reconstruction, [K, R].
    """
    order = noise.subset(noise.key("likelihood", "rows"), LIKELIHOOD_ROWS, len(rows)).to(rows.order_device)
    size = max(1, _LIKELIHOOD_NUMBERS // rows.n_features)
    parts = []
    for number, part in enumerate(order.split(size)):
        batch = rows.gather(part[None])
        total = torch.logsumexp(log_weights(batch, number * size), dim=0) - math.log(LIKELIHOOD_DRAWS)
        parts.append(total - reconstruction.constant(batch.x[0].double(), member.sigma2))
    per_row = torch.cat(parts)
    return {
        "log_likelihood": float(per_row.mean()),
        "log_likelihood_standard_error": float(per_row.std()) / math.sqrt(per_row.numel()),
    }


def _log_weights(
    model: VAEEnsemble, reconstruction: Reconstruction, member: Member, batch: Batch, start: int
) -> Tensor:
    """Return the log weights of the draws for some rows, [K, R] in nats; `start` is the number of the first."""
    key = noise.point_key("likelihood", member.seed, member.sigma2, member.beta)
    keys = torch.tensor([key], dtype=torch.int64, device=batch.x.device)
    sigma2 = torch.tensor([member.sigma2], dtype=batch.x.dtype, device=batch.x.device)
    mu, logvar = model.encode(batch.inputs)
    variance = logvar.exp()
    statistics = reconstruction.statistics(batch.x)
    # Taken whole: small results kept between the outputs of the passes would leave no hole of their size in the memory.
    weights = batch.x.new_empty(LIKELIHOOD_DRAWS, batch.x.shape[1], dtype=torch.float64)
    for draws in _passes(model, batch.x.shape[1], LIKELIHOOD_DRAWS):
        steps = draws.to(batch.x.device)
        # As in `_block_terms`, each block of rows has draws of its own.
        z = posterior_draws(mu, logvar, keys, steps + (start << 32))
        outputs = _decode_draws(model, reconstruction, z, batch.condition)
        energy = reconstruction.energy(statistics, outputs, sigma2)[0]
        log_ratio = 0.5 * ((z[0] - mu).square() / variance + logvar - z[0].square())
        weights[steps] = -energy.double() + log_ratio.double().sum(-1)
    return weights


def _passes(model: VAEEnsemble, rows: int, draws: int) -> Iterator[Tensor]:
    """Yield the numbers of the draws of each pass; its size keeps the activations of `rows` rows per draw in cache."""
    width = max(model.decoder.widest, _LEAST_WIDTH)
    yield from torch.arange(draws).split(max(1, _PASS_NUMBERS // (rows * width)))


def _decode_draws(model: VAEEnsemble, reconstruction: Reconstruction, z: Tensor, condition: Tensor | None) -> Tensor:
    """Return the outputs of the decoder for draws [1, A, B, n] in one pass, [1, A, B, P]."""
    condition = None if condition is None else condition.repeat(1, z.shape[1], 1)
    return reconstruction.with_offset(model.decode(z.flatten(1, 2), condition), condition).unflatten(1, z.shape[1:3])
