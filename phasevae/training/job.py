"""One training job: the points of a bucket, trained as one ensemble, measured and written.

A point is valid when its point.json carries the digest of what is asked for; a job keeps valid points and
trains the rest. What it was doing when it was interrupted stands in its checkpoint.
"""

from __future__ import annotations

import gc
import math
import os
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from phasevae.artifacts.environment import environment
from phasevae.artifacts.files import file_sha256, remove_partial, write_json, write_table
from phasevae.errors import InputError
from phasevae.kernels.elbo import backend
from phasevae.measurement.measure import column_means, measure_model
from phasevae.model import save_model
from phasevae.sweep.convergence import assess_convergence, is_converged
from phasevae.sweep.digest import training_code_hash
from phasevae.sweep.points import (
    POINT_CHECKSUMS,
    POINT_FILES,
    OutdatedPointError,
    Task,
    budgets,
    next_budget,
    read_valid,
)
from phasevae.sweep.settings import Settings
from phasevae.training import checkpoints
from phasevae.training.checkpoints import Ensemble
from phasevae.training.row_order import split_rows
from phasevae.training.signals import Stop, stop_signals
from phasevae.training.trainer import HISTORY_COLUMNS, Trainer


@dataclass(frozen=True)
class Job:
    """A bucket's tasks with the data and settings they share.

    x: float32 [N, D] in memory or memory-mapped; checkpoint: where the running ensemble is kept.
    """

    tasks: Sequence[Task]
    x: np.ndarray
    data_sha256: str
    settings: Settings
    checkpoint: Path
    device: torch.device
    checkpoint_seconds: float = 60.0


def run_job(
    job: Job,
    report: Callable[[Trainer], None] = lambda trainer: None,
    tell: Callable[[str], None] = lambda line: None,
) -> list[Path]:
    """Make every point of the job valid; return the folders of those that were trained now.

    `report` is called while training, about a hundred times an ensemble; `tell` with a line about each file that was
    found damaged, and when a training continues. Raises InterruptedTrainingError after SIGTERM or SIGINT, with the
    checkpoint written, InputError when training diverges, and OSError that names the file that cannot be written.
    """
    _clear(job, tell)
    pending = _pending(job)
    if not pending:
        job.checkpoint.unlink(missing_ok=True)
        return []
    trained = [task for task in job.tasks if task in pending]
    x = torch.from_numpy(np.array(job.x, dtype=np.float32)).to(job.device)
    mean = column_means(x)
    with stop_signals() as stop:
        while pending:
            for ensemble in _ensembles(job, pending, tell):
                _complete(job, ensemble, x, mean, stop, report)
            pending = _pending(job)
    return [task.folder for task in trained]


def _clear(job: Job, tell: Callable[[str], None]) -> None:
    """Tell of points that are there and damaged; remove what writing was cut off in."""
    remove_partial(job.checkpoint)
    for task in job.tasks:
        try:
            read_valid(task)
        except OutdatedPointError:
            continue
        except InputError as error:
            if (task.folder / "point.json").is_file():
                tell(f"{error}; the point is trained again")
            for name in (*POINT_FILES, "timing.json"):
                remove_partial(task.folder / name)


def _pending(job: Job) -> dict[Task, int]:
    """The points to train, each with the budget it is to have next."""
    return {task: factor for task in job.tasks if (factor := next_budget(task)) is not None}


def _ensembles(job: Job, pending: dict[Task, int], tell: Callable[[str], None]) -> Iterator[Ensemble]:
    """The ensembles to train: first the checkpoint's, if it holds a pending point, then one for each budget.

    The checkpoint's ensemble continues whole, with points that were already written: so a resumed training
    runs the same operations as an undisturbed one. A point in it that is lost or cut off needs no smaller budget first:
    it has been through those. A checkpoint of a budget that is no longer allowed is left.
    """
    found = checkpoints.read(job.checkpoint, job.tasks, tell)
    allowed = found is not None and all(found.factor in budgets(task.extend) for task in found.tasks)
    if allowed and any(pending.get(task, math.inf) <= found.factor for task in found.tasks):
        if found.arrays["progress"][0]:
            tell(f"{len(found.tasks)} models continue at step {found.arrays['progress'][0]}")
        yield found
        pending = {task: factor for task, factor in pending.items() if task not in found.tasks}
    for factor in sorted(set(pending.values())):
        yield Ensemble([task for task in pending if pending[task] == factor], factor)


def _complete(
    job: Job,
    ensemble: Ensemble,
    x: torch.Tensor,
    mean: torch.Tensor,
    stop: Stop,
    report: Callable[[Trainer], None],
) -> None:
    """Train an ensemble and write its pending points; in halves, one after the other, where it needs too much memory.

    A model's numbers are the same in any ensemble. Raises InputError when even one model alone is too large.
    """
    models = len(ensemble.tasks)
    try:
        return _train_and_write(job, ensemble, x, mean, stop, report)
    except (RuntimeError, MemoryError) as error:
        if not _is_out_of_memory(error):
            raise
        if models == 1:
            raise InputError(
                f"out of memory with a single model and batch: {job.settings.batch}; choose a smaller batch or network"
            ) from None
    # Only now does no exception refer to the trainer and its memory.
    gc.collect()
    if x.is_cuda:
        torch.cuda.empty_cache()
    warnings.warn(f"out of memory with {models} models side by side; training them in halves", stacklevel=2)
    for half in ensemble.halves():
        _complete(job, half, x, mean, stop, report)


def _train_and_write(
    job: Job,
    ensemble: Ensemble,
    x: torch.Tensor,
    mean: torch.Tensor,
    stop: Stop,
    report: Callable[[Trainer], None],
) -> None:
    trainer = Trainer(x, [task.member for task in ensemble.tasks], job.settings.extended(ensemble.factor))
    if ensemble.arrays is not None:
        trainer.restore(ensemble.arrays)
    seconds = _train(job, trainer, ensemble, stop, report)
    held_out = split_rows(x.shape[0], job.settings.holdout)[1]
    origin = {
        **environment(),
        **describe_machine(job.device),
        "data_sha256": job.data_sha256,
        "code_hash": training_code_hash(),
    }
    with stop.at_once():
        for index, task in enumerate(ensemble.tasks):
            budget = next_budget(task)
            if budget is not None and budget <= ensemble.factor:
                _write_point(job, trainer, index, task, ensemble.factor, x, mean, held_out, seconds, origin)


def _is_out_of_memory(error: Exception) -> bool:
    # On the CPU torch raises a plain RuntimeError.
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _train(job: Job, trainer: Trainer, ensemble: Ensemble, stop: Stop, report: Callable[[Trainer], None]) -> float:
    """Train to the end with a checkpoint every `checkpoint_seconds` and one at the end; the seconds it took, as the
    share of each model, with those before an interruption.

    There is one at the beginning as well: a disk that is full or read-only shows before any work is done.
    """
    start = saved = time.monotonic()

    def spent() -> float:
        return ensemble.seconds + (time.monotonic() - start) / len(ensemble.tasks)

    if trainer.step == 0:
        checkpoints.write(job.checkpoint, ensemble, trainer)

    def due() -> bool:
        return stop.signal_number is not None or time.monotonic() - saved > job.checkpoint_seconds

    while not trainer.run(on_record=report, should_stop=due):
        checkpoints.write(job.checkpoint, ensemble, trainer, spent())
        stop.obey()
        saved = time.monotonic()
    seconds = spent()
    checkpoints.write(job.checkpoint, ensemble, trainer, seconds)
    return seconds


def _write_point(
    job: Job,
    trainer: Trainer,
    index: int,
    task: Task,
    factor: int,
    x: torch.Tensor,
    mean: torch.Tensor,
    held_out: torch.Tensor,
    seconds: float,
    origin: dict[str, Any],
) -> None:
    """Measure one model and write its files, point.json last: it is what makes the others valid.

    held_out: numbers of the rows that it was not shown; seconds: what its training took; origin: its provenance.
    """
    start = time.monotonic()
    numbers = measure_model(trainer.model.member(index), x, mean, task.member, held_out)
    identity = asdict(task.member)
    save_model(task.folder / "weights.safetensors", trainer.model, index, {**identity, "config_digest": task.digest})
    history = pd.DataFrame(np.stack(trainer.history)[:, index], columns=list(HISTORY_COLUMNS))
    write_table(task.folder / "history.csv", history.astype({"step": int, "samples": int}))
    timing = {
        "train_seconds": seconds,
        "measure_seconds": time.monotonic() - start,
        "models_in_ensemble": len(trainer.members),
    }
    write_json(task.folder / "timing.json", timing)
    found = _convergence(history, numbers, trainer.settings)
    point = {
        **identity,
        **numbers,
        "samples": trainer.settings.n_steps * trainer.settings.batch,
        "extended": factor,
        "converged": is_converged(found),
        "convergence": found,
        **{key: file_sha256(task.folder / name) for name, key in POINT_CHECKSUMS.items()},
        "settings": asdict(job.settings),
        "config_digest": task.digest,
        "provenance": origin,
    }
    write_json(task.folder / "point.json", point)


def _convergence(history: pd.DataFrame, numbers: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """What tells whether the training came to rest; who collects the point asks for the verdict anew."""
    second_moment = numbers["mean_variance"] + numbers["latent_mean"] ** 2 + numbers["latent_variance"]
    columns = (history[name].to_numpy(float) for name in ("samples", "kl", "elbo"))
    constant_from = 0.0 if settings.schedule == "scratch" else settings.anneal_fraction
    return assess_convergence(*columns, constant_from, second_moment)


def describe_machine(device: torch.device) -> dict[str, Any]:
    """{torch, cuda, backend, device, threads}: what computes on a device; `cuda` is torch's version of it."""
    return {
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "backend": backend(device.type),
        "device": _device_name(device),
        "threads": torch.get_num_threads(),
    }


def choose_device(name: str) -> torch.device:
    """The device of a name: auto (CUDA where there is one), cpu, cuda or cuda:N.

    Raises InputError when the name is none of these or the device is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        if device.type not in ("cpu", "cuda"):
            raise RuntimeError(f"phasevae does not train on {device.type}")
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"--device: {name!r} cannot be used ({reason}); must be auto, cpu, cuda or cuda:N") from None
    return device


def use_threads(threads: int | None) -> None:
    """Compute with this many CPU threads; with all cores the process may use when it is None."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    torch.set_num_threads(threads or available)


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
