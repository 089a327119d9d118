"""The operations of the evidence lower bound, batched over an ensemble of models.

The decoder stands between sampling and reconstruction error, so the ELBO is two operations. Shapes: M models, B rows,
A draws per row (2 if antithetic), n latents, D features. `phasevae.kernels.dispatch` chooses who computes them; the
environment variable PHASEVAE_BACKEND forces a backend.
"""

from __future__ import annotations

import torch
from torch import Tensor

from phasevae.errors import InputError
from phasevae.kernels import reference
from phasevae.kernels.dispatch import implementation


def reparam_kl(
    mu: Tensor, logvar: Tensor, keys: Tensor, step: int | Tensor, antithetic: bool = False
) -> tuple[Tensor, Tensor]:
    """Draw latents by reparameterisation and give the analytic KL divergence from the prior (Eq. 17).

    Parameters
    ----------
    mu, logvar : Tensor [M, B, n]
        Means and log variances of the posterior.
    keys : Tensor [M]
        int64, one noise stream per model.
    step : int or Tensor []
        Which draw of the streams; a tensor is int64 on the same device.
    antithetic : bool
        Draw two latents per row, with opposite noise.

    Returns
    -------
    z : Tensor [M, A, B, n]
        mu + exp(logvar / 2) eps, and for A = 2 also mu - exp(logvar / 2) eps.
    kl : Tensor [M, B, n]
        (mu^2 + e^logvar - 1 - logvar) / 2 in nats, exact near the collapsed state.

    Raises
    ------
    InputError
        If shapes do not fit, or PHASEVAE_BACKEND names a backend that cannot be used.
    """
    _check_posterior("reparam_kl", mu, logvar, keys)
    return implementation(mu.device.type).reparam_kl(mu, logvar, keys, step, antithetic)


@torch.no_grad()
def posterior_draws(mu: Tensor, logvar: Tensor, keys: Tensor, steps: Tensor, antithetic: bool = False) -> Tensor:
    """Draw latents at several steps at once: those that `reparam_kl` draws at each of them, without derivatives.

    Parameters
    ----------
    mu, logvar, keys, antithetic
        As in `reparam_kl`.
    steps : Tensor [S]
        int64 on the same device.

    Returns
    -------
    Tensor [M, S * A, B, n]
        z, with the draws of a step side by side.

    Raises
    ------
    InputError
        If shapes do not fit, or PHASEVAE_BACKEND names a backend that cannot be used.
    """
    _check_posterior("posterior_draws", mu, logvar, keys)
    models, rows, n_latent = mu.shape
    streams, draws = keys.repeat_interleave(steps.numel()), steps.repeat(models)
    eps = implementation(mu.device.type).normals(streams, draws, rows, n_latent, mu.dtype)
    scale, _, _ = reference.width(logvar)
    spread = scale[:, None] * eps.unflatten(0, (models, -1))
    mu = mu[:, None]
    return torch.stack((mu + spread, mu - spread), 2).flatten(1, 2) if antithetic else mu + spread


def gaussian_nll(x: Tensor, xhat: Tensor, sigma2: Tensor) -> Tensor:
    """Compute |x - xhat|^2 / (2 sigma2), the reconstruction term of Eq. 17 without its constant.

    Parameters
    ----------
    x : Tensor [M, B, D] or [1, B, D]
        The rows; with 1 they are shared by all models.
    xhat : Tensor [M, A, B, D]
        The decoder means. Gradients flow to them alone.
    sigma2 : Tensor [M]
        The decoder variances.

    Returns
    -------
    Tensor [M, A, B]
        In nats.

    Raises
    ------
    InputError
        If shapes do not fit, or PHASEVAE_BACKEND names a backend that cannot be used.
    """
    _check_residual("gaussian_nll", x, xhat, sigma2)
    return implementation(xhat.device.type).gaussian_nll(x, xhat, sigma2)


def bernoulli_nll(x: Tensor, logits: Tensor, sigma2: Tensor) -> Tensor:
    """Compute sum_d [ln(1 + e^f) - x f] / sigma2, the cross entropy of values within 0 and 1.

    Parameters
    ----------
    x : Tensor [M, B, D] or [1, B, D]
        The rows; with 1 they are shared by all models.
    logits : Tensor [M, A, B, D]
        The outputs f of the decoder. Gradients flow to them alone.
    sigma2 : Tensor [M]
        What the objective is divided by.

    Returns
    -------
    Tensor [M, A, B]
        In nats.

    Raises
    ------
    InputError
        If shapes do not fit, or PHASEVAE_BACKEND names a backend that cannot be used.
    """
    _check_residual("bernoulli_nll", x, logits, sigma2)
    return implementation(logits.device.type).bernoulli_nll(x, logits, sigma2)


def reparam_kl_backward(
    grad_z: Tensor, grad_kl: Tensor, mu: Tensor, logvar: Tensor, z: Tensor
) -> tuple[Tensor, Tensor]:
    """Differentiate `reparam_kl`, with or without moment-matched noise.

    Parameters
    ----------
    grad_z : Tensor [M, A, B, n]
        The derivative of the objective by the draws.
    grad_kl : Tensor [M, B, n]
        That by the KL divergences.
    mu, logvar : Tensor [M, B, n]
    z : Tensor [M, A, B, n]
        The draws.

    Returns
    -------
    Tensor [M, B, n], Tensor [M, B, n]
        The derivatives by mu and logvar.
    """
    return implementation(mu.device.type).reparam_kl_backward(grad_z, grad_kl, mu, logvar, z)


def gaussian_slopes(x: Tensor, xhat: Tensor, sigma2: Tensor) -> Tensor:
    """Differentiate the mean of `gaussian_nll` over draws and rows by xhat; arguments as there."""
    _check_residual("gaussian_slopes", x, xhat, sigma2)
    return implementation(xhat.device.type).gaussian_slopes(x, xhat, sigma2)


def bernoulli_slopes(x: Tensor, logits: Tensor, sigma2: Tensor) -> Tensor:
    """Differentiate the mean of `bernoulli_nll` over draws and rows by the logits; arguments as there."""
    _check_residual("bernoulli_slopes", x, logits, sigma2)
    return implementation(logits.device.type).bernoulli_slopes(x, logits, sigma2)


def chances(logits: Tensor) -> Tensor:
    """Compute 1 / (1 + e^-f) for the logits f [M, A, B, D], with the roundings of `bernoulli_nll`."""
    return implementation(logits.device.type).chances(logits)


def mean_over_rows(values: Tensor, rows: int) -> Tensor:
    """Sum the values [M, ...] of each model and divide by the number of rows, [M].

    The numbers of a model do not depend on its ensemble, nor on the number of threads.
    """
    return implementation(values.device.type).mean_over_rows(values, rows)


def _check_residual(operation: str, x: Tensor, outputs: Tensor, sigma2: Tensor) -> None:
    models, _, *row = outputs.shape if outputs.ndim == 4 else (0, 0)
    if x.ndim != 3 or list(x.shape[1:]) != row or x.shape[0] not in (1, models) or sigma2.shape != (models,):
        raise InputError(
            f"{operation}: x {tuple(x.shape)}, outputs {tuple(outputs.shape)}, sigma2 {tuple(sigma2.shape)}; "
            "must be [M or 1, B, D], [M, A, B, D], [M]"
        )


def _check_posterior(operation: str, mu: Tensor, logvar: Tensor, keys: Tensor) -> None:
    if mu.ndim != 3 or mu.shape != logvar.shape or keys.shape != mu.shape[:1]:
        raise InputError(
            f"{operation}: mu {tuple(mu.shape)}, logvar {tuple(logvar.shape)}, keys {tuple(keys.shape)}; "
            "must be [M, B, n], [M, B, n], [M]"
        )
