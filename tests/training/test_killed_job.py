"""What a job does after it was killed, at moments that do not depend on how fast the machine is."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path

from job_runs import files_of, job_in, relative

from phasevae.training.job import run_job
from phasevae.training.trainer import Trainer


def killing_itself(step: int | None, file: int | None) -> Callable[[Trainer], None]:
    """Return a callback of a job that kills this process from a step on. It is also killed before the `file`-th file,
    whole but under its temporary name, gets its own."""
    renamed, replace_file = itertools.count(1), os.replace

    def replace_or_die(*paths: Path) -> None:
        if next(renamed) == file:
            os.kill(os.getpid(), signal.SIGKILL)
        replace_file(*paths)

    os.replace = replace_or_die
    return lambda trainer: None if step is None or trainer.step < step else os.kill(os.getpid(), signal.SIGKILL)


def exit_code_of(folder: Path, step: int | None = None, file: int | None = None) -> int | None:
    """Run the job in a fork of this process, which has the libraries imported. None if it does not end in a minute."""
    job = job_in(folder, checkpoint_seconds=0.01)
    context = multiprocessing.get_context("fork")
    process = context.Process(target=lambda: run_job(job, killing_itself(step, file)))
    process.start()
    process.join(60)
    code = process.exitcode
    process.kill()
    process.join(10)
    return code


def test_killed_again_and_again_the_numbers_are_those_of_an_undisturbed_run(tmp_path):
    undisturbed, job = (job_in(tmp_path / name) for name in ("undisturbed", "killed"))
    run_job(undisturbed)
    folder = job.checkpoint.parents[1]
    moments = ({"file": 2}, {"step": 10}, {"file": 2}, {"step": 40}, {"file": 8})
    assert [exit_code_of(folder, **moment) for moment in moments] == [-signal.SIGKILL] * len(moments)
    assert exit_code_of(folder) == 0
    assert relative(job, files_of(job)) == relative(undisturbed, files_of(undisturbed))
