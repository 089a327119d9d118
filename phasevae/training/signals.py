"""SIGTERM and SIGINT during a job: they are noted, and obeyed when no work can be lost."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class InterruptedTrainingError(Exception):
    """A signal, `signal_number`, asked the job to stop; its checkpoint is written."""

    def __init__(self, signal_number: int):
        super().__init__(f"stopped by {signal.Signals(signal_number).name}; run the same command again to continue")
        self.signal_number = signal_number


class Stop:
    """The signal that a job has received, if any.

    While models train, a signal is only noted, because a step must not be cut in two. Inside `at_once`, where the
    checkpoint holds all that must not be lost, a signal ends the work immediately.
    """

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self._obeyed_at_once = False

    def receive(self, number: int, _: object) -> None:
        """Handle a signal."""
        self.signal_number = number
        if self._obeyed_at_once:
            self.obey()

    def obey(self) -> None:
        """Raise InterruptedTrainingError if a signal was received."""
        if self.signal_number is not None:
            raise InterruptedTrainingError(self.signal_number)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Obey signals immediately, and one that was received before."""
        self._obeyed_at_once = True
        try:
            self.obey()
            yield
        finally:
            self._obeyed_at_once = False


@contextmanager
def stop_signals() -> Iterator[Stop]:
    """Receive SIGTERM and SIGINT, which would otherwise end the process. Only a main thread can."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    previous = {number: signal.signal(number, stop.receive) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
