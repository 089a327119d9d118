"""Commands of the workflow end with Snakemake, also when that is killed and cannot stop them itself.

A command that goes on without it would hold the locks of its points, and compute beside the next run. The workflow
names the process that waits for the command in an environment variable. A command that a person starts has none, and
may outlive its shell (`nohup`).
"""

from __future__ import annotations

import logging
import os
import platform
import signal
import threading
import time
from pathlib import Path

from phasevae.artifacts.processes import is_running, start_time

VARIABLE = "PHASEVAE_PARENT"
"""Environment variable with the process to end with, as `this_process` names it."""

_SECONDS = 0.5

_log = logging.getLogger("phasevae")


def this_process() -> str:
    """Return the name of this process: its number, and the space of numbers that it belongs to."""
    return f"{os.getpid()}@{_namespace()}"


def end_with_parent() -> None:
    """Send this process SIGTERM as soon as the process that PHASEVAE_PARENT names is gone.

    Does nothing without the variable, or where that process cannot be seen: on another machine, and in a container with
    process numbers of its own.
    """
    number, _, namespace = os.environ.get(VARIABLE, "").partition("@")
    if number.isdecimal() and namespace == _namespace():
        threading.Thread(target=_watch, args=(int(number), start_time(int(number))), daemon=True).start()


def _namespace() -> str:
    """The machine, and the space of process numbers on it, where the system has several."""
    try:
        return f"{platform.node()}:{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return platform.node()


def _watch(parent: int, started: str | None) -> None:
    while is_running(parent) and not (started and start_time(parent) not in (started, None)):
        time.sleep(_SECONDS)
    _log.warning("process %s, which waited for this command, has ended", parent)
    os.kill(os.getpid(), signal.SIGTERM)
