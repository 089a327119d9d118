"""Commands of the workflow end with Snakemake, also when that is killed and cannot stop them itself.

A command that goes on without it would hold the locks of its points, and compute beside the next run. The workflow
names the process that waits for the command in an environment variable. A command that a person starts has none, and
may outlive its shell (`nohup`).
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from pathlib import Path

VARIABLE = "PHASEVAE_PARENT"
"""Environment variable with the number of the process to end with."""

_SECONDS = 0.5

_log = logging.getLogger("phasevae")


def end_with_parent() -> None:
    """Send this process SIGTERM as soon as the process that PHASEVAE_PARENT names is gone.

    Does nothing without the variable, or with the number 0, which a parent outside a container has.
    """
    text = os.environ.get(VARIABLE, "")
    if not text.isdecimal() or int(text) == 0:
        return
    threading.Thread(target=_watch, args=(int(text), _start_time(int(text))), daemon=True).start()


def _watch(parent: int, started: str | None) -> None:
    while _is_running(parent) and _start_time(parent) == started:
        time.sleep(_SECONDS)
    _log.warning("process %s, which waited for this command, has ended", parent)
    os.kill(os.getpid(), signal.SIGTERM)


def _is_running(process: int) -> bool:
    """Whether a process is there and has not ended: also not as a zombie, which nobody has waited for."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    status = _status(process)
    return not status or status[0] != "Z"


def _start_time(process: int) -> str | None:
    """When a process began, so that another one with its number is not taken for it; None where that is not known."""
    status = _status(process)
    return status[19] if status else None


def _status(process: int) -> list[str]:
    """The fields of /proc/PID/stat after the name of the program; empty where there is none."""
    try:
        return Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return []
