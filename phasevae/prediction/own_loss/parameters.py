"""Trainable parameters that a loss function holds, such as a learned log standard deviation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from numpy.typing import NDArray
from torch import Tensor

from phasevae.errors import InputError
from phasevae.prediction.own_loss.function import LossFunction

_STEPS = 200


def parameters_of(loss: LossFunction, constant: NDArray, block: NDArray) -> list[Tensor]:
    """Return the trainable tensors that the value of a loss depends on besides its arguments.

    Parameters
    ----------
    loss : LossFunction
    constant : array [P]
        An output at which the loss is finite.
    block : array [b, D]
        Rows of the target.
    """
    value = loss.collapsed_value(loss.outputs(constant, len(block)), loss.x(block))
    found, seen, waiting = [], set(), [value.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found.append(node.variable)
        waiting += [parent for parent, _ in node.next_functions]
    return found


@contextmanager
def restored(parameters: list[Tensor]) -> Iterator[None]:
    """Give parameters their present values back at the end."""
    kept = [parameter.detach().clone() for parameter in parameters]
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, value in zip(parameters, kept, strict=True):
                parameter.copy_(value)


def fit_parameters(loss: LossFunction, parameters: list[Tensor], constant: NDArray, rows: NDArray) -> None:
    """Set parameters to the values with the least loss at a constant output.

    Parameters
    ----------
    loss : LossFunction
    parameters : list of tensors
        Changed in place.
    constant : array [P]
    rows : array [b, D]
        Rows of the target.

    Raises
    ------
    InputError
        If the loss has no bound.
    """
    if not parameters:
        return
    outputs, x = loss.outputs(constant, len(rows)), loss.x(rows)
    solver = torch.optim.LBFGS(
        parameters, max_iter=_STEPS, tolerance_grad=1e-12, tolerance_change=1e-15, line_search_fn="strong_wolfe"
    )
    with torch.no_grad():
        unit = float(loss.collapsed_value(outputs, x).abs()) or 1.0

    def closure() -> Tensor:
        solver.zero_grad()
        value = loss.collapsed_value(outputs, x) / unit
        value.backward()
        return value

    try:
        solver.step(closure)
    except RuntimeError:  # a step beyond the largest number
        raise InputError(
            f"loss {loss.name}: its trainable parameters have no finite optimum for a collapsed model"
        ) from None
    solver.zero_grad()
