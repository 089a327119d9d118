"""The compiled operations: importing this module loads the extension and registers the derivatives of its operations.

The kernels are in csrc/. Raises ImportError when the extension is missing or was built for another torch.
"""

from __future__ import annotations

import importlib

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from phasevae.kernels import reference

_extension = importlib.import_module("phasevae._C")
_ops = torch.ops.phasevae
MOST_MATCHED = 16
"""The most latents of `match_moments`, kMostMatched of csrc/elbo_launch.h."""
TARGET_DEVICES = ("cpu", "cuda")
"""Where `rao_blackwell_targets` has a kernel."""
HAS_NETWORK_KERNELS: bool = _extension.has_network_kernels()
"""Whether this processor can run the operations mlp_forward and mlp_backward of `phasevae.kernels.mlp`."""


def has_network_kernels(device_type: str) -> bool:
    """Return whether these two operations can be used on 'cpu' or 'cuda'."""
    return device_type == "cuda" or HAS_NETWORK_KERNELS


def has_step_kernels(device_type: str) -> bool:
    """Return whether there are kernels for what is elementwise in a step (`phasevae.training.fused_step`)."""
    return device_type == "cuda"


def build_info() -> dict[str, object]:
    """Return what the extension was compiled with: {torch, compiler, cxx_standard, parallel, cuda}."""
    return _extension.build_info()


def reparam_kl(mu: Tensor, logvar: Tensor, keys: Tensor, step: int | Tensor, antithetic: bool) -> tuple[Tensor, Tensor]:
    """See `phasevae.kernels.elbo.reparam_kl`."""
    if isinstance(step, Tensor):
        return _ops.reparam_kl(mu, logvar, keys, 0, step, antithetic)
    return _ops.reparam_kl(mu, logvar, keys, step, None, antithetic)


def gaussian_nll(x: Tensor, xhat: Tensor, sigma2: Tensor) -> Tensor:
    """See `phasevae.kernels.elbo.gaussian_nll`."""
    return _ops.gaussian_nll(x, xhat, sigma2)


def bernoulli_nll(x: Tensor, logits: Tensor, sigma2: Tensor) -> Tensor:
    """See `phasevae.kernels.elbo.bernoulli_nll`."""
    return _ops.bernoulli_nll(x, logits, sigma2)


def reparam_kl_backward(
    grad_z: Tensor, grad_kl: Tensor, mu: Tensor, logvar: Tensor, z: Tensor
) -> tuple[Tensor, Tensor]:
    """See `phasevae.kernels.elbo.reparam_kl_backward`."""
    return _ops.reparam_kl_backward(grad_z, grad_kl, mu, logvar, z)


def gaussian_slopes(x: Tensor, xhat: Tensor, sigma2: Tensor) -> Tensor:
    """See `phasevae.kernels.elbo.gaussian_slopes`."""
    return _ops.gaussian_nll_backward(_of_a_mean(xhat), x, xhat, sigma2)


def bernoulli_slopes(x: Tensor, logits: Tensor, sigma2: Tensor) -> Tensor:
    """See `phasevae.kernels.elbo.bernoulli_slopes`."""
    return _ops.bernoulli_nll_backward(_of_a_mean(logits), x, logits, sigma2)


def chances(logits: Tensor) -> Tensor:
    """See `phasevae.kernels.elbo.chances`."""
    one = logits.new_ones(())
    x = logits.new_zeros(1, *logits.shape[2:])
    return _ops.bernoulli_nll_backward(one.expand(logits.shape[:3]), x, logits, one.expand(logits.shape[0]))


def mean_over_rows(values: Tensor, rows: int) -> Tensor:
    """See `phasevae.kernels.elbo.mean_over_rows`."""
    return _ops.mean_over_rows(values, rows) if values.is_cpu else reference.mean_over_rows(values, rows)


def _of_a_mean(outputs: Tensor) -> Tensor:
    """The derivative of a mean over draws and rows by its values, a view [M, A, B] of one number."""
    shape = outputs.shape[:3]
    return outputs.new_full((), 1.0 / (shape[1] * shape[2])).expand(shape)


def normals(keys: Tensor, steps: Tensor, rows: int, n: int, dtype: torch.dtype) -> Tensor:
    """See `phasevae.kernels.reference.normals`."""
    return _ops.normals(keys, steps, rows, n, dtype)


def match_moments(z: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    """Compute `phasevae.training.variance_reduction.moment_matched_noise` for up to MOST_MATCHED latents."""
    return _ops.match_moments(z, mu, logvar)


def rao_blackwell_targets(
    x: Tensor, mean: Tensor | None, mu: Tensor, logvar: Tensor, z: Tensor, decoded: Tensor, group: int
) -> Tensor:
    """Compute `phasevae.training.variance_reduction.rao_blackwell_targets` without classes."""
    return _ops.rao_blackwell_targets(x, mean, mu, logvar, z, decoded, group)


def adam_step(
    parameters: Tensor,
    gradients: Tensor,
    moments: tuple[Tensor, Tensor],
    learning_rate: Tensor,
    steps_done: Tensor,
    beta1: float,
    beta2: float,
    epsilon: float,
) -> None:
    """Do one step of Adam in place.

    Parameters
    ----------
    parameters, gradients : Tensor
    moments : (Tensor, Tensor)
        Of the shape of the parameters.
    learning_rate : Tensor []
        float64 on the same device: a captured CUDA graph reads its present value.
    steps_done : Tensor []
        int64 on the same device, the number of steps before this one.
    beta1, beta2, epsilon : float
        Constants of Kingma & Ba (2015).
    """
    _ops.adam_step(parameters, gradients, *moments, learning_rate, steps_done, beta1, beta2, epsilon)


sample_posterior = _ops.sample_posterior
sample_posterior_backward = _ops.sample_posterior_backward
gaussian_objective = _ops.gaussian_objective
step_inputs = _ops.step_inputs
end_step = _ops.end_step
"""Parts of a training step on CUDA; see `phasevae.training.fused_step`."""

train_steps = _ops.train_steps
"""Many steps of a training on the CPU; see `phasevae.training.native_steps`. `in_panels` says where the weights are."""

arrange_weights = _ops.arrange_weights
"""Put weights into the panels of columns that the products read, or back, in tensors laid out as the parameters [M, P].

`in_panels` [], bool, says where they are, and changes with them."""


def _fake_reparam_kl(mu, logvar, keys, step, device_step, antithetic):
    models, rows, latents = mu.shape
    return mu.new_empty(models, 2 if antithetic else 1, rows, latents), mu.new_empty(mu.shape)


def _fake_reparam_kl_backward(grad_z, grad_kl, mu, logvar, z):
    return mu.new_empty(mu.shape), mu.new_empty(mu.shape)


def _fake_normals(keys, steps, rows, latents, dtype):
    return keys.new_empty(keys.shape[0], rows, latents, dtype=dtype)


def _fake_match_moments(z, mu, logvar):
    return z.new_empty(z.shape)


def _fake_rao_blackwell_targets(x, mean, mu, logvar, z, decoded, group):
    return decoded.new_empty(decoded.shape)


def _fake_mean_over_rows(values, rows):
    return values.new_empty(values.shape[:1])


def _fake_gaussian_nll(x, xhat, sigma2):
    return xhat.new_empty(xhat.shape[:3])


def _fake_gaussian_nll_backward(grad_nll, x, xhat, sigma2):
    return xhat.new_empty(xhat.shape)


def _fake_sample_posterior(encoded, keys, step, antithetic, matched, low, high):
    models, rows, latents = encoded.shape[0], encoded.shape[1], encoded.shape[2] // 2
    z = encoded.new_empty(models, 2 if antithetic else 1, rows, latents)
    return z, encoded.new_empty(models, rows, latents), encoded.new_empty(models)


def _fake_sample_posterior_backward(grad_z, grad_kl, encoded, z, low, high):
    return encoded.new_empty(encoded.shape)


def _fake_gaussian_objective(x, mean, mu, logvar, z, decoded, sigma2, group):
    return decoded.new_empty(decoded.shape), decoded.new_empty(decoded.shape), sigma2.new_empty(sigma2.shape)


def _fake_step_inputs(x, numbers, factors, rates, position, streams, sigma2):
    copies = 1 if numbers.shape[1] == 1 else len(streams)
    batch = x.new_empty(copies, numbers.shape[2], x.shape[1])
    return batch, sigma2.new_empty(sigma2.shape), factors.new_empty(2)


def _fake_nothing(*_):
    return None


def _save_posterior(ctx: FunctionCtx, inputs: tuple, output: tuple) -> None:
    ctx.save_for_backward(*inputs[:2], output[0])


def _differentiate_reparam_kl(ctx: FunctionCtx, grad_z: Tensor, grad_kl: Tensor) -> tuple:
    return *_ops.reparam_kl_backward(grad_z, grad_kl, *ctx.saved_tensors), None, None, None, None


def _save_matched(ctx: FunctionCtx, inputs: tuple, output: Tensor) -> None:
    ctx.save_for_backward(*inputs[1:], output)


def _differentiate_match_moments(ctx: FunctionCtx, grad_z: Tensor) -> tuple:
    # The root of the covariance is a constant, as are the draws before: z - mu = e^(logvar/2) eps holds for the result.
    no_kl = grad_z.new_zeros(()).expand(grad_z[:, 0].shape)
    return None, *_ops.reparam_kl_backward(grad_z, no_kl, *ctx.saved_tensors)


def _save_residual(ctx: FunctionCtx, inputs: tuple, output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _differentiate_gaussian_nll(ctx: FunctionCtx, grad_nll: Tensor) -> tuple:
    return None, _ops.gaussian_nll_backward(grad_nll, *ctx.saved_tensors), None


def _differentiate_bernoulli_nll(ctx: FunctionCtx, grad_nll: Tensor) -> tuple:
    return None, _ops.bernoulli_nll_backward(grad_nll, *ctx.saved_tensors), None


for _name, _fake in (
    ("reparam_kl", _fake_reparam_kl),
    ("reparam_kl_backward", _fake_reparam_kl_backward),
    ("normals", _fake_normals),
    ("match_moments", _fake_match_moments),
    ("rao_blackwell_targets", _fake_rao_blackwell_targets),
    ("mean_over_rows", _fake_mean_over_rows),
    ("gaussian_nll", _fake_gaussian_nll),
    ("gaussian_nll_backward", _fake_gaussian_nll_backward),
    ("bernoulli_nll", _fake_gaussian_nll),
    ("bernoulli_nll_backward", _fake_gaussian_nll_backward),
    ("adam_step", _fake_nothing),
    ("train_steps", _fake_nothing),
    ("arrange_weights", _fake_nothing),
    ("sample_posterior", _fake_sample_posterior),
    ("sample_posterior_backward", _fake_sample_posterior_backward),
    ("gaussian_objective", _fake_gaussian_objective),
    ("step_inputs", _fake_step_inputs),
    ("end_step", _fake_nothing),
):
    torch.library.register_fake(f"phasevae::{_name}")(_fake)


torch.library.register_autograd("phasevae::reparam_kl", _differentiate_reparam_kl, setup_context=_save_posterior)


torch.library.register_autograd("phasevae::match_moments", _differentiate_match_moments, setup_context=_save_matched)


torch.library.register_autograd("phasevae::gaussian_nll", _differentiate_gaussian_nll, setup_context=_save_residual)


torch.library.register_autograd("phasevae::bernoulli_nll", _differentiate_bernoulli_nll, setup_context=_save_residual)
