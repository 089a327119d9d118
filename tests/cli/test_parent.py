"""A command that Snakemake has started ends when Snakemake is gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from phasevae.cli import parent

WAIT = """
import time
from phasevae.cli.parent import end_with_parent

end_with_parent()
print(flush=True)
time.sleep(60)
"""


def waiting(number: int) -> subprocess.Popen:
    """A process that watches another one and does nothing else."""
    environment = os.environ | {parent.VARIABLE: parent.this_process().replace(str(os.getpid()), str(number), 1)}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", WAIT], env=environment, **streams)


@pytest.mark.parametrize("reaped", [True, False])
def test_it_ends_with_the_process_that_is_named(reaped):
    watched = subprocess.Popen(["sleep", "60"])
    command = waiting(watched.pid)
    assert command.stdout.readline() == "\n"
    assert command.poll() is None
    watched.kill()
    if reaped:  # otherwise it stays as a zombie, as under a process that waits for nobody
        watched.wait()
    assert command.wait(timeout=50) == -signal.SIGTERM
    assert f"process {watched.pid}, which waited for this command, has ended" in command.stderr.read()
    watched.wait()


def test_it_ends_if_the_process_is_gone_before_it_begins():
    watched = subprocess.Popen(["true"])
    watched.wait()
    assert waiting(watched.pid).wait(timeout=50) == -signal.SIGTERM


@pytest.mark.parametrize("value", ["", "none", "1", "1@", "1@elsewhere:pid:[1]"])
def test_nobody_is_watched_who_cannot_be_seen(value, monkeypatch):
    monkeypatch.setenv(parent.VARIABLE, value)
    monkeypatch.setattr(parent.threading, "Thread", None)
    parent.end_with_parent()


@pytest.mark.parametrize(("times", "watched_for"), [(["earlier", "later"], 1), ([None, "earlier", None, "later"], 3)])
def test_another_process_with_the_number_is_not_taken_for_it(times, watched_for, monkeypatch):
    ended, waited = [], []
    monkeypatch.setattr(parent, "start_time", lambda process, found=iter(times): next(found))
    monkeypatch.setattr(parent.os, "kill", lambda process, number: ended.append(number) if number else None)
    monkeypatch.setattr(parent.time, "sleep", waited.append)
    parent._watch(1, "earlier")
    assert ended == [signal.SIGTERM]
    assert len(waited) == watched_for
