"""The operations of the evidence lower bound, batched over an ensemble of models.

The decoder stands between sampling and reconstruction error, so the ELBO is two operations.
M models, B rows, A draws per row (2 when antithetic), n latents, D features.

The native kernels compute them where they can be used, PyTorch elsewhere: `phasevae.kernels.backends` chooses, and the
environment variable PHASEVAE_BACKEND forces one.
"""

from __future__ import annotations

import warnings
from types import ModuleType

import torch
from torch import Tensor

from phasevae.errors import InputError
from phasevae.kernels import backends, reference

_chosen: dict[str, str] = {}
_loaded: dict[str, ModuleType] = {"torch": reference}


def reparam_kl(
    mu: Tensor, logvar: Tensor, keys: Tensor, step: int | Tensor, antithetic: bool = False
) -> tuple[Tensor, Tensor]:
    """Draw latents by reparameterisation and give the analytic KL divergence from the prior (Eq. 17).

    mu, logvar: [M, B, n]; keys: int64 [M], one noise stream a model; step: which draw of the streams, a number or
    an int64 scalar tensor on the same device.
    Returns z [M, A, B, n] with z = mu +- exp(logvar / 2) eps (A = 2, antithetic) or + alone (A = 1), and
    kl [M, B, n] = (mu^2 + e^logvar - 1 - logvar) / 2 in nats, exact near the collapsed state.
    Raises InputError when shapes do not fit, or PHASEVAE_BACKEND asks for what cannot be.
    """
    if mu.ndim != 3 or mu.shape != logvar.shape or keys.shape != mu.shape[:1]:
        raise InputError(
            f"reparam_kl: mu {tuple(mu.shape)}, logvar {tuple(logvar.shape)}, keys {tuple(keys.shape)}; "
            "must be [M, B, n], [M, B, n], [M]"
        )
    return _implementation(mu.device.type).reparam_kl(mu, logvar, keys, step, antithetic)


def gaussian_nll(x: Tensor, xhat: Tensor, sigma2: Tensor) -> Tensor:
    """Scaled squared error |x - xhat|^2 / (2 sigma2): the reconstruction term of Eq. 17 without its constant.

    x: [M, B, D], or [1, B, D] shared by all models; xhat: [M, A, B, D]; sigma2: [M], the decoder variances.
    Returns [M, A, B] in nats; gradients flow to xhat alone.
    Raises InputError when shapes do not fit, or PHASEVAE_BACKEND asks for what cannot be.
    """
    models, _, *row = xhat.shape if xhat.ndim == 4 else (0, 0)
    if x.ndim != 3 or list(x.shape[1:]) != row or x.shape[0] not in (1, models) or sigma2.shape != (models,):
        raise InputError(
            f"gaussian_nll: x {tuple(x.shape)}, xhat {tuple(xhat.shape)}, sigma2 {tuple(sigma2.shape)}; "
            "must be [M or 1, B, D], [M, A, B, D], [M]"
        )
    return _implementation(xhat.device.type).gaussian_nll(x, xhat, sigma2)


# torch.compile cannot trace a choice that reads files, and need not: it is made once a process.
@torch.compiler.assume_constant_result
def backend(device_type: str) -> str:
    """Name of the backend, one of `phasevae.kernels.backends.BACKENDS`, that computes on 'cpu' or 'cuda'.

    Raises InputError when PHASEVAE_BACKEND asks for what cannot be.
    """
    if device_type not in _chosen:
        _chosen[device_type] = _choose(device_type)
    return _chosen[device_type]


def _implementation(device_type: str) -> ModuleType:
    name = backend(device_type)
    return _loaded[name]


def _choose(device_type: str) -> str:
    name = backends.choose(device_type)
    if name == "torch":
        state = backends.states()["native_cpu"]
        if state.broken and backends.forced() is None:
            _warn(state.reason)
        return name
    try:
        from phasevae.kernels import native
    except (ImportError, OSError) as error:
        reason = f"the extension cannot be loaded ({str(error).splitlines()[0]}); `make build` renews it"
        if backends.forced() is not None:
            raise InputError(f"PHASEVAE_BACKEND: {name} is not available: {reason}") from None
        _warn(reason)
        return "torch"
    _loaded[name] = native
    return name


def _warn(reason: str) -> None:
    warnings.warn(f"native kernels are not used, PyTorch computes: {reason}", stacklevel=4)
