"""The operations of the evidence lower bound, batched over an ensemble of models.

The decoder stands between sampling and reconstruction error, so the ELBO is two operations; every caller
uses this pair and no other. M models, B rows, A draws per row (2 when antithetic), n latents, D features.
"""

from __future__ import annotations

from torch import Tensor

from phasevae import _reference
from phasevae.errors import InputError


def reparam_kl(mu: Tensor, logvar: Tensor, keys: Tensor, step: int, antithetic: bool = False) -> tuple[Tensor, Tensor]:
    """Draw latents by reparameterisation and give the analytic KL divergence from the prior (Eq. 17).

    mu, logvar: [M, B, n]; keys: int64 [M], one noise stream a model; step: which draw of the streams.
    Returns z [M, A, B, n] with z = mu +- exp(logvar / 2) eps (A = 2, antithetic) or + alone (A = 1), and
    kl [M, B, n] = (mu^2 + e^logvar - 1 - logvar) / 2 in nats, exact near the collapsed state.
    Raises InputError when shapes do not fit.
    """
    if mu.ndim != 3 or mu.shape != logvar.shape or keys.shape != mu.shape[:1]:
        raise InputError(
            f"reparam_kl: mu {tuple(mu.shape)}, logvar {tuple(logvar.shape)}, keys {tuple(keys.shape)}; "
            "must be [M, B, n], [M, B, n], [M]"
        )
    return _reference.reparam_kl(mu, logvar, keys, step, antithetic)


def gaussian_nll(x: Tensor, xhat: Tensor, sigma2: Tensor) -> Tensor:
    """Scaled squared error |x - xhat|^2 / (2 sigma2): the reconstruction term of Eq. 17 without its constant.

    x: [M, B, D], or [1, B, D] shared by all models; xhat: [M, A, B, D]; sigma2: [M], the decoder variances.
    Returns [M, A, B] in nats; gradients flow to xhat alone. Raises InputError when shapes do not fit.
    """
    models, _, *row = xhat.shape if xhat.ndim == 4 else (0, 0)
    if x.ndim != 3 or list(x.shape[1:]) != row or x.shape[0] not in (1, models) or sigma2.shape != (models,):
        raise InputError(
            f"gaussian_nll: x {tuple(x.shape)}, xhat {tuple(xhat.shape)}, sigma2 {tuple(sigma2.shape)}; "
            "must be [M or 1, B, D], [M, A, B, D], [M]"
        )
    return _reference.gaussian_nll(x, xhat, sigma2)
