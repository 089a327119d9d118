"""Which KL term a loss has: its weight for each latent, found by differentiation, and how it differs from the usual KL.

The usual KL of a sample is sum_j b_j (1/2) (mu_j^2 + e^logvar_j - logvar_j - 1). Its derivatives by mu_j and logvar_j,
divided by mu_j and by (e^logvar_j - 1) / 2, are b_j everywhere. Where they are not, their pattern shows which of the
known changes was made: free bits, a capacity, bounds of the log variance, another meaning of the fourth argument.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from phasevae.errors import InputError
from phasevae.prediction.own_loss.function import LossFunction
from phasevae.wording import counted

SMALL, LARGE = 1e-3, 3.0
"""Values of mu and logvar near a collapsed latent, and far from it."""

_BOUNDS = 12.0
"""Log variances up to this magnitude are searched for bounds."""

_TOLERANCE = {False: 1e-5, True: 2e-2}


@dataclass(frozen=True)
class Regulariser:
    """The KL term of a loss, in the units of the loss at one batch size."""

    weights: NDArray  # [n_latent], of the KL of one sample in each latent
    free_bits: float = 0.0  # nats that cost nothing, in each latent
    least_kl: float = 0.0  # nats that cost nothing, or that the term draws KL to, in all latents together
    draws: int = 0  # 1 or 2: the term draws KL to `least_kl`, by the distance or its square
    at_zero: float = 0.0  # value of the term for collapsed latents
    least_variance: float = 0.0  # lower bound of the posterior variance in the term
    uses_logvar: bool = True
    changes: tuple[str, ...] = ()  # what is not the usual KL, a sentence each


@dataclass(frozen=True)
class _Probe:
    """Derivatives of the loss by mu and logvar of the first sample, at values that all its latents share."""

    loss: LossFunction
    outputs: torch.Tensor
    x: torch.Tensor

    @property
    def n_rows(self) -> int:
        return len(self.outputs)

    def value(self, mu: float) -> float:
        """The loss where all means are equal and all variances 1."""
        means = torch.full((self.n_rows, self.loss.n_latent), mu, dtype=self.loss.dtype)
        return float(self.loss.value(self.outputs, self.x, means, torch.zeros_like(means)).detach())

    def at(self, mu: float | NDArray, logvar: float | NDArray) -> tuple[NDArray, NDArray]:
        shape = self.n_rows, self.loss.n_latent
        tensors = [
            torch.as_tensor(np.broadcast_to(values, shape).copy(), dtype=self.loss.dtype).requires_grad_()
            for values in (mu, logvar)
        ]
        value = self.loss.value(self.outputs, self.x, *tensors)
        if not torch.isfinite(value):
            raise InputError(
                f"loss {self.loss.name}: is {float(value.detach())} at mu {np.max(mu):g} and logvar "
                f"{np.max(logvar):g}, must be finite (is its fourth argument the log variance?)"
            )
        found = torch.autograd.grad(value, tensors, allow_unused=True) if value.requires_grad else (None, None)
        return tuple(np.zeros(shape) if part is None else part.double().numpy() for part in found)

    def by_mu(self, mu: float) -> NDArray:
        """b_j of the usual KL from the derivative by mu, [n_latent]."""
        return self.at(mu, 0.0)[0][0] / mu

    def by_logvar(self, logvar: float) -> NDArray:
        """b_j of the usual KL from the derivative by logvar, [n_latent]."""
        return self.at(0.0, logvar)[1][0] / (0.5 * math.expm1(logvar))


def find_regulariser(loss: LossFunction, constant: NDArray, block: NDArray) -> Regulariser:
    """Return the KL term of a loss.

    Parameters
    ----------
    loss : LossFunction
    constant : array [P]
        An output at which the loss is finite.
    block : array [b, D]
        Rows of the target: a batch of the size for which the weights are wanted.

    Raises
    ------
    InputError
        If the loss does not depend on mu, or in a way that is not understood.
    """
    probe = _Probe(loss, loss.outputs(constant, len(block)), loss.x(block))
    near, far = probe.by_mu(SMALL), probe.by_mu(LARGE)
    if not np.any(far):
        raise InputError(f"loss {loss.name}: does not depend on mu, must contain a KL term of mu and logvar")
    if np.any(far == 0):
        raise InputError(
            f"loss {loss.name}: has no KL term for {counted(int(np.sum(far == 0)), 'latent')}, must have one for each"
        )
    if _equal(loss, near, far):
        if np.any(far < 0):
            raise InputError(f"loss {loss.name}: its KL term falls with mu, must rise (is its sign wrong?)")
        return _of_logvar(probe, Regulariser(far, changes=_uneven(loss, probe, far)))
    if np.all(near < 0):
        return _with_capacity(probe, near)
    if not np.any(near):
        return _with_free_bits(probe, far)
    raise InputError(
        f"loss {loss.name}: its regulariser is not the usual KL: its derivative by mu is {near[0]:.4g} mu near 0 and "
        f"{far[0]:.4g} mu at mu = {LARGE:g}, must be the same multiple"
    )


def _of_logvar(probe: _Probe, found: Regulariser) -> Regulariser:
    """Compare the derivatives by logvar with those by mu."""
    loss, b = probe.loss, found.weights
    slope = probe.at(0.0, 0.0)[1][0]
    if np.abs(slope).max() > 1e-3 * b.max():
        raise InputError(
            f"loss {loss.name}: its KL term has the slope {np.abs(slope).max() / b.max():.3g} by logvar at 0, must be "
            f"smallest there (is logvar transformed within the loss?)"
        )
    below, above = probe.by_logvar(-SMALL), probe.by_logvar(SMALL)
    if not any(np.any(probe.at(0.0, value)[1]) for value in (-LARGE, -SMALL, SMALL, LARGE)):
        change = "it does not depend on logvar, as where the posterior variance is fixed"
        return replace(found, uses_logvar=False, changes=(*found.changes, change))
    if _equal(loss, below, 4 * b, 1000) and _is_log_std(probe, b):
        change = "its fourth argument is a log standard deviation, not a log variance"
        return replace(found, changes=(*found.changes, change))
    if _equal(loss, below, b, 10) and _equal(loss, above, b, 10):
        return _with_bounds(probe, found)
    if _equal(loss, above, b, 10) and not np.any(below):
        change = "its log variance is rectified at 0: no latent has a posterior variance below 1"
        return replace(found, least_variance=1.0, changes=(*found.changes, change))
    least = np.minimum(b, 0.5 * (below + above))
    ratio = 0.5 * float((below + above)[0] / b[0])
    change = f"2 d2/dlogvar2 is {ratio:.3g} times d2/dmu2: the smaller of the two decides when collapse becomes stable"
    if not np.all(least > 0):
        raise InputError(
            f"loss {loss.name}: its regulariser is not the usual KL: {change.split(':')[0]}, must be equal and positive"
        )
    return replace(found, weights=least, changes=(*found.changes, change))


def _is_log_std(probe: _Probe, b: NDArray) -> bool:
    slope = probe.at(0.0, 1.0)[1][0]
    return _equal(probe.loss, slope, b * math.expm1(2.0), 10)


def _with_bounds(probe: _Probe, found: Regulariser) -> Regulariser:
    """Find where the log variance is clamped in the term."""
    loss, b = probe.loss, found.weights

    def free(logvar: float) -> bool:
        return bool(_equal(loss, probe.by_logvar(logvar), b, 100))

    low = None if free(-_BOUNDS) else -_edge(lambda size: free(-size), _BOUNDS)
    high = None if free(LARGE) else _edge(free, LARGE)
    if low is None and high is None:
        return found
    bounds = f"[{'-inf' if low is None else f'{low:.3g}'}, {'inf' if high is None else f'{high:.3g}'}]"
    change = f"its log variance is clamped to {bounds}"
    return replace(found, least_variance=0.0 if low is None else math.exp(low), changes=(*found.changes, change))


def _uneven(loss: LossFunction, probe: _Probe, b: NDArray) -> tuple[str, ...]:
    """Name weights that differ between latents, and an average over latents."""
    changes = []
    if not _equal(loss, b, np.full_like(b, b[0])):
        changes.append(f"its weight differs between latents, by a factor of {b.max() / b.min():.3g}")
    elif loss.n_latent > 1 and _averages_latents(probe, b):
        changes.append(f"it averages KL over the {loss.n_latent} latents")
    return tuple(changes)


def _averages_latents(probe: _Probe, b: NDArray) -> bool:
    twice = replace(probe.loss, n_latent=2 * probe.loss.n_latent)
    try:
        other = replace(probe, loss=twice).by_mu(LARGE)
    except InputError:  # a function of exactly this number of latents
        return False
    return _equal(probe.loss, 2 * other[: b.size], b)


def _with_free_bits(probe: _Probe, far: NDArray) -> Regulariser:
    """KL up to some number of nats costs nothing."""
    n = probe.loss.n_latent

    def paid(mu: float, latents: int) -> bool:
        values = np.zeros(n)
        values[:latents] = mu
        return bool(np.any(probe.at(values, 0.0)[0]))

    one = 0.5 * _edge(lambda mu: not paid(mu, 1), 30.0) ** 2
    every = 0.5 * n * _edge(lambda mu: not paid(mu, n), 30.0) ** 2
    if n > 1 and abs(every / one - 1) < 0.01:
        change = f"free bits: {every:.3g} nats of all latents together cost nothing"
        return Regulariser(far, least_kl=every, at_zero=probe.n_rows * float(far.mean()) * every, changes=(change,))
    change = f"free bits: {one:.3g} nats in each latent cost nothing"
    return Regulariser(far, free_bits=one, at_zero=probe.n_rows * float(far.sum()) * one, changes=(change,))


def _with_capacity(probe: _Probe, near: NDArray) -> Regulariser:
    """The term draws KL to a number of nats: it falls below it, and rises above it."""
    n = probe.loss.n_latent
    edge = _edge(lambda mu: bool(np.all(probe.by_mu(mu) < 0)), 30.0)
    nats = 0.5 * n * edge**2
    at_zero, halfway = (probe.value(mu) - probe.value(edge) for mu in (0.0, edge / math.sqrt(2)))
    power = round(math.log2(at_zero / halfway)) if halfway > 0 else 0
    if power not in (1, 2):
        raise InputError(
            f"loss {probe.loss.name}: its capacity term must grow with the distance of KL, or with its square"
        )
    change = f"a {'squared ' if power == 2 else ''}capacity: it draws KL to {nats:.3g} nats"
    return Regulariser(-near, least_kl=nats, draws=power, at_zero=at_zero, changes=(change,))


def _edge(holds: Callable[[float], bool], most: float) -> float:
    """Return where a condition that holds near zero ceases to, at most `most`."""
    low, high = SMALL, most
    for _ in range(50):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if holds(middle) else (low, middle)
    return high


def _equal(loss: LossFunction, a: NDArray, b: NDArray, slack: float = 1.0) -> bool:
    return bool(np.abs(a - b).max() <= slack * _TOLERANCE[loss.single] * np.abs(b).max())
