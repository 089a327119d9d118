"""A sweep upwards from active models, compared with fresh ones: the evidence for an abrupt collapse.

The upward branch is trained at the lowest decoder variance as any point is. Each next step begins with the weights of
the step before. The fresh branch begins at every decoder variance with new weights, at the target from the start.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
import torch

from phasevae.datasets.conditions import Condition
from phasevae.errors import InputError
from phasevae.kernels.dispatch import backend
from phasevae.kernels.family import Family
from phasevae.measurement.measure import measure_model
from phasevae.sweeps.settings import GAUSSIAN, Member, Settings
from phasevae.training.malloc import keep_pages
from phasevae.training.problem import Problem
from phasevae.training.trainer import Trainer

STEP_RATE = 0.3
"""Fraction of the learning rate in a step upwards: the full rate shakes networks off a shallow branch."""

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
    x: np.ndarray,
    settings: Settings,
    grid: Sequence[float],
    seeds: Sequence[int],
    beta: float = 1.0,
    device: torch.device | str = "cpu",
    on_record: Callable[[Trainer], None] = lambda trainer: None,
    own_likelihood: Family | None = None,
    data_memory: int | None = None,
    condition: Condition | None = None,
) -> pd.DataFrame:
    """Train and measure both branches.

    Parameters
    ----------
    x : array [N, D]
        The data; the networks see them centred.
    settings : Settings
        Each model sees `settings.samples` rows at each point of the grid.
    grid : sequence of float
        Two or more decoder variances; for likelihoods other than the Gaussian, weights of KL.
    seeds : sequence of int
        One model per seed on each branch.
    beta : float
        The weight of KL, for a Gaussian decoder.
    device : torch.device or str
        Where to train.
    on_record : callable
        Called with the trainer about a hundred times for each training, to show the progress.
    own_likelihood : Family, optional
        See `training.job.Job`.
    data_memory : int, optional
        Bytes that the data may take; see `phasevae.file_rows.load_rows`.
    condition : Condition, optional
        What the networks see beside each row.

    Returns
    -------
    DataFrame
        hysteresis.csv: one row for each branch ("up", "fresh"), sigma2, beta and seed.

    Raises
    ------
    InputError
        For fewer than two points of the grid, and if a training diverges.
    """
    gaussian = settings.likelihood == GAUSSIAN
    key, points = ("sigma2", "decoder variances") if gaussian else ("beta", "weights of KL")
    grid = sorted(float(value) for value in grid)
    if len(set(grid)) != len(grid) or len(grid) < 2:
        raise InputError(f"{key}: {grid}, must be two or more different {points}")
    keep_pages()
    problem = Problem.of(x, settings, device, own_likelihood, data_memory, condition)
    at_target = settings.with_changes(schedule="scratch")
    upwards = at_target.with_changes(learning_rate=STEP_RATE * settings.learning_rate)
    rows: list[dict[str, Any]] = []
    weights = None

    def members_at(*values: float) -> list[Member]:
        places = [(value, beta) if gaussian else (1.0, value) for value in values]
        return [Member(*place, int(seed)) for place in places for seed in seeds]

    for value in grid:
        trainer = Trainer(problem, members_at(value), settings if weights is None else upwards)
        if weights is not None:
            trainer.model.parameters.copy_(weights)
        trainer.run(on_record=on_record)
        weights = trainer.model.parameters.detach().clone()
        rows += _measured("up", trainer, problem)
    fresh = Trainer(problem, members_at(*grid), at_target)
    fresh.run(on_record=on_record)
    rows += _measured("fresh", fresh, problem)
    table = pd.DataFrame(rows).assign(n_latent=settings.n_latent, backend=backend(problem.rows.device.type))
    order = ["branch", "sigma2", "beta", "seed"]
    return table.sort_values(order, ascending=[False, True, True, True], ignore_index=True)


def _measured(branch: str, trainer: Trainer, problem: Problem) -> list[dict[str, Any]]:
    rows = []
    for index, member in enumerate(trainer.members):
        numbers = measure_model(
            trainer.model.member(index),
            problem.rows,
            member,
            with_likelihood=False,
            reconstruction=problem.reconstruction,
        )
        samples = trainer.step * trainer.settings.batch
        identity = {key: value for key, value in asdict(member).items() if value is not None}
        rows.append({"branch": branch, **identity, **{key: numbers[key] for key in _NUMBERS}, "samples": samples})
    return rows
