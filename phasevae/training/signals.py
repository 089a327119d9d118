"""SIGTERM and SIGINT while a job computes: noted, and obeyed where nothing is lost by it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


class InterruptedTrainingError(Exception):
    """A signal asked the job to stop; its checkpoint is written. `signal_number` tells which."""

    def __init__(self, signal_number: int):
        super().__init__(f"stopped by {signal.Signals(signal_number).name}; run the same command again to continue")
        self.signal_number = signal_number


class Stop:
    """What SIGTERM and SIGINT ask for. While training it is noted, as a step must not be cut in two; `at_once`, where
    all that must not be lost is in the checkpoint, it ends the work where it is."""

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self._obeyed_at_once = False

    def receive(self, number: int, _: object) -> None:
        self.signal_number = number
        if self._obeyed_at_once:
            self.obey()

    def obey(self) -> None:
        if self.signal_number is not None:
            raise InterruptedTrainingError(self.signal_number)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        self._obeyed_at_once = True
        try:
            self.obey()
            yield
        finally:
            self._obeyed_at_once = False


@contextmanager
def stop_signals() -> Iterator[Stop]:
    """Receive SIGTERM and SIGINT instead of dying of them."""
    stop = Stop()
    previous = {number: signal.signal(number, stop.receive) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
