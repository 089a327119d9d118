"""One training job: it trains the points of a bucket as one ensemble, measures them and writes their files.

A point is valid when its point.json carries the digest of its task. A job keeps valid points and trains the others. Its
checkpoint holds what it was doing when it was interrupted.
"""

from __future__ import annotations

import gc
import logging
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from phasevae.artifacts.environment import environment
from phasevae.artifacts.files import remove_partial
from phasevae.datasets.conditions import Condition
from phasevae.errors import InputError
from phasevae.kernels.family import Family
from phasevae.sweeps.digest import training_code_hash
from phasevae.sweeps.points import POINT_FILES, OutdatedPointError, Task, next_budget, read_valid
from phasevae.sweeps.settings import Settings
from phasevae.training import checkpoints
from phasevae.training.checkpoints import Ensemble
from phasevae.training.device import describe_machine
from phasevae.training.file_locks import locked
from phasevae.training.point_files import write_point
from phasevae.training.problem import Problem
from phasevae.training.signals import Stop, stop_signals
from phasevae.training.trainer import Trainer

_log = logging.getLogger("phasevae")


@dataclass(frozen=True)
class Job:
    """The tasks of one bucket, with the data and the settings that they share.

    Attributes
    ----------
    tasks : sequence of Task
        The points to make valid.
    x : array [N, D]
        The data as fed to the networks, float32, in memory or memory-mapped.
    data_sha256 : str
        The digest of the data set.
    settings : Settings
        The networks and their training.
    checkpoint : Path
        Where the state of the running ensemble is saved.
    device : torch.device
        Where to train.
    checkpoint_seconds : float
        The time between two checkpoints.
    own_likelihood : Family, optional
        The fitted function of the user's own, where the likelihood of the settings is one.
    data_memory : int, optional
        Bytes that the data may take; see `phasevae.file_rows.load_rows`.
    condition : Condition, optional
        What the networks see beside each row.
    """

    tasks: Sequence[Task]
    x: np.ndarray
    data_sha256: str
    settings: Settings
    checkpoint: Path
    device: torch.device
    checkpoint_seconds: float = 60.0
    own_likelihood: Family | None = None
    data_memory: int | None = None
    condition: Condition | None = None


def run_job(job: Job, on_record: Callable[[Trainer], None] = lambda trainer: None) -> list[Path]:
    """Make every point of the job valid, once no other process is training one of them.

    Damaged files, and trainings that continue, are logged to "phasevae".

    Parameters
    ----------
    job : Job
    on_record : callable
        Called with the trainer about a hundred times for each ensemble, to show the progress.

    Returns
    -------
    list of Path
        The folders of the points that were trained now.

    Raises
    ------
    InterruptedTrainingError
        After SIGTERM or SIGINT, once the checkpoint is written.
    InputError
        If the training diverges.
    OSError
        If a file cannot be written. It names the file.
    """
    if not job.checkpoint.exists() and not _pending(job):
        return []  # a folder that is read-only is no obstacle then
    files = [job.checkpoint, *(task.folder for task in job.tasks)]
    with locked(job.checkpoint.with_name("points.lock"), files):
        _clear_damaged(job)
        pending = _pending(job)
        if not pending:
            job.checkpoint.unlink(missing_ok=True)
            return []
        trained = [task for task in job.tasks if task in pending]
        problem = Problem.of(job.x, job.settings, job.device, job.own_likelihood, job.data_memory, job.condition)
        with stop_signals() as stop:
            while pending:
                for ensemble in checkpoints.ensembles(job.checkpoint, job.tasks, pending):
                    _complete(job, ensemble, problem, stop, on_record)
                done, pending = pending, _pending(job)
                for task, budget in pending.items():
                    if done.get(task) == budget:
                        read_valid(task)  # says what its reader refuses; the point would be trained for ever
        return [task.folder for task in trained]


def _clear_damaged(job: Job) -> None:
    """Log the points whose files are damaged; remove the remains of an interrupted write."""
    remove_partial(job.checkpoint)
    for task in job.tasks:
        try:
            read_valid(task)
        except OutdatedPointError:
            continue
        except InputError as error:
            if (task.folder / "point.json").is_file():
                _log.warning("%s; the point is trained again", error)
            for name in (*POINT_FILES, "timing.json"):
                remove_partial(task.folder / name)


def _pending(job: Job) -> dict[Task, int]:
    """Return the tasks to train, each with its next budget."""
    return {task: budget for task in job.tasks if (budget := next_budget(task)) is not None}


def _complete(job: Job, ensemble: Ensemble, problem: Problem, stop: Stop, on_record: Callable[[Trainer], None]) -> None:
    """Train an ensemble and write its pending points; if the memory is too small, one half after the other.

    The numbers of a model are the same in any ensemble. Raises InputError if one model alone is too large.
    """
    models = len(ensemble.tasks)
    try:
        return _train_and_write(job, ensemble, problem, stop, on_record)
    except (RuntimeError, MemoryError) as error:
        if not _is_out_of_memory(error):
            raise
        if models == 1:
            raise InputError(
                f"out of memory with a single model and batch: {job.settings.batch}; choose a smaller batch or network"
            ) from None
    # Only now does no exception refer to the trainer and its memory.
    gc.collect()
    if problem.rows.device.type == "cuda":
        torch.cuda.empty_cache()
    warnings.warn(f"out of memory with {models} models side by side; training them in halves", stacklevel=2)
    for half in ensemble.halves():
        _complete(job, half, problem, stop, on_record)


def _is_out_of_memory(error: Exception) -> bool:
    # On the CPU torch raises a plain RuntimeError.
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _train_and_write(
    job: Job, ensemble: Ensemble, problem: Problem, stop: Stop, on_record: Callable[[Trainer], None]
) -> None:
    trainer = Trainer(problem, [task.member for task in ensemble.tasks], job.settings.extended(ensemble.budget))
    if ensemble.arrays is not None:
        trainer.restore(ensemble.arrays)
    seconds = _train(job, trainer, ensemble, stop, on_record)
    provenance = environment() | describe_machine(job.device)
    provenance |= {"data_sha256": job.data_sha256, "code_hash": training_code_hash(job.settings)}
    with stop.at_once():
        for index, task in enumerate(ensemble.tasks):
            budget = next_budget(task)
            if budget is not None and budget <= ensemble.budget:
                write_point(trainer, index, task, problem, job.settings, ensemble.budget, seconds, provenance)


def _train(job: Job, trainer: Trainer, ensemble: Ensemble, stop: Stop, on_record: Callable[[Trainer], None]) -> float:
    """Train to the end of the budget and save checkpoints; return the seconds it took, as the share of each model.

    The seconds include those before an interruption. The first checkpoint is written before any work is done, so that a
    disk that is full or read-only is noticed at once.
    """
    start = saved = time.monotonic()

    def spent() -> float:
        return ensemble.seconds + (time.monotonic() - start) / len(ensemble.tasks)

    def due() -> bool:
        return stop.signal_number is not None or time.monotonic() - saved > job.checkpoint_seconds

    if trainer.step == 0:
        checkpoints.write(job.checkpoint, ensemble, trainer)
    while not trainer.run(on_record=on_record, should_stop=due):
        checkpoints.write(job.checkpoint, ensemble, trainer, spent())
        stop.obey()
        saved = time.monotonic()
    seconds = spent()
    checkpoints.write(job.checkpoint, ensemble, trainer, seconds)
    return seconds
