"""A training step as one CUDA graph: what changes between steps stands on the device, and nothing waits for the host.

Captured once, a step is replayed with a single launch. So it must read the step's number, its learning rate and its
rows from tensors that keep their place, which `StepInputs` provides; on the CPU the same step reads the same tensors.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

BLOCK = 256
"""Steps whose inputs are sent to the device together."""

_WARM_UP = 3


class Inputs(NamedTuple):
    """What one step, or a block of steps along a first axis, is given.

    rows: int64 [seeds, batch], row numbers of the data; sigma2_factor and learning_rate: float64 [].
    """

    rows: Tensor
    sigma2_factor: Tensor
    learning_rate: Tensor


class StepInputs:
    """The inputs of the steps to come, kept on `device` a block at a time, and which step it is.

    source: gives `Inputs` of `count` steps from `first` on. `step`: int64 scalar on the device.
    """

    def __init__(self, source: Callable[[int, int], Inputs], n_steps: int, rows: tuple[int, int], device: torch.device):
        self.step = torch.zeros((), dtype=torch.int64, device=device)
        self._source = source
        self._n_steps = n_steps
        self._position = torch.zeros(1, dtype=torch.int64, device=device)
        count = min(BLOCK, n_steps)
        scalars = torch.zeros(2, count, dtype=torch.float64, device=device)
        self._block = Inputs(torch.zeros(count, *rows, dtype=torch.int64, device=device), *scalars)
        self._expected = self._end = -1

    @property
    def counters(self) -> tuple[Tensor, Tensor]:
        """The tensors that `advance` changes."""
        return self.step, self._position

    def prepare(self, step: int) -> None:
        """See to it that the next `current` is that of `step`. Costs nothing but at the begin of a block."""
        if step != self._expected or step == self._end:
            count = min(BLOCK, self._n_steps - step)
            for kept, new in zip(self._block, self._source(step, count), strict=True):
                _send(kept[:count], new)
            self.step.fill_(step)
            self._position.zero_()
            self._end = step + count
        self._expected = step + 1

    def current(self) -> Inputs:
        """Inputs of the step that the counters point to."""
        return Inputs(*(of_block.index_select(0, self._position)[0] for of_block in self._block))

    def advance(self) -> None:
        """Go to the next step, on the device."""
        self.step += 1
        self._position += 1


def captured(compute: Callable[[], None], state: Sequence[Tensor]) -> Callable[[], object]:
    """`compute` as a CUDA graph, to be called in its place; `compute` itself, with one warning, when that fails.

    state: all tensors on which a call depends and which it changes; capturing leaves them as they were. `compute`
    must not read the device, and use the same tensors in each call.
    """
    before = [tensor.clone() for tensor in state]

    def restore() -> None:
        for tensor, value in zip(state, before, strict=True):
            tensor.copy_(value)

    try:
        return _capture(compute, restore, state[0].device)
    except RuntimeError as error:
        restore()
        reason = str(error).strip().splitlines()[0]
        warnings.warn(f"training without a CUDA graph, slower: the capture failed ({reason})", stacklevel=2)
        return compute


def _capture(compute: Callable[[], None], restore: Callable[[], None], device: torch.device) -> Callable[[], object]:
    """Raises RuntimeError, or one derived from it, when the step cannot be captured."""
    side = torch.cuda.Stream(device)
    main = torch.cuda.current_stream(device)
    side.wait_stream(main)
    graph = torch.cuda.CUDAGraph()
    # When a capture fails, torch.cuda.graph leaves its stream current; this one is undone in any case.
    with torch.cuda.stream(side):
        # Libraries allocate and choose their kernels in the first calls, which a capture does not allow.
        for _ in range(_WARM_UP):
            compute()
            restore()
        with torch.cuda.graph(graph, stream=side):
            compute()
    main.wait_stream(side)
    return graph.replay


def _send(target: Tensor, values: Tensor) -> None:
    """Copy without waiting: behind what the device has still to do with the old values."""
    if target.device.type == "cuda" and values.device.type == "cpu":
        values = values.pin_memory()
    target.copy_(values, non_blocking=True)
