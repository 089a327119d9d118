"""The rows of the steps of a training: gathered in memory, or read ahead from a file, window by window."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from phasevae.errors import InputError
from phasevae.file_rows import FileRows
from phasevae.rows import Batch, Rows
from phasevae.training.cuda_graph import BLOCK

Upcoming = Callable[[int, int], Tensor]
"""`upcoming(first, count)` returns the row numbers [count, S, B] of `count` steps from `first` on."""


def rows_of_steps(rows: Rows | FileRows, upcoming: Upcoming, n_steps: int, shape: tuple[int, int]) -> StepRows:
    """Return the rows of the steps of a training.

    Parameters
    ----------
    rows : Rows or FileRows
    upcoming : callable
    n_steps : int
        The steps of the training.
    shape : (int, int)
        S and B of a step.

    Raises
    ------
    InputError
        If the memory is too small for the rows of one step.
    """
    return WindowRows(rows, upcoming, n_steps, shape) if isinstance(rows, FileRows) else StepRows(rows, upcoming)


class StepRows:
    """Rows in memory: every step gathers its own.

    Attributes
    ----------
    block : int
        Steps that `load` may be asked for.
    """

    block = BLOCK

    def __init__(self, rows: Rows, upcoming: Upcoming):
        self._rows, self._upcoming = rows, upcoming
        self.gather = rows.gather

    @property
    def tensors(self) -> tuple[Tensor, Tensor] | None:
        """What the encoder sees [N, E] and x [N, D] of the rows with the numbers of `load`; None with a condition."""
        rows = self._rows
        if rows.conditioning is not None:
            return None
        return rows.x if rows.inputs is None else rows.inputs, rows.x

    def load(self, first: int, count: int) -> Tensor:
        """Make the rows of `count` steps from `first` on ready; return the numbers [count, S, B] to gather them by."""
        return self._upcoming(first, count)


class WindowRows(StepRows):
    """Rows of a file: a thread reads those of the next window while the device computes with those of this one.

    A window is sorted by row number, so that the file is read from front to back. The host holds two windows, in pinned
    memory for a GPU, and the GPU one, which stays at its address because a captured step reads it.
    """

    def __init__(self, rows: FileRows, upcoming: Upcoming, n_steps: int, shape: tuple[int, int]):
        of_step = shape[0] * shape[1]
        bytes_of_step = 2 * 4 * of_step * (rows.n_features + rows.n_condition)
        self.block = min(BLOCK, n_steps, rows.window_bytes // bytes_of_step)
        if self.block < 1:
            least = -(-bytes_of_step // 2**20)
            raise InputError(
                f"data_memory_mb: {rows.window_bytes // 2**20}, must be at least {least}, twice the rows of one step"
            )
        self._rows, self._upcoming, self._n_steps = rows, upcoming, n_steps
        self._on_gpu = rows.device.type == "cuda"
        self._windows = [self._new_window(self.block * of_step, self._on_gpu) for _ in range(2)]
        self._current = [part.to(rows.device) for part in self._windows[0]]
        self._copied: list[torch.cuda.Event | None] = [None, None]
        self._thread = ThreadPoolExecutor(1)
        self._ahead: tuple[int, int, Future[Tensor]] | None = None
        self._turn = 0

    def _new_window(self, n_rows: int, pinned: bool) -> list[Tensor]:
        """Return room for x of some rows, and for their condition if there is one."""
        condition = [] if self._rows.condition is None else [self._rows.condition]
        room = [torch.empty(n_rows, self._rows.n_features, pin_memory=pinned)]
        return room + [torch.empty(n_rows, part.shape[1], dtype=part.dtype, pin_memory=pinned) for part in condition]

    def gather(self, rows: Tensor) -> Batch:
        """Return the rows of the window with these numbers [S, B]."""
        x, *condition = (part[rows] for part in self._current)
        return self._rows.batch(x, condition[0] if condition else None)

    @property
    def tensors(self) -> tuple[Tensor, Tensor] | None:
        return (self._current[0], self._current[0]) if self._rows.is_plain else None

    def load(self, first: int, count: int) -> Tensor:
        numbers = self._read_ahead(first, count)
        if numbers is None:
            numbers = self._read(self._turn, first, count)
        self._show(self._turn, numbers.numel())
        self._turn = 1 - self._turn
        after = first + count
        if after < self._n_steps:
            size = min(self.block, self._n_steps - after)
            self._ahead = after, size, self._thread.submit(self._read, self._turn, after, size)
        return numbers

    def _read_ahead(self, first: int, count: int) -> Tensor | None:
        """Wait for the window that was read ahead; return its numbers if it is the one asked for."""
        ahead, self._ahead = self._ahead, None
        if ahead is None:
            return None
        numbers = ahead[2].result()
        return numbers if ahead[:2] == (first, count) else None

    def _read(self, turn: int, first: int, count: int) -> Tensor:
        """Read the rows of some steps into a window; return the numbers [count, S, B] of the rows in it."""
        if (copied := self._copied[turn]) is not None:
            copied.synchronize()
        numbers = self._upcoming(first, count)
        ordered, places = numbers.flatten().sort(stable=True)
        x, *condition = self._windows[turn]
        self._rows.read_sorted(ordered, x[: len(ordered)])
        for part in condition:
            torch.index_select(self._rows.condition, 0, ordered, out=part[: len(ordered)])
        return places.argsort().view(numbers.shape)

    def _show(self, turn: int, n_rows: int) -> None:
        """Make a window the current one, after all steps that were given to the device before."""
        if not self._on_gpu:
            self._current = self._windows[turn]
            return
        for kept, new in zip(self._current, self._windows[turn], strict=True):
            kept[:n_rows].copy_(new[:n_rows], non_blocking=True)
        copied = torch.cuda.Event()
        copied.record(torch.cuda.current_stream(self._rows.device))
        self._copied[turn] = copied
