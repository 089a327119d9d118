"""A running ensemble on disk: which points it trains, with which budget, and the state to continue from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from phasevae.artifacts.files import read_tensors, write_tensors
from phasevae.errors import InputError
from phasevae.sweep.points import Task
from phasevae.training.trainer import Trainer, select_members


@dataclass(frozen=True)
class Ensemble:
    """Models to train together.

    factor: their budget in units of `samples`; arrays: the `Trainer.state` to continue from, None for a fresh start;
    seconds: what the training took so far, as the share of each model.
    """

    tasks: list[Task]
    factor: int
    arrays: dict[str, np.ndarray] | None = None
    seconds: float = 0.0

    def halves(self) -> tuple[Ensemble, Ensemble]:
        """The same models as two ensembles."""
        middle = len(self.tasks) // 2
        return tuple(
            Ensemble(
                [self.tasks[index] for index in kept],
                self.factor,
                None if self.arrays is None else select_members(self.arrays, kept),
                self.seconds,
            )
            for kept in (range(middle), range(middle, len(self.tasks)))
        )


def write(path: Path, ensemble: Ensemble, trainer: Trainer, seconds: float = 0.0) -> None:
    """Save where `trainer`, which trains `ensemble`, stands, `seconds` a model after its beginning."""
    digests = [task.digest for task in ensemble.tasks]
    metadata = {"digests": digests, "extended": ensemble.factor, "seconds": seconds}
    write_tensors(path, trainer.state(), metadata)


def read(path: Path, tasks: Sequence[Task], tell: Callable[[str], None] = lambda line: None) -> Ensemble | None:
    """What of a checkpoint belongs to `tasks`, which may be nothing; None when it is absent, or damaged: then `tell` is
    called with a line about it."""
    if not path.is_file():
        return None
    try:
        arrays, metadata = read_tensors(path)
        wanted = {task.digest: task for task in tasks}
        kept = [index for index, digest in enumerate(metadata["digests"]) if digest in wanted]
        found = [wanted[metadata["digests"][index]] for index in kept]
        return Ensemble(found, metadata["extended"], select_members(arrays, kept), metadata["seconds"])
    except InputError as error:
        tell(f"{error}; the training starts again")
    except (KeyError, IndexError, TypeError):
        tell(f"{path}: not a checkpoint of phasevae; the training starts again")
    return None
