"""The usual loop with the model and its loss compiled by torch.compile, which needs a C++ compiler."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from contenders.common import Contender, Run, fastest, single
from contenders.loop import Loop, PlainVAE, loader_options


def prepare(run: Run) -> dict[str, Any]:
    """The fastest number of loader processes and of threads."""
    return fastest(start, single(run), loader_options(run.threads))


def start(run: Run, workers: int, threads: int) -> Contender:
    """Return the compiled models before their training; `workers`: number of loader processes."""
    return CompiledLoop(run, workers, threads)


class CompiledLoop(Loop):
    """Compiles for full batches before the first step, so that the clock of the training does not count it."""

    def __init__(self, run: Run, workers: int, threads: int):
        super().__init__(run, workers, threads)
        # The code depends on the number of threads.
        torch.compiler.reset()
        self._compiled = torch.compile(PlainVAE.forward)
        batch = torch.from_numpy(run.x[: run.settings.batch])
        for model, sigma2 in zip(self._models, self._sigma2, strict=True):
            self.loss(model, batch, sigma2).backward()
            model.zero_grad()

    def loss(self, model: PlainVAE, x: Tensor, sigma2: float) -> Tensor:
        # A number would be a constant of the code, which would be compiled for each model.
        return self._compiled(model, x, torch.tensor(sigma2))
