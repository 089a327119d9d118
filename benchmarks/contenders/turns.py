"""Processes that take turns on the same cores, so that other work on the machine hits all alike; each with a clock that
stands still while the process is stopped. Imports no framework."""

from __future__ import annotations

import mmap
import os
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TypeVar

from shared import Steps

from phasevae.cli.parent import VARIABLE, this_process

Name = TypeVar("Name")
STOPPED = "PHASEVAE_STOPPED_SECONDS"
"""Environment variable with the file that holds the seconds for which a process was stopped, one float64."""
_SIZE = struct.calcsize("d")


def clock() -> float:
    """Seconds that pass during the turns of this process alone."""
    while True:
        stopped, now = _stopped_seconds(), time.perf_counter()
        # Otherwise a turn ended and another began between the two.
        if stopped == _stopped_seconds():
            return now - stopped


def _stopped_seconds() -> float:
    memory = _shared(os.environ.get(STOPPED))
    return struct.unpack_from("d", memory)[0] if memory else 0.0


@cache
def _shared(path: str | None) -> mmap.mmap | None:
    if path is None:
        return None
    with Path(path).open("rb") as file:
        return mmap.mmap(file.fileno(), _SIZE, access=mmap.ACCESS_READ)


class Stoppable:
    """A process that runs in its turns alone, together with all processes that it starts.

    The group of processes is its own within this session: when this process dies, the system wakes a stopped group and
    ends it (SIGHUP). A command that may be running then must watch for that itself (`end_with_parent`).
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]):
        self._command, self._environment = command, environment
        self._process: subprocess.Popen | None = None
        self._stopped_at = self._stopped = 0.0

    def turn(self, seconds: float) -> int | None:
        """Start or continue the process; return its exit code if it ends within `seconds`, else stop it."""
        if self._process is None:
            self._start()
        else:
            self._stopped += time.perf_counter() - self._stopped_at
            struct.pack_into("d", self._memory, 0, self._stopped)
            os.killpg(self._process.pid, signal.SIGCONT)
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGSTOP)
            self._stopped_at = time.perf_counter()
            return None

    def kill(self) -> None:
        """End the process and what it started."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _start(self) -> None:
        self._file = tempfile.NamedTemporaryFile()  # noqa: SIM115, it lives as long as this object
        self._file.truncate(_SIZE)
        self._memory = mmap.mmap(self._file.fileno(), _SIZE)
        variables = {STOPPED: self._file.name, VARIABLE: this_process()}
        self._process = _group(self._command, {**self._environment, **variables})


def _group(command: Sequence[str], environment: Mapping[str, str] | None = None) -> subprocess.Popen:
    """Start a process in a group of its own, which ends at SIGHUP even if this process ignores it (`nohup`)."""

    def heed() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)

    return subprocess.Popen(command, env=environment, process_group=0, preexec_fn=heed)  # noqa: PLW1509, heed takes no lock


def take_turns(processes: Mapping[Name, Stoppable], seconds: float) -> Iterator[tuple[Name, int]]:
    """Let processes run in turns of this many seconds until all have ended.

    Yields
    ------
    (name, int) : name and exit code of a process that has ended
    """
    left = dict(processes)
    try:
        while left:
            for name, process in list(left.items()):
                code = process.turn(seconds)
                if code is not None:
                    del left[name]
                    yield name, code
    finally:
        for process in left.values():
            process.kill()


@contextmanager
def busy_processes(count: int) -> Iterator[list[subprocess.Popen]]:
    """Start processes that are busy from SIGCONT to SIGSTOP. They begin stopped, and end with this process.

    A stopped one cannot see that this process is gone; it has a group of its own, for the reason that `Stoppable` has.
    """
    stop = (
        "import os, signal; parent = os.getppid(); os.kill(os.getpid(), signal.SIGSTOP)\n"
        "while os.getppid() == parent: sum(range(100_000))"
    )
    processes = [_group([sys.executable, "-c", stop]) for _ in range(count)]
    try:
        for process in processes:
            os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()


@contextmanager
def awake(processes: Sequence[subprocess.Popen]) -> Iterator[None]:
    """Let `busy_processes` be busy."""
    for process in processes:
        process.send_signal(signal.SIGCONT)
    try:
        yield
    finally:
        for process in processes:
            process.send_signal(signal.SIGSTOP)


def beside_them(run: Steps, processes: Sequence[subprocess.Popen]) -> Steps:
    """Let the processes be busy in each turn."""

    def turn(steps: int) -> None:
        with awake(processes):
            run(steps)

    return turn
