"""Ensembles and their checkpoints: which points are trained together, with which budget, and the state to continue."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from phasevae.artifacts.tensors import read_tensors, write_tensors
from phasevae.errors import InputError
from phasevae.sweeps.points import Task, budgets
from phasevae.training.trainer import Trainer, select_members

_log = logging.getLogger("phasevae")


@dataclass(frozen=True)
class Ensemble:
    """The tasks whose models are trained side by side, in one trainer.

    Attributes
    ----------
    tasks : list of Task
    budget : int
        How many times `samples` each model is trained with.
    arrays : dict, optional
        The `Trainer.state` to continue from; None for new models.
    seconds : float
        What the training has taken so far, as the share of each model.
    """

    tasks: list[Task]
    budget: int
    arrays: dict[str, np.ndarray] | None = None
    seconds: float = 0.0

    def halves(self) -> tuple[Ensemble, Ensemble]:
        """Divide the ensemble into two."""
        middle = len(self.tasks) // 2
        return tuple(
            Ensemble(
                [self.tasks[index] for index in kept],
                self.budget,
                None if self.arrays is None else select_members(self.arrays, kept),
                self.seconds,
            )
            for kept in (range(middle), range(middle, len(self.tasks)))
        )


def write(path: Path, ensemble: Ensemble, trainer: Trainer, seconds: float = 0.0) -> None:
    """Save the state of a training.

    Parameters
    ----------
    path : Path
        The checkpoint, a safetensors file.
    ensemble : Ensemble
        What is trained.
    trainer : Trainer
        The training; its state is saved.
    seconds : float
        What the training has taken so far, as the share of each model.

    Raises
    ------
    OSError
        If the file cannot be written. It names the file.
    """
    digests = [task.digest for task in ensemble.tasks]
    metadata = {"digests": digests, "extended": ensemble.budget, "seconds": seconds}
    write_tensors(path, trainer.state(), metadata)


def read(path: Path, tasks: Sequence[Task]) -> Ensemble | None:
    """Read the part of a checkpoint that belongs to some tasks.

    Parameters
    ----------
    path : Path
        The checkpoint.
    tasks : sequence of Task
        Models of other tasks are left out.

    Returns
    -------
    Ensemble or None
        It may have no tasks. None if the file does not exist, or is damaged; the latter is logged.
    """
    if not path.is_file():
        return None
    try:
        arrays, metadata = read_tensors(path)
        task_of = {task.digest: task for task in tasks}
        kept = [index for index, digest in enumerate(metadata["digests"]) if digest in task_of]
        kept_tasks = [task_of[metadata["digests"][index]] for index in kept]
        return Ensemble(kept_tasks, metadata["extended"], select_members(arrays, kept), metadata["seconds"])
    except InputError as error:
        _log.warning("%s; the training starts again", error)
    except (KeyError, IndexError, TypeError):
        _log.warning("%s: not a checkpoint of phasevae; the training starts again", path)
    return None


def ensembles(path: Path, tasks: Sequence[Task], pending: Mapping[Task, int]) -> Iterator[Ensemble]:
    """Yield the ensembles to train: first that of the checkpoint, if it has a pending task, then one for each budget.

    The ensemble of the checkpoint continues as a whole, with points that were already written, so that a resumed
    training does the same operations as an undisturbed one. A point in it whose files are lost skips the smaller
    budgets, which it has been through. A checkpoint with a budget that is no longer allowed is not used.

    Parameters
    ----------
    path : Path
        The checkpoint.
    tasks : sequence of Task
        All tasks of the job.
    pending : mapping of Task to int
        The tasks to train, each with its next budget.

    Yields
    ------
    Ensemble
    """
    saved = read(path, tasks)
    allowed = saved is not None and all(saved.budget in budgets(task.extend) for task in saved.tasks)
    if allowed and any(pending.get(task, math.inf) <= saved.budget for task in saved.tasks):
        step = saved.arrays["progress"][0]
        if step:
            _log.info("%s models continue at step %s", len(saved.tasks), step)
        yield saved
        pending = {task: budget for task, budget in pending.items() if task not in saved.tasks}
    for budget in sorted(set(pending.values())):
        yield Ensemble([task for task in pending if pending[task] == budget], budget)
