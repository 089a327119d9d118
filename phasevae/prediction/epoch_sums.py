"""Sums over the batches of an epoch: KL of each latent, and how many log variances sit at one value.

The sums stay on the device of the batches, so that only a report waits for them and not each step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from phasevae.prediction.output_roles import Roles, undecided
from phasevae.theory.ppca import gaussian_kl

MOSTLY = 0.5
"""A latent is at a bound if more than this part of its log variances is."""


ALIKE_SHARE, ALIKE_ACTIVE = 0.2, 0.5
"""Readings need not be told apart if their KL of each latent differs by less than this share of it and this share
of the KL of an active latent."""


@dataclass(frozen=True)
class LogvarBound:
    """A value that log variances have exactly, and beyond which there are none."""

    value: float
    latents: int  # how many are at it
    is_lower: bool


class _Extreme:
    """The least of the values so far, and how many values of each latent are equal to it."""

    def __init__(self) -> None:
        self.value: Tensor | None = None
        self.count: Tensor | None = None

    def add(self, values: Tensor) -> None:
        """Add values [batch, n]."""
        value = values.amin()
        count = (values == value).sum(0)
        if self.value is not None:
            least = torch.minimum(self.value, value)
            count = count * (value == least) + self.count * (self.value == least)
            value = least
        self.value, self.count = value, count


class EpochSums:
    """What a report needs of the batches of an epoch, on one device."""

    def __init__(self) -> None:
        self.rows = self.batches = 0
        self.kl: Tensor | None = None
        self._low, self._high = _Extreme(), _Extreme()
        self._is_coarse: Tensor | None = None

    def add(self, mu: Tensor, logvar: Tensor) -> None:
        """Add the means and log variances [batch, n] of a batch."""
        kl = gaussian_kl(mu.double(), logvar.double(), torch.expm1).sum(0)
        self.kl = kl if self.kl is None else self.kl + kl
        self._low.add(logvar)
        self._high.add(-logvar)
        coarse = (logvar == logvar.bfloat16()).all()
        self._is_coarse = coarse if self._is_coarse is None else self._is_coarse & coarse
        self.rows += mu.shape[0]
        self.batches += 1

    def extreme(self, is_lower: bool) -> tuple[float, NDArray, bool]:
        """Return the least or largest log variance, how many of each latent [n] are equal to it, and whether all
        numbers have few digits."""
        extreme = self._low if is_lower else self._high
        value = float(extreme.value)
        return value if is_lower else -value, extreme.count.cpu().numpy(), bool(self._is_coarse)


def sums_that_count(
    sums: Mapping[tuple[Roles | None, Any], EpochSums], left: Sequence[Roles], active_kl: float
) -> list[EpochSums]:
    """Return the sums of all devices under the one reading of the encoder's output that counts.

    Parameters
    ----------
    sums : mapping of EpochSums
        By roles of the tensors, or None for those with names, and device.
    left : sequence of Roles
        Those that all batches so far allow, the most usual first.
    active_kl : float
        KL above which a latent is active, in nats.

    Returns
    -------
    list of EpochSums

    Raises
    ------
    InputError
        If several roles are left that differ in KL.
    """
    if not left:
        return list(sums.values())
    first, *others = ([part for (roles, _), part in sums.items() if roles in (None, each)] for each in left)
    for other, roles in zip(others, left[1:], strict=True):
        kl, tolerance = mean_kl(first), ALIKE_ACTIVE * active_kl
        if not np.allclose(mean_kl(other), kl, rtol=ALIKE_SHARE, atol=tolerance, equal_nan=True):
            raise undecided((left[0], roles))
    return first


def mean_kl(sums: list[EpochSums]) -> NDArray:
    """Return the mean KL of each latent [n], in nats, over the rows of all devices."""
    return np.sum([part.kl.cpu().numpy() for part in sums], axis=0) / sum(part.rows for part in sums)


def bound_of(sums: list[EpochSums]) -> LogvarBound | None:
    """Return the bound at which log variances sit, the lower one first, or None.

    A network gives the same number twice only where it is clamped or rectified. There are two exceptions. In one batch,
    a latent whose encoder is dead is constant. Half a precision has few numbers: only zero, or one number for
    everything, is then a bound.
    """
    if sum(part.batches for part in sums) < 2:
        return None
    rows = sum(part.rows for part in sums)
    for is_lower in (True, False):
        extremes = [part.extreme(is_lower) for part in sums]
        value = (min if is_lower else max)(value for value, _, _ in extremes)
        share = sum(count for other, count, _ in extremes if other == value) / rows
        at_it = int((share > MOSTLY).sum())
        coarse = all(coarse for _, _, coarse in extremes)
        if at_it and (not coarse or value == 0 or (share == 1).all()):
            return LogvarBound(value, at_it, is_lower)
    return None
