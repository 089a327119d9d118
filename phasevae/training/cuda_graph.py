"""A training step as one CUDA graph, which is captured once and then replayed with a single launch.

A replayed step cannot take arguments. It reads its number, its learning rate and its rows from tensors that stay at the
same addresses, which `StepInputs` provides. On the CPU the same step reads the same tensors.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from phasevae.training.device import sent

BLOCK = 256
"""Most steps whose inputs are sent to the device together."""

_WARM_UP = 3


class Inputs(NamedTuple):
    """The inputs of one step, or of a block of steps along a first axis.

    Attributes
    ----------
    rows : Tensor [seeds, batch]
        int64, the numbers by which the rows are gathered.
    sigma2_factor : Tensor []
        float64, the decoder variance relative to its target.
    learning_rate : Tensor []
        float64.
    """

    rows: Tensor
    sigma2_factor: Tensor
    learning_rate: Tensor


class StepInputs:
    """The number of the next step and the inputs of a block of steps, kept on the device.

    Parameters
    ----------
    source : callable
        `source(first, count)` returns the `Inputs` of `count` steps from `first` on.
    n_steps : int
        The number of steps of the training.
    rows : (int, int)
        Seeds and batch, the shape of the rows of a step.
    device : torch.device
    block : int
        Steps whose inputs are sent together.

    Attributes
    ----------
    step : Tensor []
        int64 on the device, the number of the next step.
    """

    def __init__(
        self,
        source: Callable[[int, int], Inputs],
        n_steps: int,
        rows: tuple[int, int],
        device: torch.device,
        block: int = BLOCK,
    ):
        self.step = torch.zeros((), dtype=torch.int64, device=device)
        self._source = source
        self._n_steps = n_steps
        self._position = torch.zeros(1, dtype=torch.int64, device=device)
        count = self._size = min(block, n_steps)
        scalars = torch.zeros(2, count, dtype=torch.float64, device=device)
        self._block = Inputs(torch.zeros(count, *rows, dtype=torch.int64, device=device), *scalars)
        self._expected = self._end = -1
        self._count = 0

    @property
    def counters(self) -> tuple[Tensor, Tensor]:
        """Return the tensors that `advance` changes."""
        return self.step, self._position

    @property
    def block(self) -> Inputs:
        """Return the inputs of the present block of steps, at the second counter the next step's."""
        return self._block

    def prepare(self, step: int) -> None:
        """Make `step` the next one. This costs time only at the beginning of a block."""
        if step != self._expected or step == self._end:
            count = min(self._size, self._n_steps - step)
            for kept, new in zip(self._block, self._source(step, count), strict=True):
                kept[:count].copy_(sent(new, kept.device))
            self.step.fill_(step)
            self._position.zero_()
            self._end, self._count = step + count, count
        self._expected = step + 1

    def take(self, step: int, most: int) -> Inputs:
        """Return the inputs of up to `most` steps from `step` on, and go to the step after them."""
        self.prepare(step)
        begin = step - (self._end - self._count)
        inputs = Inputs(*(of_block[begin : min(begin + most, self._count)] for of_block in self._block))
        self._expected = step + inputs.rows.shape[0]
        self.step.fill_(self._expected)
        self._position.fill_(self._expected - step + begin)
        return inputs

    def current(self) -> Inputs:
        """Return the inputs of the next step."""
        return Inputs(*(of_block.index_select(0, self._position)[0] for of_block in self._block))

    def advance(self) -> None:
        """Go to the next step, on the device."""
        self.step += 1
        self._position += 1


def captured(compute: Callable[[], None], state: Sequence[Tensor]) -> Callable[[], object]:
    """Capture a computation as a CUDA graph.

    Parameters
    ----------
    compute : callable
        Must not read from the device, and must use the same tensors in each call.
    state : sequence of Tensor
        All tensors that a call changes. Capturing leaves them as they were.

    Returns
    -------
    callable
        Replays the graph. If the capture fails, `compute` itself, with one warning.
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
    """Capture `compute`; raises RuntimeError, or an error derived from it, if that is not possible."""
    side = torch.cuda.Stream(device)
    main = torch.cuda.current_stream(device)
    side.wait_stream(main)
    graph = torch.cuda.CUDAGraph()
    # If a capture fails, torch.cuda.graph leaves its stream current; this context restores the stream in any case.
    with torch.cuda.stream(side):
        # Libraries allocate memory and choose kernels in their first calls, which a capture does not allow.
        for _ in range(_WARM_UP):
            compute()
            restore()
        with torch.cuda.graph(graph, stream=side):
            compute()
    main.wait_stream(side)
    return graph.replay
