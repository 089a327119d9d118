"""Tell from their values which of an encoder's tensors are the mean, the width and the sample of the posterior."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from phasevae.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

SPREAD_KINDS = LOGVAR, STD, VAR, LOG_STD = "logvar", "std", "var", "log_std"
"""What an encoder gives for the width, the more usual first."""

_POWERS = {STD: 2, VAR: 1}

N_STATISTICS = 6

LARGEST_MISFIT, MARGIN = 40.0, 20.0
"""Noise of the right width has a misfit around 6, the number of its statistics. Roles are ruled out by a misfit above
the first, or by one that exceeds the least misfit by the second."""

ROUNDING = 2e-3
"""Misfit for each number that rounding may cause: it does not rule out roles."""

_HOW = "give `select`, such as lambda output: output[1:], which returns mu and logvar"


@dataclass(frozen=True)
class Roles:
    """The positions of the mean and the width among the tensors, and what the width is: one of SPREAD_KINDS."""

    mean: int
    spread: int
    kind: str

    @property
    def rank(self) -> tuple[bool, int]:
        """Less for what is more usual: a width that follows the mean, then the order of SPREAD_KINDS."""
        return self.spread != self.mean + 1, SPREAD_KINDS.index(self.kind)


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


class RoleFinder:
    """Rule out, batch by batch, roles of an encoder's tensors that their values do not allow.

    Two tensors are mean and width. Among more, the sample z is recognised by z - mu, which is noise of the right width
    and independent of mu. The statistics that show this are added up over the batches.

    Parameters
    ----------
    spread : str, optional
        Kind of the width, if it is known.
    noise_scale : float
        Factor of the noise of z.
    """

    def __init__(self, spread: str | None, noise_scale: float):
        self.spread, self._noise_scale = spread, noise_scale
        self._count = 0
        self._sums: dict[tuple[Roles, int], NDArray] = {}
        self.left: tuple[Roles, ...] = ()
        """Roles that the batches so far allow, the more usual first; empty before the first batch."""

    def add(self, arrays: Sequence[Any]) -> tuple[Roles, ...]:
        """Return the roles that are left after a batch.

        Parameters
        ----------
        arrays : sequence of tensors [B, ...]
            Two or more, each with one number for each latent and sample.

        Returns
        -------
        tuple of Roles
            The more usual first.

        Raises
        ------
        InputError
            If none is left.
        """
        import torch

        if len(self.left) == 1:  # what is decided stays
            return self.left
        values = [torch.as_tensor(part).detach().double().flatten(1) for part in arrays]
        if len(values) == 2 and not self.left:
            self.left = (_of_pair(values[1], self.spread),)
            return self.left
        sums = self._sums or dict.fromkeys(_every_role(len(values), self.spread), np.zeros(N_STATISTICS))
        if max(max(roles.mean, roles.spread, z) for roles, z in sums) >= len(values):
            raise _unclear(values, "gave more before")
        # A training that has diverged tells nothing of roles.
        if all(bool(part.isfinite().all()) for part in values):
            self._count += values[0].numel()
            sums = {key: total + _statistics(values, *key, self._noise_scale) for key, total in sums.items()}
        misfits = {key: _misfit(total) / max(self._count, 1) for key, total in sums.items()}
        largest = max(LARGEST_MISFIT, ROUNDING * self._count)
        if not min(misfits.values()) < largest:
            raise _unclear(values, "of which none is a sample of the two that would be mu and logvar")
        largest = min(largest, min(misfits.values()) + MARGIN)
        self._sums = {key: total for key, total in sums.items() if misfits[key] < largest}
        self.left = tuple(sorted({roles for roles, _ in self._sums}, key=lambda roles: (roles.rank, roles.mean)))
        return self.left


def _every_role(n_tensors: int, given: str | None) -> list[tuple[Roles, int]]:
    """Return all roles, each with the position of a sample."""
    kinds = SPREAD_KINDS if given is None else (given,)
    return [
        (Roles(mean, width, kind), z)
        for mean, width, z in itertools.permutations(range(n_tensors), 3)
        for kind in kinds
    ]


def undecided(left: Sequence[Roles]) -> InputError:
    """Return the error for roles that the samples so far do not tell apart."""
    ways = " or ".join(f"tensors {each.mean} and {each.spread} are mu and {each.kind}" for each in left)
    return InputError(f"encoder: gives too few samples to tell whether {ways}; {_HOW}, or give `spread`")


def _unclear(values: Sequence[Tensor], why: str) -> InputError:
    return InputError(f"encoder: gives {len(values)} tensors of {values[0].shape[1]} latents, {why}; {_HOW}")


def _of_pair(second: Tensor, spread: str | None) -> Roles:
    if spread is None and bool((second > 0).all()):
        raise InputError(
            "encoder: gives mu and a width that is positive everywhere, must be a log variance; give "
            "spread='std', spread='var', or spread='logvar' if it is one"
        )
    return Roles(0, 1, spread or LOGVAR)


def _statistics(values: Sequence[Tensor], roles: Roles, z: int, noise_scale: float) -> NDArray:
    """Statistics of the noise that roles and a sample imply, times the count of its numbers.

    Each has mean 0 and a variance of this count, if the noise is standard normal and independent of mean and width.
    """
    import torch

    mean, spread = values[roles.mean], values[roles.spread]
    noise = (values[z] - mean) / (noise_scale * (0.5 * as_logvar(spread, roles.kind)).exp())
    count = noise.numel()
    statistics = torch.stack(
        [
            noise.mean(),
            # The cube root of a mean square is close to normal even for few numbers (Wilson and Hilferty 1931).
            (noise.square().mean() ** (1 / 3) - 1 + 2 / (9 * count)) / math.sqrt(2 / 9),
            _correlation(noise, mean),
            _correlation(noise, spread),
            _correlation(noise.abs(), spread),
            _correlation_of_latents(noise, mean),
        ]
    )
    statistics = statistics.cpu().numpy()  # all at once: each transfer waits for the device
    return count * statistics if np.isfinite(statistics).all() else np.full(N_STATISTICS, np.inf)


def _misfit(total: NDArray) -> float:
    """Sum of the squares of statistics. Of the two correlations with the mean only the larger counts: where latents are
    alike, or there is one, they are the same number."""
    mean, width, of_all, *of_width, of_latents = total**2
    return float(mean + width + sum(of_width) + max(of_all, of_latents))


def _correlation(a: Tensor, b: Tensor) -> Tensor:
    a, b = a - a.mean(), b - b.mean()
    norm = a.norm() * b.norm()
    return (a * b).sum() / norm.where(norm > 0, 1.0)


def _correlation_of_latents(a: Tensor, b: Tensor) -> Tensor:
    """Correlation over the samples, averaged over the latents: a strong latent does not hide the others."""
    a, b = a - a.mean(0), b - b.mean(0)
    norm = a.norm(dim=0) * b.norm(dim=0)
    return ((a * b).sum(0) / norm.where(norm > 0, 1.0)).mean() * math.sqrt(1 - 1 / len(a))
