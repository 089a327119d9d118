"""SIGTERM to Snakemake reaches the commands of its jobs."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import os, signal, subprocess, threading, time
import psutil
from phasevae.sweeps.termination import stop_jobs_on_sigterm

lock, stopped = threading.Lock(), threading.Event()

def present(number, frame):  # as Snakemake's
    with lock:
        stopped.set()

signal.signal(signal.SIGTERM, present)
stop_jobs_on_sigterm()
job = subprocess.Popen(["bash", "-c", "trap 'echo shell' TERM; sleep 60; echo $?"], stdout=subprocess.PIPE, text=True)
while not psutil.Process(job.pid).children():
    time.sleep(0.01)
with lock:
    os.kill(os.getpid(), signal.SIGTERM)
    print(job.communicate()[0].strip(), flush=True)
print(stopped.wait(30))
late = subprocess.Popen(["sleep", "60"])  # as a job that was about to be started when the signal came
print(late.wait(30))
"""


def test_commands_are_stopped_while_the_handler_waits_for_a_lock_and_later():
    result = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout.split() == [str(128 + 15), "True", "-15"], result.stderr
