"""Locks of what a job writes: no two processes train or write the same point, or the same checkpoint, at once.

A killed run of the workflow can leave a training that goes on beside the next run, and two runs can be started at once.
The operating system holds the locks, one byte of a file for each name (POSIX record locks, which NFS knows too). It
releases them when their holder ends, however it ends.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from phasevae.artifacts.files import make_folder

_log = logging.getLogger("phasevae")

_BUSY = (errno.EACCES, errno.EAGAIN)
_UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


@contextmanager
def locked(path: Path, names: Iterable[Path]) -> Iterator[None]:
    """Hold some locks; wait for them first, with a line in the log, if another process holds one.

    Parameters
    ----------
    path : Path
        The file that has the locks, the same for all processes that may write these names. It stays empty.
    names : iterable of Path
        Files and folders that are going to be written.

    Raises
    ------
    OSError
        If the file cannot be opened or locked. It names the file.
    """
    make_folder(path.parent)
    with path.open("a+b") as file:
        # In the same order everywhere, so that no two processes wait for each other.
        for byte, name in sorted((_byte_of(name), name) for name in names):
            try:
                _lock(file.fileno(), byte, name)
            except OSError as error:
                if error.errno not in _UNSUPPORTED:
                    raise OSError(error.errno, error.strerror, str(path)) from None
                _log.warning("%s: the file system has no locks; do not train these points twice at once", path)
                break
        yield


def _byte_of(name: Path) -> int:
    """The byte that stands for a file or folder, by the last part of its path."""
    return int.from_bytes(hashlib.sha256(name.name.encode()).digest()[:7], "big")


def _lock(descriptor: int, byte: int, name: Path) -> None:
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte, os.SEEK_SET)
    except OSError as error:
        if error.errno not in _BUSY:
            raise
        _log.info("%s: another process is training this; waiting until it ends", name)
        fcntl.lockf(descriptor, fcntl.LOCK_EX, 1, byte, os.SEEK_SET)
