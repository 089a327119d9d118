"""Settings of malloc: a training step that gets fresh pages from the system each time is slower."""

from __future__ import annotations

import ctypes
import functools
import sys

# Parameters of mallopt(3) in glibc's malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_PAD_BYTES = 128 << 20


@functools.cache
def keep_pages() -> bool:
    """Make malloc keep freed memory and take large blocks from the heap too; return whether that was possible.

    By default glibc returns blocks of some MB to the system when they are freed. A step allocates dozens of them, and
    zeroing their pages again costs about a tenth of a step on the CPU. With these settings the process holds its
    largest use of memory until it ends. They exist in glibc only; with another malloc nothing changes.
    """
    if not sys.platform.startswith("linux"):
        return False
    libc = ctypes.CDLL(None)
    if not (hasattr(libc, "gnu_get_libc_version") and hasattr(libc, "mallopt")):
        return False
    options = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1), (_TOP_PAD, _PAD_BYTES))
    return all(libc.mallopt(parameter, value) for parameter, value in options)
