"""phasevae's own Trainer: all models as one ensemble, with the backend that is installed."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from contenders.common import Run
from phasevae.kernels.dispatch import backend
from phasevae.sweeps.settings import Member
from phasevae.training.trainer import Trainer


def prepare(run: Run) -> dict[str, Any]:
    """There is nothing to choose."""
    return {}


def start(run: Run) -> Phasevae:
    """The models before their training."""
    return Phasevae(run)


class Phasevae:
    """An ensemble, of which some steps are trained at a time."""

    def __init__(self, run: Run):
        torch.set_num_threads(run.threads)
        self.detail = f"{backend('cpu')}, {run.threads} threads"
        members = [Member(sigma2, 1.0, run.seed) for sigma2 in run.sigma2]
        self._trainer = Trainer(torch.from_numpy(run.x), members, run.settings)

    def in_operations(self) -> Phasevae:
        """Take single operations instead of native calls of whole steps."""
        self._trainer._native_steps = None
        return self

    def train(self, steps: int) -> None:
        train_steps(self._trainer, steps)

    def parameters(self) -> NDArray[np.float32]:
        return self._trainer.model.parameters.detach().numpy().copy()


def train_steps(trainer: Trainer, steps: int) -> None:
    """Train this many further steps, or to the end of the training."""
    trainer.run(until=trainer.step + steps)
