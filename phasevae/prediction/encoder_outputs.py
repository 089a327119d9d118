"""Read the means and log variances of the posterior out of whatever an encoder returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from phasevae.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.distributions import Distribution


MEANS = ("mu", "mean", "loc", "z_mean", "embedding")
LOG_VARIANCES = ("logvar", "log_var", "log_variance", "log_covariance", "z_log_var")
DEVIATIONS = ("scale", "std", "sigma")
VARIANCES = ("var", "variance")
DISTRIBUTIONS = ("latent_dist", "qz", "posterior")
"""Keys or attributes of an encoder's output, by what they hold; the first that exists counts."""

REMEDY = "give `select`, which returns mu and logvar"


def mu_and_logvar(output: Any) -> tuple[Tensor, Tensor]:
    """Return the means and log variances in an encoder's output.

    Parameters
    ----------
    output : tensor, tuple, mapping, object or distribution
        A tensor [B, 2n] holds both halves; of a tensor [B, 2C, H, W] the channels are halved. The first two items of a
        tuple are mu and logvar, unless one of its items is a distribution. A mapping or an object has them under usual
        names (MEANS, LOG_VARIANCES; DEVIATIONS and VARIANCES are converted), or has a distribution (DISTRIBUTIONS).

    Returns
    -------
    (mu, logvar) : tensors

    Raises
    ------
    InputError
        For any other output, and for a normal distribution with correlated latents.
    """
    if _is_distribution(output):
        return _of_distribution(output)
    if _is_array(output):
        return _halves(output)
    found = _by_name(output)
    if found is None and isinstance(output, tuple | list) and output:
        distribution = next((item for item in output if _is_distribution(item)), None)
        if distribution is not None:
            return _of_distribution(distribution)
        if len(output) >= 2 and _is_array(output[0]) and _is_array(output[1]):
            return output[0], output[1]
        return mu_and_logvar(output[0])
    if found is None:
        raise InputError(f"encoder: gives a {type(output).__name__}, must be mu and logvar; {REMEDY}")
    return found


def _is_array(value: Any) -> bool:
    return hasattr(value, "ndim") and hasattr(value, "dtype")


def _is_distribution(value: Any) -> bool:
    import torch

    return isinstance(value, torch.distributions.Distribution)


def _halves(output: Any) -> tuple[Tensor, Tensor]:
    import torch

    shape = tuple(output.shape)
    axis = 1 if len(shape) > 2 else -1
    # The latents of [B, T, C] may be along either axis.
    if len(shape) in (0, 1, 3) or shape[axis] % 2:
        raise InputError(f"encoder: gives a tensor of shape {shape}, must be [B, 2n] or [B, 2C, H, W]; {REMEDY}")
    return torch.as_tensor(output).chunk(2, dim=axis)


def _by_name(output: Any) -> tuple[Tensor, Tensor] | None:
    """Return mu and logvar by the names of keys or attributes, or None if they have other names."""
    distribution = _first(output, DISTRIBUTIONS, lambda value: value is not None)
    if distribution is not None:
        return mu_and_logvar(distribution)
    mu = _first(output, MEANS, _is_array)
    if mu is None:
        return None
    for names, power in ((LOG_VARIANCES, 0), (DEVIATIONS, 2), (VARIANCES, 1)):
        spread = _first(output, names, _is_array)
        if spread is not None:
            return mu, _log(spread, power) if power else spread
    return None


def _first(output: Any, names: tuple[str, ...], fits: Callable[[Any], bool]) -> Any:
    """Return the first of the named values that fits, or None."""
    for name in names:
        value = output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)
        if fits(value):
            return value
    return None


def _of_distribution(distribution: Distribution) -> tuple[Tensor, Tensor]:
    from torch import distributions

    while isinstance(distribution, distributions.Independent):
        distribution = distribution.base_dist
    if isinstance(distribution, distributions.Normal):
        return distribution.loc, _log(distribution.scale, 2)
    if isinstance(distribution, distributions.MultivariateNormal):
        # A covariance is diagonal exactly where its Cholesky factor is.
        if distribution.scale_tril.tril(-1).any():
            raise InputError("encoder: gives a MultivariateNormal with correlated latents, must be diagonal")
        return distribution.loc, _log(distribution.scale_tril.diagonal(dim1=-2, dim2=-1), 2)
    raise InputError(f"encoder: gives the distribution {type(distribution).__name__}, must be Normal; {REMEDY}")


def _log(value: Any, power: int) -> Tensor:
    """Return the log of a power, in double precision: a half has too few digits for its log."""
    import torch

    return power * torch.as_tensor(value).detach().double().log()
