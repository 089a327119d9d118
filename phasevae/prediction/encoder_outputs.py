"""Read the means and log variances of the posterior out of whatever an encoder returns."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from phasevae.errors import InputError
from phasevae.prediction.output_roles import LOG_STD, LOGVAR, STD, VAR, RoleFinder, Roles, as_logvar, check_spread

if TYPE_CHECKING:
    from torch import Tensor
    from torch.distributions import Distribution


MEANS = ("mu", "mean", "loc", "z_mean", "embedding")
SPREADS = {
    LOGVAR: ("logvar", "log_var", "log_variance", "log_covariance", "z_log_var"),
    LOG_STD: ("log_std", "logstd", "log_sigma", "log_scale"),
    STD: ("scale", "std", "sigma"),
    VAR: ("var", "variance"),
}
DISTRIBUTIONS = ("latent_dist", "qz", "posterior")
"""Keys or attributes of an encoder's output, by what they hold; the first that exists counts."""

REMEDY = "give `select`, which returns mu and logvar"


class PosteriorReader:
    """Return the means and log variances in an encoder's output, in each way that it can be read.

    The output is one of these:

    * a distribution (`Normal`, `Independent`, a `MultivariateNormal` of independent latents), alone, in a tuple, or
      under one of DISTRIBUTIONS;
    * a mapping or an object with usual names (MEANS, SPREADS);
    * a tensor with both halves, [B, 2n], or [B, 2C, H, W], whose channels are halved;
    * a tuple of tensors. Only those with n numbers for each sample count. Two are mu and logvar. Among more, z is
      recognised by z - mu, which is noise of the right width and independent of mu (`output_roles.RoleFinder`).

    The outputs so far decide what tensors without names are. Few samples may leave several ways.

    Parameters
    ----------
    n_latent : int
    spread : str, optional
        How tensors without names give the width: ``logvar``, ``log_std``, ``std`` or ``var``. By default this is
        found out: a tensor that is positive everywhere is no log variance.
    noise_scale : float
        z is mu + noise_scale * sigma * noise.
    """

    def __init__(self, n_latent: int, spread: str | None = None, noise_scale: float = 1.0):
        self._n, self._finder = n_latent, RoleFinder(check_spread(spread), noise_scale)
        self.hidden: Callable[[tuple[int, ...]], str | None] | None = None
        """Returns why a single tensor with this shape of a sample is not mu and logvar, if the model shows that."""

    def __call__(self, output: Any) -> dict[Roles | None, tuple[Tensor, Tensor]]:
        """Return (mu, logvar) for each way to read an output, the most usual first; None is that by names.

        Raises InputError for an output that is not understood.
        """
        named = named_posterior(output)
        if named is not None:
            return {None: named}
        arrays = self._arrays(output)
        left = self._finder.add(arrays)
        if max(max(roles.mean, roles.spread) for roles in left) >= len(arrays):
            raise InputError(f"encoder: gives {len(arrays)} tensors of {self._n} latents, gave more before; {REMEDY}")
        return {roles: (arrays[roles.mean], as_logvar(arrays[roles.spread], roles.kind)) for roles in left}

    @property
    def left(self) -> tuple[Roles, ...]:
        """The roles of tensors without names that the outputs so far allow."""
        return self._finder.left

    def _arrays(self, output: Any) -> tuple[Tensor, ...]:
        """Return the tensors with one number for each latent and sample."""
        if _is_array(output):
            return self._halves(output)
        if not isinstance(output, tuple | list) or not output:
            raise InputError(f"encoder: gives a {type(output).__name__}, must be mu and logvar; {REMEDY}")
        if not _is_array(output[0]):
            return self._arrays(output[0])
        arrays = tuple(item for item in output if _is_array(item) and _size(item) == self._n)
        if len(arrays) >= 2:
            return arrays
        whole = [item for item in output if _is_array(item) and _size(item) == 2 * self._n]
        if len(whole) == 1 and not arrays:
            return self._halves(whole[0])
        shapes = ", ".join(str(tuple(item.shape)) for item in output if _is_array(item))
        raise InputError(
            f"encoder: gives tensors of shapes {shapes}, two must have {self._n} latents for each sample; {REMEDY}"
        )

    def _halves(self, output: Any) -> tuple[Tensor, Tensor]:
        import torch

        output, n = torch.as_tensor(output), self._n
        shape = tuple(output.shape)
        why = self.hidden(shape[1:]) if self.hidden else None
        # The latents of [B, T, C] may be along either axis.
        axis = next((axis for axis, size in enumerate(shape) if axis and size == 2 * n), 1 if len(shape) > 3 else None)
        if len(shape) < 2 or axis is None or _size(output) != 2 * n or shape[axis] % 2:
            raise InputError(
                f"encoder: gives a tensor of shape {shape}, must be [batch, {2 * n}] or [batch, 2C, H, W]; "
                f"{why or REMEDY}"
            )
        if why:
            raise InputError(f"encoder: gives a hidden layer, must be mu and logvar; {why}")
        if self._finder.spread is None and not self._finder.left and bool((output >= 0).all() & (output > 0).any()):
            raise InputError(
                f"encoder: gives a tensor of shape {shape} without negative numbers, as a hidden layer does, must be "
                f"mu and logvar; {REMEDY}"
            )
        return output.chunk(2, dim=axis)


def named_posterior(output: Any) -> tuple[Tensor, Tensor] | None:
    """Return the mu and logvar of a distribution, or by the names of keys or attributes.

    Parameters
    ----------
    output : distribution, mapping, object, or a tuple with a distribution

    Returns
    -------
    (mu, logvar) : tensors, or None if nothing has a name

    Raises
    ------
    InputError
        For a distribution that is not normal, and for a normal one with correlated latents.
    """
    if _is_distribution(output):
        return _of_distribution(output)
    if _is_array(output):
        return None
    distribution = _first(output, DISTRIBUTIONS, lambda value: value is not None)
    if distribution is not None:
        return named_posterior(distribution)
    mu = _first(output, MEANS, _is_array)
    if mu is not None:
        for kind, names in SPREADS.items():
            spread = _first(output, names, _is_array)
            if spread is not None:
                return mu, as_logvar(spread, kind)
    if isinstance(output, tuple | list):
        return next((found for item in output if not _is_array(item) and (found := named_posterior(item))), None)
    return None


def _is_array(value: Any) -> bool:
    return hasattr(value, "ndim") and hasattr(value, "dtype")


def _size(array: Any) -> int:
    """How many numbers there are for each sample."""
    return math.prod(array.shape[1:]) if array.ndim > 1 else 0


def _is_distribution(value: Any) -> bool:
    import torch

    return isinstance(value, torch.distributions.Distribution)


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
        return distribution.loc, as_logvar(distribution.scale, STD)
    if isinstance(distribution, distributions.MultivariateNormal):
        # A covariance is diagonal exactly where its Cholesky factor is.
        if distribution.scale_tril.tril(-1).any():
            raise InputError("encoder: gives a MultivariateNormal with correlated latents, must be diagonal")
        return distribution.loc, as_logvar(distribution.scale_tril.diagonal(dim1=-2, dim2=-1), STD)
    raise InputError(f"encoder: gives the distribution {type(distribution).__name__}, must be Normal; {REMEDY}")
