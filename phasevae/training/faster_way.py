"""Which of two ways of doing the same steps is faster, by the time that they take.

What runs beside a training decides it, and that changes. So it is found again and again while the training goes on.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

TRIAL = 0.1
"""Seconds after which ways are compared, or one call if that takes longer."""

TURN = 40
"""The slower way is tried again after this many times as long as it took, so it has at most a twentieth of the time."""


class _Tried(NamedTuple):
    pace: float  # seconds a step
    seconds: float


class FasterWay:
    """Changes to the other of two ways if that was faster when it was last tried, or was tried long ago.

    Attributes
    ----------
    is_first : bool
        Whether the next steps should be done in the first way.
    """

    def __init__(self) -> None:
        self._tried: dict[bool, _Tried] = {}  # by is_first
        self._change_to(is_first=True)

    def _change_to(self, is_first: bool) -> None:
        self.is_first = is_first
        self._is_new = True
        self._since_change = 0.0
        self._steps, self._seconds = 0, 0.0

    @contextmanager
    def timed(self, is_first: bool, steps: int) -> Iterator[None]:
        """Time what is done within, as `steps` steps in the first or in the second way."""
        began = time.perf_counter()
        yield
        if is_first == self.is_first:
            self._add(steps, time.perf_counter() - began)

    def _add(self, steps: int, seconds: float) -> None:
        self._since_change += seconds
        if self._is_new:  # the first call after a change finds nothing in the caches, or makes what others use
            self._is_new = False
            return
        self._steps += steps
        self._seconds += seconds
        if self._seconds < TRIAL:
            return
        self._tried[self.is_first] = now = _Tried(self._seconds / self._steps, self._seconds)
        self._steps, self._seconds = 0, 0.0
        other = self._tried.get(not self.is_first)
        if other is None or other.pace < now.pace or self._since_change >= TURN * other.seconds:
            self._change_to(not self.is_first)
