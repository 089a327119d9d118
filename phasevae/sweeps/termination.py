"""SIGTERM to Snakemake: its running jobs get it as well.

Snakemake's own handler waits until the running jobs have finished, which may be hours, and a batch system sends SIGKILL
seconds later. A training that gets the signal writes its checkpoint and ends, so that Snakemake can end as well.
"""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType
from typing import NoReturn

_SECONDS = 1.0


def stop_jobs_on_sigterm() -> None:
    """Pass SIGTERM on to the programs that this process has started, besides what its present handler does."""
    present = signal.getsignal(signal.SIGTERM)
    if not callable(present):
        return

    def receive(number: int, frame: FrameType | None) -> None:
        # Snakemake's handler (9.27) waits for a lock that this thread may hold at this moment.
        threading.Thread(target=present, args=(number, frame), daemon=True).start()
        threading.Thread(target=_stop_jobs, daemon=True).start()

    signal.signal(signal.SIGTERM, receive)


def _stop_jobs() -> NoReturn:
    """Send SIGTERM to each descendant without children: to the command of a job, but not to the shell around it.

    It goes on until this process ends, because a last job may be starting when the signal comes.
    """
    import psutil

    stopped = set()
    while True:
        for process in psutil.Process().children(recursive=True):
            try:
                if process not in stopped and not process.children():
                    process.terminate()
                    stopped.add(process)
            except psutil.Error:  # it has ended, or is another user's
                continue
        time.sleep(_SECONDS)
