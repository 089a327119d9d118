"""One training job: the points of a bucket, trained as one ensemble, measured and written.

A point is valid when its point.json carries the digest of what is asked for; a job keeps valid points and
trains the rest. What it was doing when it was interrupted stands in its checkpoint.
"""

from __future__ import annotations

import gc
import os
import signal
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from phasevae import artifacts, checkpoints, convergence, elbo, measure, model, provenance
from phasevae.checkpoints import Ensemble
from phasevae.errors import InputError
from phasevae.points import Settings, Task, next_budget
from phasevae.training import HISTORY_COLUMNS, Trainer, split_rows


class InterruptedTrainingError(Exception):
    """A signal asked the job to stop; its checkpoint is written. `signal_number` tells which."""

    def __init__(self, signal_number: int):
        super().__init__(f"stopped by {signal.Signals(signal_number).name}; run the same command again to continue")
        self.signal_number = signal_number


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


def run(job: Job, report: Callable[[Trainer], None] = lambda trainer: None) -> list[Path]:
    """Make every point of the job valid; return the folders of those that were trained now.

    `report` is called while training, about a hundred times an ensemble. Raises InterruptedTrainingError
    after SIGTERM or SIGINT, with the checkpoint written, and InputError when training diverges.
    """
    pending = _pending(job)
    if not pending:
        job.checkpoint.unlink(missing_ok=True)
        return []
    trained = [task for task in job.tasks if task in pending]
    x = torch.from_numpy(np.array(job.x, dtype=np.float32)).to(job.device)
    mean = measure.column_means(x)
    with _stop_signals() as stopped:
        while pending:
            for ensemble in _ensembles(job, pending):
                _complete(job, ensemble, x, mean, stopped, report)
            pending = _pending(job)
    return [task.folder for task in trained]


def _pending(job: Job) -> dict[Task, int]:
    """The points to train, each with the budget it is to have next."""
    return {task: factor for task in job.tasks if (factor := next_budget(task)) is not None}


def _ensembles(job: Job, pending: dict[Task, int]) -> Iterator[Ensemble]:
    """The ensembles to train: first the checkpoint's, if it holds a pending point, then one for each budget.

    The checkpoint's ensemble continues whole, with points that were already written: so a resumed training
    runs the same operations as an undisturbed one.
    """
    found = checkpoints.read(job.checkpoint, job.tasks)
    if found is not None and any(pending.get(task) == found.factor for task in found.tasks):
        yield found
        pending = {task: factor for task, factor in pending.items() if task not in found.tasks}
    for factor in sorted(set(pending.values())):
        yield Ensemble([task for task in pending if pending[task] == factor], factor)


def _complete(
    job: Job,
    ensemble: Ensemble,
    x: torch.Tensor,
    mean: torch.Tensor,
    stopped: list[int],
    report: Callable[[Trainer], None],
) -> None:
    """Train an ensemble and write its pending points; in halves, one after the other, where it needs too much memory.

    A model's numbers are the same in any ensemble. Raises InputError when even one model alone is too large.
    """
    models = len(ensemble.tasks)
    try:
        return _train_and_write(job, ensemble, x, mean, stopped, report)
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
        _complete(job, half, x, mean, stopped, report)


def _train_and_write(
    job: Job,
    ensemble: Ensemble,
    x: torch.Tensor,
    mean: torch.Tensor,
    stopped: list[int],
    report: Callable[[Trainer], None],
) -> None:
    trainer = Trainer(x, [task.member for task in ensemble.tasks], job.settings.extended(ensemble.factor))
    if ensemble.arrays is not None:
        trainer.restore(ensemble.arrays)
    seconds = _train(job, trainer, ensemble, stopped, report)
    for index, task in enumerate(ensemble.tasks):
        if next_budget(task) == ensemble.factor:
            _write_point(job, trainer, index, task, ensemble.factor, x, mean, seconds)
        _stop_if(stopped)


def _is_out_of_memory(error: Exception) -> bool:
    # On the CPU torch raises a plain RuntimeError.
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _train(
    job: Job, trainer: Trainer, ensemble: Ensemble, stopped: list[int], report: Callable[[Trainer], None]
) -> float:
    """Train to the end with a checkpoint every `checkpoint_seconds` and one at the end; seconds it took."""
    start = saved = time.monotonic()

    def due() -> bool:
        return bool(stopped) or time.monotonic() - saved > job.checkpoint_seconds

    while not trainer.run(on_record=report, should_stop=due):
        checkpoints.write(job.checkpoint, ensemble, trainer)
        _stop_if(stopped)
        saved = time.monotonic()
    checkpoints.write(job.checkpoint, ensemble, trainer)
    return time.monotonic() - start


def _write_point(
    job: Job,
    trainer: Trainer,
    index: int,
    task: Task,
    factor: int,
    x: torch.Tensor,
    mean: torch.Tensor,
    seconds: float,
) -> None:
    """Measure one model and write its files, point.json last: it is what makes the others valid."""
    start = time.monotonic()
    held_out = split_rows(x.shape[0], job.settings.holdout)[1]
    numbers = measure.measure(trainer.model.member(index), x, mean, task.member, held_out)
    identity = asdict(task.member)
    model.save(task.folder / "weights.safetensors", trainer.model, index, {**identity, "config_digest": task.digest})
    history = pd.DataFrame(np.stack(trainer.history)[:, index], columns=list(HISTORY_COLUMNS))
    artifacts.write_table(task.folder / "history.csv", history.astype({"step": int, "samples": int}))
    timing = {
        "train_seconds": seconds / len(trainer.members),
        "measure_seconds": time.monotonic() - start,
        "models_in_ensemble": len(trainer.members),
    }
    artifacts.write_json(task.folder / "timing.json", timing)
    point = {
        **identity,
        **numbers,
        "samples": trainer.settings.n_steps * trainer.settings.batch,
        "extended": factor,
        "convergence": _convergence(history, numbers, trainer.settings),
        "weights_sha256": artifacts.file_sha256(task.folder / "weights.safetensors"),
        "history_sha256": artifacts.file_sha256(task.folder / "history.csv"),
        "settings": asdict(job.settings),
        "config_digest": task.digest,
        "provenance": {
            **provenance.environment(),
            **machine(job.device),
            "data_sha256": job.data_sha256,
            "code_hash": provenance.training_code_hash(),
        },
    }
    artifacts.write_json(task.folder / "point.json", point)


def _convergence(history: pd.DataFrame, numbers: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """What tells whether the training came to rest; the verdict is left to those who collect it."""
    second_moment = numbers["mean_variance"] + numbers["latent_mean"] ** 2 + numbers["latent_variance"]
    columns = (history[name].to_numpy(float) for name in ("samples", "kl", "elbo"))
    constant_from = 0.0 if settings.schedule == "scratch" else settings.anneal_fraction
    return convergence.assess(*columns, constant_from, second_moment)


def machine(device: torch.device) -> dict[str, Any]:
    """{torch, cuda, backend, device, threads}: what computes on a device; `cuda` is torch's version of it."""
    return {
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "backend": elbo.backend(device.type),
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


def _stop_if(stopped: list[int]) -> None:
    if stopped:
        raise InterruptedTrainingError(stopped[0])


@contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """Collect SIGTERM and SIGINT in a list instead of dying of them."""
    stopped: list[int] = []
    previous = {
        number: signal.signal(number, lambda received, _: stopped.append(received))
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield stopped
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
