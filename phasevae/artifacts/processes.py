"""Processes of this machine: whether one still runs, and since when."""

from __future__ import annotations

import os
from pathlib import Path


def is_running(process: int) -> bool:
    """Whether a process is there and has not ended: also not as a zombie, which nobody has waited for.

    True where the system cannot tell.
    """
    if os.name != "posix":
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    status = _status(process)
    return not status or status[0] != "Z"


def start_time(process: int) -> str | None:
    """When a process began, so that another one with its number is not taken for it; None if it cannot be read."""
    status = _status(process)
    return status[19] if status else None


def _status(process: int) -> list[str]:
    """The fields of /proc/PID/stat after the name of the program; empty where there is none."""
    try:
        return Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return []
