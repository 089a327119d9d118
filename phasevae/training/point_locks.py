"""Locks of points: no two processes train or write the same point at once.

A killed run of the workflow can leave a training that goes on beside the next run, and two runs can be started at once.
The operating system holds the locks, one byte of a file for each point (POSIX record locks, which NFS knows too). It
releases them when their holder ends, however it ends.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from phasevae.sweep.points import Task

_log = logging.getLogger("phasevae")

_BUSY = (errno.EACCES, errno.EAGAIN)
_UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@contextmanager
def locked_points(path: Path, tasks: Sequence[Task]) -> Iterator[None]:
    """Hold the locks of some points; wait for them first, with a line in the log, if another process holds one.

    Parameters
    ----------
    path : Path
        The file that has the locks, the same for all processes that may train these points. It stays empty.
    tasks : sequence of Task
        The points.

    Raises
    ------
    OSError
        If the file cannot be opened. It names the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        # In the same order everywhere, so that no two processes wait for each other.
        folders = {_byte_of(task.folder): task.folder for task in tasks}
        for byte, folder in sorted(folders.items()):
            try:
                _lock(file.fileno(), byte, folder)
            except OSError as error:
                if error.errno not in _UNSUPPORTED:
                    raise
                _log.warning("%s: the file system has no locks; do not train these points twice at once", path)
                break
        yield


def _byte_of(folder: Path) -> int:
    """The byte that stands for a point, by the name of its folder."""
    return int.from_bytes(hashlib.sha256(folder.name.encode()).digest()[:7], "big")


def _lock(descriptor: int, byte: int, folder: Path) -> None:
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte, os.SEEK_SET)
    except OSError as error:
        if error.errno not in _BUSY:
            raise
        _log.info("%s: another process is training this point; waiting until it ends", folder)
        fcntl.lockf(descriptor, fcntl.LOCK_EX, 1, byte, os.SEEK_SET)
