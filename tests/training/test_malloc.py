from __future__ import annotations

import platform
import subprocess
import sys

import pytest

PEAK = """
import ctypes
from phasevae.training.malloc import keep_pages
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]

def held():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

if {keep}:
    assert keep_pages() and keep_pages()
block = libc.malloc(96 << 20)
ctypes.memset(block, 1, 96 << 20)
libc.free(block)
print(held() >> 20)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another malloc")
def test_pages_of_a_freed_block_stay_with_the_process():
    given_back, kept = (
        int(subprocess.run([sys.executable, "-c", PEAK.format(keep=keep)], capture_output=True, check=True).stdout)
        for keep in (False, True)
    )
    assert kept > 96 > given_back


def test_another_system_is_left_alone(monkeypatch):
    from phasevae.training.malloc import keep_pages

    monkeypatch.setattr(sys, "platform", "darwin")
    assert keep_pages.__wrapped__() is False
