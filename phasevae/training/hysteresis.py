"""A sweep upwards from active models, and freshly trained ones beside it: the evidence for an abrupt collapse.

The upward branch is trained at the lowest decoder variance as any point is; each next step begins with the weights of
the last. The fresh branch begins at every decoder variance from new weights and at the target from the start.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any

import pandas as pd
import torch

from phasevae.errors import InputError
from phasevae.kernels.elbo import backend
from phasevae.measurement.measure import column_means, measure_model
from phasevae.sweep.settings import Member, Settings
from phasevae.training.malloc import keep_pages
from phasevae.training.trainer import Trainer

STEP_RATE = 0.3
"""Part of the learning rate that a step upwards trains with: the full rate shakes networks off a shallow branch."""

_NUMBERS = (
    "elbo",
    "kl",
    "mse",
    "collapsed_elbo",
    "elbo_gap",
    "elbo_gap_standard_error",
    "active_dims",
)


def hysteresis_sweep(
    x: torch.Tensor,
    settings: Settings,
    sigma2: Sequence[float],
    seeds: Sequence[int],
    beta: float = 1.0,
    report: Callable[[Trainer], None] = lambda trainer: None,
) -> pd.DataFrame:
    """hysteresis.csv: one row a branch ("up", "fresh"), sigma2 and seed.

    x: float [N, D] on the device to train on; each model of each step sees `settings.samples` rows. Raises InputError
    for fewer than two decoder variances and when a training diverges.
    """
    grid = sorted(float(value) for value in sigma2)
    if len(set(grid)) != len(grid) or len(grid) < 2:
        raise InputError(f"sigma2: {grid}, must be two or more different decoder variances")
    keep_pages()
    mean = column_means(x)
    at_target = replace(settings, schedule="scratch")
    upwards = replace(at_target, learning_rate=STEP_RATE * settings.learning_rate)
    rows: list[dict[str, Any]] = []
    weights = None
    for value in grid:
        members = [Member(value, beta, int(seed)) for seed in seeds]
        trainer = Trainer(x, members, settings if weights is None else upwards)
        if weights is not None:
            trainer.model.parameters.copy_(weights)
        trainer.run(on_record=report)
        weights = trainer.model.parameters.detach().clone()
        rows += _measured("up", trainer, x, mean)
    fresh = Trainer(x, [Member(value, beta, int(seed)) for value in grid for seed in seeds], at_target)
    fresh.run(on_record=report)
    rows += _measured("fresh", fresh, x, mean)
    table = pd.DataFrame(rows).assign(n_latent=settings.n_latent, backend=backend(x.device.type))
    return table.sort_values(["branch", "sigma2", "seed"], ascending=[False, True, True], ignore_index=True)


def _measured(branch: str, trainer: Trainer, x: torch.Tensor, mean: torch.Tensor) -> list[dict[str, Any]]:
    found = []
    for index, member in enumerate(trainer.members):
        numbers = measure_model(trainer.model.member(index), x, mean, member, with_likelihood=False)
        samples = trainer.step * trainer.settings.batch
        found.append(
            {"branch": branch, **asdict(member), **{key: numbers[key] for key in _NUMBERS}, "samples": samples}
        )
    return found
