"""The files of a trained point: weights, history, timing, and the record that makes them valid."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from phasevae.artifacts.files import file_sha256, write_json
from phasevae.artifacts.tables import write_table
from phasevae.measurement.hierarchy import measure_hierarchy
from phasevae.measurement.measure import measure_model
from phasevae.measurement.residual import residual_numbers
from phasevae.sweeps.convergence import assess_convergence, is_converged
from phasevae.sweeps.points import POINT_CHECKSUMS, Task
from phasevae.sweeps.settings import GAUSSIAN, Settings
from phasevae.trained import save_model
from phasevae.training.problem import Problem
from phasevae.training.trainer import HISTORY_COLUMNS, Trainer

if TYPE_CHECKING:
    import pandas as pd


def write_point(
    trainer: Trainer,
    index: int,
    task: Task,
    problem: Problem,
    settings: Settings,
    budget: int,
    seconds: float,
    provenance: dict[str, Any],
) -> None:
    """Measure one model and write its files, point.json last, because it makes the others valid.

    Parameters
    ----------
    trainer : Trainer
        The finished training.
    index : int
        The number of the model in the ensemble.
    task : Task
        The point that the model was trained for.
    problem : Problem
    settings : Settings
        Those of the sweep; the trainer has `budget` times their samples.
    budget : int
        How many times `settings.samples` the model was trained with.
    seconds : float
        The share of the model in the time of the training.
    provenance : dict
        What computed the point, from which data and code.
    """
    import pandas as pd

    start = time.monotonic()
    model, rows = trainer.model.member(index), problem.rows
    measure = measure_model if settings.hierarchy is None else measure_hierarchy
    numbers = measure(model, rows, task.member, problem.held_out, reconstruction=problem.reconstruction)
    if settings.hierarchy is None:
        numbers |= residual_numbers(model, rows, task.member, numbers["kl_per_dim"], problem.reconstruction)
    identity = asdict(task.member)
    metadata = {**identity, "config_digest": task.digest}
    family = None if settings.likelihood == GAUSSIAN else (settings.likelihood, problem.reconstruction)
    path = task.folder / "weights.safetensors"
    save_model(path, trainer.model, index, rows.mean, metadata, family, rows.conditioning)
    history = pd.DataFrame(np.stack(trainer.history)[:, index], columns=list(HISTORY_COLUMNS))
    write_table(task.folder / "history.csv", history.astype({"step": int, "samples": int}))
    timing = {
        "train_seconds": seconds,
        "measure_seconds": time.monotonic() - start,
        "models_in_ensemble": len(trainer.members),
    }
    write_json(task.folder / "timing.json", timing)
    convergence = _convergence(history, numbers, trainer.settings)
    point = {
        **identity,
        **numbers,
        **({} if rows.conditioning is None else {"encoder_sees_condition": rows.conditioning.encoder_sees}),
        "samples": trainer.settings.n_steps * trainer.settings.batch,
        "extended": budget,
        "converged": is_converged(convergence),
        "convergence": convergence,
        **{key: file_sha256(task.folder / name) for name, key in POINT_CHECKSUMS.items()},
        "settings": settings.model_dump(),
        "config_digest": task.digest,
        "provenance": provenance,
    }
    write_json(task.folder / "point.json", point)


def _convergence(history: pd.DataFrame, numbers: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """Return the evidence for convergence. Whoever reads the point judges it by the thresholds of that day."""
    second_moment = _second_moments(numbers, settings)
    columns = (history[name].to_numpy(float) for name in ("samples", "kl", "elbo"))
    constant_from = 0.0 if settings.schedule == "scratch" else settings.anneal_fraction
    return assess_convergence(*columns, constant_from, second_moment)


def _second_moments(numbers: dict[str, Any], settings: Settings) -> np.ndarray:
    """Return what is 1 at every stationary point: the second moments of the latents.

    Those of a level 1 with a prior p(z1 | z2) are the squared deviations from its mean, if the posterior variance is
    learned.
    """
    latents = numbers if settings.hierarchy is None else numbers["top"]
    second = latents["mean_variance"] + latents["latent_mean"] ** 2 + latents["latent_variance"]
    if settings.hierarchy is None or settings.hierarchy.fixed_variance is not None:
        return second
    return np.concatenate([second, numbers["prior_residual"]])
