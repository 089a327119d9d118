"""Recognise from their values which of an encoder's tensors are the mean, the width and the sample of the posterior."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from phasevae.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

SPREAD_KINDS = LOGVAR, STD, VAR, LOG_STD = "logvar", "std", "var", "log_std"
"""What an encoder gives for the width, the more usual first: of two that the data allow the first is taken."""

_POWERS = {STD: 2, VAR: 1}

LARGEST_MISFIT, MARGIN = 40.0, 10.0
"""Noise of the right width has a `_misfit` around 5, the number of its statistics. Positions whose misfits differ by
less than the margin are not distinguished."""

_HOW = "give `select`, such as lambda output: output[1:], which returns mu and logvar"


@dataclass(frozen=True)
class Roles:
    """The positions of the mean and the width among the tensors, and what the width is: one of SPREAD_KINDS."""

    mean: int
    spread: int
    kind: str


def check_spread(spread: str | None) -> str | None:
    """Return the kind of width if it is None or in SPREAD_KINDS. Raises InputError for any other."""
    if spread is not None and spread not in SPREAD_KINDS:
        raise InputError(f"spread: {spread!r}, must be one of {', '.join(SPREAD_KINDS)}")
    return spread


def as_logvar(spread: Any, kind: str) -> Tensor:
    """Return the log variance.

    Parameters
    ----------
    spread : tensor or array
    kind : str
        One of SPREAD_KINDS.

    Returns
    -------
    Tensor
        A log is taken in double precision: a half has too few digits for it.
    """
    import torch

    spread = torch.as_tensor(spread).detach()
    if kind == LOGVAR:
        return spread
    return 2 * spread if kind == LOG_STD else _POWERS[kind] * spread.double().log()


def possible_roles(
    arrays: Sequence[Any], spread: str | None, noise_scale: float, among: Sequence[Roles] = ()
) -> list[Roles]:
    """Return the roles that the values allow, the most usual first.

    Parameters
    ----------
    arrays : sequence of tensors [B, ...]
        Two or more, each with one number for each latent and sample.
    spread : str, optional
        Kind of the width, if it is known.
    noise_scale : float
        Factor of the noise of z.
    among : sequence of Roles
        Those that earlier values allowed, if there are any.

    Returns
    -------
    list of Roles
        It is empty where nothing is left of `among`.

    Raises
    ------
    InputError
        If nothing fits at first, or different positions do.
    """
    import torch

    values = [torch.as_tensor(part).detach().double().flatten(1) for part in arrays]
    if len(values) == 2:
        return [_of_pair(values[1], spread)]
    kinds = SPREAD_KINDS if spread is None else (spread,)
    every = among or [Roles(mean, mean + 1, kind) for kind in kinds for mean in range(len(values) - 1)]
    misfits = {roles: _misfit(values, roles, noise_scale) for roles in every}
    found = [roles for roles, misfit in misfits.items() if misfit < LARGEST_MISFIT]
    if among:
        return found
    if not found:
        raise _unclear(values, "of which none is a sample of the two that would be mu and logvar")
    best = min(found, key=misfits.__getitem__)
    if any(roles.mean != best.mean and misfits[roles] < misfits[best] + MARGIN for roles in found):
        raise _unclear(values, "and too few samples to decide which are mu and logvar")
    return [roles for roles in found if roles.mean == best.mean]


def _unclear(values: Sequence[Tensor], why: str) -> InputError:
    return InputError(f"encoder: gives {len(values)} tensors of {values[0].shape[1]} latents, {why}; {_HOW}")


def _of_pair(second: Tensor, spread: str | None) -> Roles:
    if spread is None and bool((second > 0).all()):
        raise InputError(
            "encoder: gives mu and a width that is positive everywhere, must be a log variance; give "
            "spread='std', spread='var', or spread='logvar' if it is one"
        )
    return Roles(0, 1, spread or LOGVAR)


def _misfit(values: Sequence[Tensor], roles: Roles, noise_scale: float) -> float:
    """How far the tensor among the others that fits best is from the mean plus noise of the width: a chi-squared."""
    mean, spread = values[roles.mean], values[roles.spread]
    if roles.kind in _POWERS and not bool((spread > 0).all()):
        return math.inf
    deviation = noise_scale * (0.5 * as_logvar(spread, roles.kind)).exp()
    others = (part for i, part in enumerate(values) if i not in (roles.mean, roles.spread))
    return min(_misfit_of_noise((z - mean) / deviation, mean, spread) for z in others)


def _misfit_of_noise(noise: Tensor, mean: Tensor, spread: Tensor) -> float:
    """Sum of squares of five statistics that are standard normal if the noise is, independent of mean and width."""
    if not bool(noise.isfinite().all()):
        return math.inf
    count = noise.numel()
    statistics = (
        float(noise.mean()),
        (float(noise.square().mean()) - 1) / math.sqrt(2),
        _correlation(noise, mean),
        _correlation(noise, spread),
        _correlation(noise.abs(), spread),
    )
    return count * sum(value**2 for value in statistics)


def _correlation(a: Tensor, b: Tensor) -> float:
    a, b = a - a.mean(), b - b.mean()
    norm = float(a.norm() * b.norm())
    return float((a * b).sum()) / norm if norm > 0 else 0.0
