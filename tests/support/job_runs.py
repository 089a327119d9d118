"""A training job of seconds, for the tests of what a job does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from small import recipe

from phasevae.artifacts.files import canonical_json
from phasevae.datasets.base import Dataset
from phasevae.datasets.store import save_dataset
from phasevae.sweeps.plan import make_plan, write_plan
from phasevae.sweeps.points import Source, make_tasks
from phasevae.sweeps.settings import Settings, training_keys
from phasevae.training.job import Job

SETTINGS = recipe(hidden=(8,), samples=1600.0)
GRID = {"sigma2": [0.5, 0.8, 1.5], "beta": 1.0, "seeds": [0], "n_buckets": 1}


def rows() -> np.ndarray:
    drawn = np.random.default_rng(0).normal(size=(300, 4)) * np.sqrt([1.0, 0.7, 0.3, 0.2])
    return drawn.astype(np.float32)


def job_in(
    folder: Path,
    sigma2: list[float] | None = None,
    checkpoint_seconds: float = 1e9,
    x: np.ndarray | None = None,
    settings: Settings = SETTINGS,
) -> Job:
    points = make_plan({**GRID, "sigma2": sigma2 or GRID["sigma2"]})
    return Job(
        tasks=make_tasks(points, folder, settings, Source("0" * 64, None)),
        x=rows() if x is None else x,
        data_sha256="0" * 64,
        settings=settings,
        checkpoint=folder / "checkpoints" / "bucket=0.safetensors",
        device=torch.device("cpu"),
        checkpoint_seconds=checkpoint_seconds,
    )


def files_of(job: Job) -> dict[Path, bytes]:
    return {
        task.folder / name: (task.folder / name).read_bytes()
        for task in job.tasks
        for name in ("point.json", "weights.safetensors", "history.csv")
    }


def relative(job: Job, files: dict[Path, bytes]) -> dict[str, bytes]:
    root = job.checkpoint.parent.parent
    return {str(path.relative_to(root)): content for path, content in files.items()}


def saved_job(folder: Path) -> list[str]:
    """Arguments of `phasevae train` for the job of these tests, its data set saved in `folder`."""
    x = rows()
    unit = {"mean": np.zeros(4), "scale": np.ones(4), "preprocessing": {}, "constant_features": [], "provenance": {}}
    save_dataset(Dataset(name="test", x=x, **unit), folder)
    plan = make_plan(GRID)
    write_plan(folder / "plan.csv", plan)
    keys = training_keys({**SETTINGS.model_dump(), **GRID})
    settings = canonical_json(keys)
    return [
        "train",
        str(folder),
        "--plan",
        str(folder / "plan.csv"),
        "--settings",
        settings,
        "--threads",
        "1",
        "-o",
        str(folder),
    ]
