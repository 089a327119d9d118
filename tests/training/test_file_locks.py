"""Two processes and the same points: the second waits for the first, however that ends."""

from __future__ import annotations

import multiprocessing
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import forked
import pytest
from job_runs import files_of, job_in, relative, saved_job

from phasevae.training import file_locks
from phasevae.training import job as job_module
from phasevae.training.job import run_job

CONTEXT = multiprocessing.get_context("fork")


def hold(folder: Path, numbers: list[int], answers) -> None:
    """Take the locks of some points, say so, and keep them until the end."""
    tasks = job_in(folder).tasks
    file_locks._log.info = lambda *message: answers.send("waits")
    with file_locks.locked(folder / "points.lock", [tasks[number].folder for number in numbers]):
        answers.send("holds")
        signal.pause()


@pytest.fixture
def holders(tmp_path):
    """Starts processes that hold the locks of points."""
    started = []

    def start(*numbers: int):
        here, there = CONTEXT.Pipe()
        process = CONTEXT.Process(target=hold, args=(tmp_path, list(numbers), there))
        process.start()
        started.append(process)
        return process, here

    yield start
    for process in started:
        process.kill()
        process.join()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_point_that_another_process_trains_is_waited_for(holders, number):
    first, of_first = holders(0, 1)
    assert of_first.recv() == "holds"
    _, of_second = holders(1, 2)
    assert of_second.recv() == "waits"
    assert not of_second.poll()
    os.kill(first.pid, number)
    assert of_second.recv() == "holds"


def test_other_points_are_not_waited_for(holders):
    answers = [holders(number)[1] for number in (0, 1, 2)]
    assert [answer.recv() for answer in answers] == ["holds"] * 3


def test_a_file_system_without_locks_is_named(tmp_path, monkeypatch, caplog):
    def refuse(*_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(file_locks.fcntl, "lockf", refuse)
    with file_locks.locked(tmp_path / "points.lock", [tmp_path]):
        (message,) = caplog.messages
    assert message.startswith(f"{tmp_path}/points.lock: the file system has no locks")


def test_two_trainings_of_the_same_points_at_once_do_the_work_once(tmp_path):
    both, alone = tmp_path / "both", tmp_path / "alone"
    arguments = saved_job(both)
    assert forked.run("phasevae.cli.main:main", *saved_job(alone)).returncode == 0
    with ThreadPoolExecutor() as pool:
        runs = list(pool.map(lambda _: forked.run("phasevae.cli.main:main", *arguments), range(2)))
    assert [run.returncode for run in runs] == [0, 0], [run.stderr for run in runs]
    trained, kept = "3 points trained, 0 kept", "0 points trained, 3 kept"
    assert sorted(run.stdout.strip().rsplit(": ", 1)[1] for run in runs) == [kept, trained]
    ours, theirs = job_in(both), job_in(alone)
    assert relative(ours, files_of(ours)) == relative(theirs, files_of(theirs))


def test_a_job_locks_its_points_and_its_checkpoint(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(job_module, "locked", lambda path, names: asked.append((path, set(names))) or nullcontext())
    job = job_in(tmp_path)
    run_job(job)
    assert asked == [(tmp_path / "checkpoints" / "points.lock", {job.checkpoint, *(task.folder for task in job.tasks)})]


def test_a_finished_job_writes_nothing(tmp_path):
    job = job_in(tmp_path)
    run_job(job)
    job.checkpoint.unlink()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert run_job(job) == []
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
