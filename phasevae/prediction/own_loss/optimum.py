"""The best constant output of a decoder under a loss: what a collapsed VAE gives for every sample."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator, cg

from phasevae.datasets.base import thinned
from phasevae.errors import InputError
from phasevae.prediction.own_loss.coupled import curvature_product
from phasevae.prediction.own_loss.curvature import DENSE, Derivatives

FEW_ROWS = 4096
"""The optimum is found on this number of rows first."""

_PASSES = 12
"""Newton steps over all rows."""

_BISECTIONS = 60
_SMALL = 8
"""Blocks of at most this number of outputs are cheap."""

_KINK_ROWS, _COUPLED_ROWS, _CG_STEPS = 512, 512, 100
_JOINT_VALUES = 2**20
_SETTLED = 1e-8
"""The mean gradient that remains, relative to the root mean square of the gradients."""

_ENDLESS = 30.0
"""A logit without an optimum is moved by this: its class then has no share that counts."""

_REACHED = 1e-2
"""An optimum has a smaller mean gradient than this part of the gradients' standard deviation."""

_FAR = 1e4
"""An optimum this many widths away from the start is none."""


def constant_optimum(derivatives: Derivatives, start: NDArray, few: NDArray) -> tuple[NDArray, bool]:
    """Return the constant output with the least loss, [P], and whether the loss has kinks there.

    Parameters
    ----------
    derivatives : Derivatives
    start : array [P]
        An output at which the loss is finite.
    few : array [b, D]
        Rows of the target on which it is found first.

    Raises
    ------
    InputError
        If the loss has no finite optimum.
    """
    if derivatives.blocks.shape[1] == 1:
        constant = _separate_optimum(derivatives, start, few)
    else:
        constant = _joint_optimum(derivatives, start, few)
    _check_bounded(derivatives, constant, start, few)
    kinked = derivatives.has_kinks(constant, few[:_KINK_ROWS])
    return _on_all_rows(derivatives, constant, few, kinked), kinked


def _separate_optimum(derivatives: Derivatives, start: NDArray, few: NDArray) -> NDArray:
    """The root of each output's mean gradient in a bracket.

    Bisection is right for gradients with jumps; the Illinois variant of the false position is faster for smooth ones.
    """
    kinked = derivatives.has_kinks(start, few[:_KINK_ROWS])
    (low, below), (high, above) = (_bracket(derivatives, start, few, side) for side in (-1, 1))
    middle, last = 0.5 * (low + high), np.zeros(start.shape)
    for step in range(_BISECTIONS):
        # Each fourth step halves the bracket, whatever the gradient is like.
        if not kinked and step % 4 < 3:
            slope = np.where(above > below, above - below, 1.0)
            middle = np.where(above > below, (low * above - high * below) / slope, 0.5 * (low + high))
            middle = np.clip(middle, low, high)
        else:
            middle = 0.5 * (low + high)
        gradient = derivatives.mean_gradient(middle, few)
        left = gradient <= 0
        # A side that stays twice counts half: its end moves, too.
        above = np.where(left & (last < 0), 0.5 * above, np.where(gradient >= 0, gradient, above))
        below = np.where(~left & (last > 0), 0.5 * below, np.where(left, gradient, below))
        low, high, last = np.where(left, middle, low), np.where(gradient >= 0, middle, high), np.where(left, -1, 1)
        done = (high - low <= 1e-10 * derivatives.widths) | (
            np.abs(gradient) <= 1e-12 * _spread(derivatives, few, middle)
        )
        if done.all():
            break
    return _at_values(derivatives, middle, few) if kinked else middle


def _at_values(derivatives: Derivatives, constant: NDArray, few: NDArray) -> NDArray:
    """Outputs beside a value of the data, at which a loss such as L1 has its kink, moved onto it."""
    if few.shape[1] != constant.size:
        return constant
    nearest = np.take_along_axis(few, np.abs(few - constant).argmin(0)[None], 0)[0]
    return np.where(np.abs(nearest - constant) < 1e-8 * derivatives.widths, nearest, constant)


def _spread(derivatives: Derivatives, few: NDArray, constant: NDArray) -> NDArray:
    """The size of each output's gradients, which their mean is small against at the optimum."""
    return np.abs(derivatives.gradients(constant, few[:_KINK_ROWS])).max(0)


def _bracket(derivatives: Derivatives, start: NDArray, few: NDArray, side: int) -> tuple[NDArray, NDArray]:
    """Outputs at which the gradient points back to the start, or at the end of the domain, and that gradient."""
    edge, step, domain = start.copy(), derivatives.widths * side, derivatives.domain
    for _ in range(_BISECTIONS):
        gradient = derivatives.mean_gradient(edge, few)
        ended = (edge <= domain[0]) | (edge >= domain[1]) | _is_far(derivatives, edge, start)
        onwards = (gradient * side < 0) & ~ended
        if not onwards.any():
            break
        edge = np.where(onwards, np.clip(edge + step, *domain), edge)
        step = 2 * step
    return edge, gradient


def _is_far(derivatives: Derivatives, constant: NDArray, start: NDArray) -> NDArray[np.bool_]:
    return np.abs(constant - start) > _FAR * np.maximum(derivatives.widths, 1)


def _joint_optimum(derivatives: Derivatives, start: NDArray, few: NDArray) -> NDArray:
    """L-BFGS on a few rows."""
    loss = derivatives.loss
    # A class that no row has would get a logit without bound: for smooth losses as many rows as possible count.
    kinked = derivatives.has_kinks(start, few[:_KINK_ROWS])
    most = _COUPLED_ROWS if kinked else max(_COUPLED_ROWS, _JOINT_VALUES // loss.n_outputs)
    few = thinned(few, most)
    x = loss.x(few)
    factor = derivatives.scaling.reconstruction_factor(len(few), derivatives.batch_size)
    low, high = (torch.as_tensor(bounds, dtype=loss.dtype) for bounds in derivatives.domain)
    inner = _inner(torch.tensor(start, dtype=loss.dtype), low, high).requires_grad_()
    free = torch.as_tensor(~derivatives.held)
    # In units of the first gradient, so that the tolerances do not depend on the loss's own factor.
    unit = float(np.abs(derivatives.mean_gradient(start, few)).max()) or 1.0
    solver = torch.optim.LBFGS(
        [inner], max_iter=200, tolerance_grad=1e-8, tolerance_change=1e-12, history_size=20,
        line_search_fn="strong_wolfe",
    )  # fmt: skip

    def closure() -> torch.Tensor:
        solver.zero_grad()
        constant = _outer(inner, low, high)
        value = loss.collapsed_value(constant.expand(len(few), -1), x) * (factor / (unit * len(few)))
        value.backward()
        inner.grad.mul_(free)
        return value

    solver.step(closure)
    found = np.where(derivatives.held, start, _outer(inner, low, high).detach().double().numpy())
    if not np.isfinite(found).all():
        raise InputError(f"loss {loss.name}: is not finite near its best constant reconstruction")
    return found


def _inner(outputs: torch.Tensor, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    """Numbers without bounds in place of outputs: logits of probabilities, logarithms of positive numbers."""
    positive = torch.where(low.isfinite(), outputs, 1.0)
    logits = torch.logit(torch.where(low.isfinite() & high.isfinite(), outputs, 0.5))
    return torch.where(high.isfinite(), logits, torch.where(low.isfinite(), positive.log(), outputs))


def _outer(inner: torch.Tensor, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    """The outputs of `_inner`."""
    positive = torch.where(low.isfinite() & ~high.isfinite(), inner, 0.0).exp()
    return torch.where(high.isfinite(), inner.sigmoid(), torch.where(low.isfinite(), positive, inner))


def _on_all_rows(derivatives: Derivatives, constant: NDArray, few: NDArray, kinked: bool) -> NDArray:
    """Newton steps over all of the data from the optimum of a few rows, with the curvature of these."""
    scores = derivatives.gradients(constant, few)
    if derivatives.blocks.shape[1] > 1:
        # The logit of a class that no row has: where the search leaves it is an accident, and shifts the others.
        endless = ~_settling(derivatives, scores) & ~derivatives.held & np.isinf(derivatives.domain[0])
        constant = np.where(endless, constant - _ENDLESS * np.sign(scores[0]), constant)
        scores = derivatives.gradients(constant, few)
    size = np.sqrt(np.mean(np.square(scores), 0))
    size = np.maximum(size, 1e-12 * max(size.max(), 1e-300))
    settling = _settling(derivatives, scores)
    step_of = _newton_step(derivatives, constant, few, kinked)
    best, least = constant, np.inf
    for _ in range(2 if kinked else _PASSES):
        gradient = derivatives.mean_gradient(constant)
        left = float(np.max(np.abs(gradient) / size, where=settling, initial=0.0))
        if not left < 0.9 * least:
            break
        best, least = constant, left
        if left < _SETTLED:
            break
        constant = np.clip(constant - step_of(gradient), *derivatives.domain)
    return best


def _settling(derivatives: Derivatives, scores: NDArray) -> NDArray[np.bool_]:
    """Outputs whose gradient vanishes at the optimum: not those held, nor those with the same score in every sample."""
    return ~derivatives.held & (np.ptp(scores, axis=0) > 0)


def _newton_step(
    derivatives: Derivatives, constant: NDArray, few: NDArray, kinked: bool
) -> Callable[[NDArray], NDArray]:
    """Return the function that divides a gradient by the curvature of a few rows."""
    blocks, p = derivatives.blocks, derivatives.loss.n_outputs
    if blocks.shape[1] > DENSE:
        product = curvature_product(derivatives, constant, few, kinked)
        curved = LinearOperator((p, p), lambda v: product(v.reshape(p, 1))[:, 0], dtype=np.float64)
        return lambda gradient: cg(curved, gradient, rtol=1e-6, maxiter=_CG_STEPS)[0]
    rows = few if blocks.shape[1] <= _SMALL else thinned(few, _COUPLED_ROWS)
    curvature = (derivatives.smoothed_curvature if kinked else derivatives.curvature)(constant, rows=rows)
    inverse = np.linalg.pinv(curvature, rcond=1e-10, hermitian=True)

    def step(gradient: NDArray) -> NDArray:
        change = np.zeros(p)
        change[blocks] = np.einsum("bij,bj->bi", inverse, gradient[blocks])
        change[derivatives.held] = 0
        return change

    return step


def _check_bounded(derivatives: Derivatives, constant: NDArray, start: NDArray, few: NDArray) -> None:
    """Raise InputError if outputs ran away instead of reaching an optimum."""
    name = derivatives.loss.name
    scores = derivatives.gradients(constant, few)
    if not np.isfinite(scores).all():
        raise InputError(f"loss {name}: its gradient is not finite at the best constant reconstruction")
    far = _is_far(derivatives, constant, start) & (np.ptp(scores, axis=0) > 0)
    far |= _is_far(derivatives, constant, start) & (np.abs(scores.mean(0)) > 1e-6 * np.abs(scores).max())
    if far.any():
        raise InputError(
            f"loss {name}: has no finite optimum, it still falls at output {int(far.argmax())} = "
            f"{constant[far.argmax()]:.3g} for every sample"
        )


def check_optimum(derivatives: Derivatives, constant: NDArray, start: NDArray, few: NDArray, kinked: bool) -> None:
    """Raise InputError if the outputs ran away instead of reaching an optimum, or stopped before it.

    Parameters
    ----------
    derivatives : Derivatives
    constant : array [P]
        What `constant_optimum` returned.
    start : array [P]
        Where it began.
    few : array [b, D]
        Rows of the target.
    kinked : bool
        Whether the loss has kinks, at which the gradient does not vanish.
    """
    _check_bounded(derivatives, constant, start, few)
    if kinked or derivatives.blocks.shape[1] > DENSE:
        return
    scores = derivatives.gradients(constant, few)
    left = np.where(_settling(derivatives, scores), derivatives.mean_gradient(constant), 0.0)
    if np.abs(left).max() > _REACHED * scores.std(0).max():
        raise InputError(
            f"loss {derivatives.loss.name}: its best constant reconstruction was not found (output "
            f"{int(np.abs(left).argmax())} still has a gradient), must have one that descent reaches"
        )
