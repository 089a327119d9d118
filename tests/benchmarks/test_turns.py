"""benchmarks/contenders/turns.py: real processes that run in their turns alone, and clocks that stand still."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from contenders import turns
from shared import child_environment

ENVIRONMENT = child_environment(1, PYTHONPATH=os.pathsep.join(sys.path))
GONE = {"gone", "Z"}
WORKER = """
import itertools, sys, time
from contenders import turns
path, name, ticks = sys.argv[1:]
wall, stopped, own = time.perf_counter, turns._stopped_seconds, turns.clock
begin = [wall(), stopped(), own(), stopped(), wall()]
for _ in range(int(ticks)):
    time.sleep(0.001)
    with open(path, "a") as log:
        log.write(name)
    if len(list(itertools.groupby(open(path).read()))) >= 4:
        break
end = [wall(), stopped(), own(), stopped(), wall()]
with open(path + name, "w") as result:
    result.write(" ".join(str(number) for number in begin + end))
sys.exit(ord(name) - ord("a"))
"""


def worker(log: Path, name: str, ticks: int) -> turns.Stoppable:
    """Writes its name once a tick, until the names in the log have alternated three times."""
    return turns.Stoppable([sys.executable, "-c", WORKER, str(log), name, str(ticks)], ENVIRONMENT)


def state(pid: int) -> str:
    """Of a process, by the kernel: T is stopped, Z has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "gone"


def until(condition: Callable[[], bool], *pids: int) -> None:
    """Wait until the condition holds. Fails after ten seconds, with the states of the processes."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, f"not within 10 s; states {[(pid, state(pid)) for pid in pids]}"
        time.sleep(0.002)


def test_processes_take_turns_and_the_clock_of_each_stands_still_in_those_of_the_other(tmp_path):
    log = tmp_path / "log"
    codes = dict(turns.take_turns({name: worker(log, name, 10_000) for name in "ab"}, 0.1))
    assert codes == {"a": 0, "b": 1}
    order = [name for name, _ in itertools.groupby(log.read_text())]
    assert len(order) >= 4, "one ran to its end before the other"
    assert len(order) < len(log.read_text()) / 3, "a process writes more often than it is stopped"
    for name in "ab":
        numbers = list(map(float, Path(f"{log}{name}").read_text().split()))
        begin, end = numbers[:5], numbers[5:]
        # A process may be stopped between any two of the readings.
        least = end[0] - begin[4] - (end[1] - begin[3])
        most = end[4] - begin[0] - (end[3] - begin[1])
        assert least - 1e-6 <= end[2] - begin[2] <= most + 1e-6
        assert end[3] > begin[1]


def test_without_turns_the_clock_is_that_of_the_system():
    before, now, after = time.perf_counter(), turns.clock(), time.perf_counter()
    assert before <= now <= after


def test_processes_that_are_left_are_killed_with_all_that_they_started(tmp_path):
    pids = tmp_path / "pids"
    script = f"import os, time; os.fork(); open({str(pids)!r}, 'a').write(str(os.getpid()) + '\\n'); time.sleep(1000)"
    stopped = turns.Stoppable([sys.executable, "-c", script], ENVIRONMENT)
    left = turns.take_turns({"left": stopped, "ended": worker(tmp_path / "log", "a", 0)}, 0.2)

    def both_run() -> bool:
        assert stopped.turn(0.1) is None
        return pids.is_file() and pids.read_text().count("\n") == 2

    try:
        until(both_run)
        assert next(left) == ("ended", 0)
        left.close()
        for pid in map(int, pids.read_text().split()):
            until(lambda pid=pid: state(pid) in GONE, pid)
    finally:
        stopped.kill()


@pytest.mark.parametrize(
    "start",
    [
        """
process = turns.Stoppable([sys.executable, "-c", "import time; time.sleep(1000)"], dict(os.environ))
assert process.turn(0.1) is None
pid = process._process.pid
""",
        """
busy = turns.busy_processes(1)
(process,) = busy.__enter__()
pid = process.pid
""",
    ],
    ids=["stoppable", "busy"],
)
@pytest.mark.parametrize("hangup", ["SIG_DFL", "SIG_IGN"])
def test_stopped_processes_end_when_the_one_that_lets_them_take_turns_is_killed(tmp_path, start, hangup):
    """Also when that one ignores SIGHUP, as under nohup."""
    pid_file = tmp_path / "pid"
    script = f"""
import os, signal, sys, time
from pathlib import Path
from contenders import turns
signal.signal(signal.SIGHUP, signal.{hangup})
{start}
Path({str(pid_file)!r}).write_text(f"{{pid}}.")
time.sleep(1000)
"""
    parent = subprocess.Popen([sys.executable, "-c", script], env=ENVIRONMENT)
    pid = None
    try:
        until(lambda: pid_file.is_file() and pid_file.read_text().endswith("."), parent.pid)
        pid = int(pid_file.read_text()[:-1])
        until(lambda: state(pid) == "T", pid)
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        until(lambda: state(pid) in GONE, pid)
    finally:
        parent.kill()
        parent.wait()
        if pid is not None and state(pid) not in GONE:
            os.kill(pid, signal.SIGKILL)


def test_busy_processes_run_in_their_turns_alone():
    """The time of a process stands still while it is stopped."""

    def spent(process: subprocess.Popen) -> int:
        return sum(map(int, Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]))

    with turns.busy_processes(1) as (process,):
        before = spent(process)
        turns.beside_them(lambda steps: until(lambda: spent(process) != before, process.pid), [process])(1)
        until(lambda: state(process.pid) == "T", process.pid)
        after = spent(process)
        time.sleep(0.05)
        assert before < after == spent(process)
    assert process.returncode is not None
