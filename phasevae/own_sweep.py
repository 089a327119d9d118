"""A sweep in Python: data set, plan, training, tables, fit and figures of the workflow as one function."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from phasevae.artifacts.files import json_sha256
from phasevae.config import completed_settings
from phasevae.datasets.base import Dataset
from phasevae.datasets.collected import collect_dataset
from phasevae.datasets.registry import CONDITION_OPTIONS
from phasevae.datasets.sample_shape import sample_shape
from phasevae.datasets.store import is_saved, load_dataset, save_dataset, saved_digest
from phasevae.errors import InputError
from phasevae.prediction.conditional import ConditionalPrediction
from phasevae.prediction.libraries import find_loss
from phasevae.prediction.losses import LEARNED, LOSS_NAMES, PER_FEATURE, Loss, no_such_loss
from phasevae.prediction.predict import Prediction, predict
from phasevae.prediction.score_spectrum import spectrum_of_likelihood
from phasevae.provenance.stages import provenance_record
from phasevae.spectrum.measure import spectrum_of
from phasevae.spectrum.spectrum import Spectrum
from phasevae.spectrum.spectrum_files import write_spectrum
from phasevae.sweep_result import SweepResult, write_tables
from phasevae.sweeps.config_keys import DataSection, SweepSection
from phasevae.sweeps.network_file import NetworkFile, NetworkSpec, network_of
from phasevae.sweeps.plan import betas_top, check_number, make_plan, write_plan
from phasevae.sweeps.points import Source, Task, make_tasks
from phasevae.sweeps.settings import Settings, grid_keys, training_keys
from phasevae.sweeps.weights import check_range, checked_weights, default_weights

READ_OPTIONS = (
    *("key", "size", "grey", "standardize", "skip_damaged", "drop", "header"),
    *CONDITION_OPTIONS,
)

_ARGUMENTS = {"network": "it as build", "likelihood": "loss=", "likelihood_options": "loss= and loss_options="}
"""Keys of the configuration that are arguments of `sweep` under another name, and how to give them."""


def sweep(
    build: Callable[..., Any] | Path | str | None,
    data: Any,
    loss: str = "gaussian",
    *,
    n_latent: int,
    weights: Sequence[float] | None = None,
    seeds: Sequence[int] = (0,),
    loss_options: Mapping[str, Any] | None = None,
    folder: Path | str | None = None,
    device: str = "auto",
    threads: int | None = None,
    data_memory_mb: int | None = None,
    progress: bool = True,
    **settings: Any,
) -> SweepResult:
    """Train and measure VAEs over a range of weights of the KL divergence.

    Parameters
    ----------
    build : callable, Path, str or None
        The networks: a function ``build(input_shape, n_latent)`` that returns (encoder, decoder), two PyTorch modules,
        or ``FILE:NAME`` for such a function of a Python file (docs/guide/own_networks.md). None stands for the
        package's own, of the widths `hidden`.
    data : samples [N, ...], or a path
        Anything that `phasevae.predict` reads, but no spectrum.
    loss : str
        ``gaussian``: half the squared error plus the weight times KL, so that a weight is a decoder variance in squared
        units of the data. Or another name in `phasevae.prediction.losses.LOSS_NAMES` whose variance is not learned;
        then a weight is the factor of KL as that loss is written.
    n_latent : int
        Number of latents.
    weights : sequence of float, optional
        By default about the predicted thresholds; see `phasevae.sweeps.weights.default_weights`.
    seeds : sequence of int
        A model for each weight and seed.
    loss_options : mapping, optional
        Options of the likelihood, as in `phasevae.predict`.
    folder : Path or str, optional
        Where data, points and tables are kept, in the layout of the workflow. Points that are there already and have
        the same data, settings and code are not trained again, and an interrupted training continues. By default a
        temporary folder.
    device : str
        auto, cpu, cuda or cuda:N.
    threads : int, optional
        CPU threads; all cores by default.
    data_memory_mb : int, optional
        Memory for the samples in MiB; larger data stay in their file.
    progress : bool
        Whether to show the progress on standard error.
    **settings
        How the data are read (`standardize`, `condition`, ... as in `phasevae.predict`), and keys of networks and
        training with the defaults of the configuration: `hidden`, `samples`, `batch`, `learning_rate`, `schedule`,
        `extend_unconverged`, `hierarchy`, ... (docs/reference/config.md).

    Returns
    -------
    SweepResult
        Tables, spectrum, fit and figures.

    Raises
    ------
    InputError
        For data, a loss or settings that cannot be used, and if a training diverges.
    KeyboardInterrupt
        After SIGINT or SIGTERM, once the checkpoint is written.
    """
    file = None if build is None else network_of(build)
    chosen_loss = _checked_loss(loss, loss_options)
    read = {key: settings.pop(key) for key in READ_OPTIONS if key in settings}
    keys = _checked_keys({"n_latent": n_latent, "seeds": seeds, "n_buckets": 1}, settings)
    weights = None if weights is None else checked_weights(weights)
    place = None if folder is not None else _TemporaryFolder()
    home = Path(folder) if place is None else place.path
    dataset = _saved(collect_dataset(data, **read), home)
    prediction = _predicted(dataset, n_latent, loss, loss_options)
    if weights is None:
        weights = default_weights([threshold.kl_weight for threshold in prediction.thresholds])
    unit = chosen_loss.effective_variance(1.0, dataset.x.shape[1], n_latent)
    completed = _completed(keys, chosen_loss, weights, unit)
    spectrum = _saved_spectrum(dataset, chosen_loss, home)
    chosen = _settings(completed, file, dataset)
    tasks = _planned(completed, chosen, home)
    job = {"device": device, "threads": threads, "data_memory_mb": data_memory_mb, "progress": progress}
    _train(tasks, dataset, chosen, home, **job)
    return SweepResult(
        **write_tables(tasks, home),
        spectrum=spectrum,
        prediction=prediction,
        n_latent=n_latent,
        weights=weights,
        unit=unit,
        folder=home,
        tasks=tasks,
        place=place,
        build=None if file is None else build,
    )


class _TemporaryFolder:
    """A folder that is removed together with this object. A `tempfile.TemporaryDirectory` warns when that happens."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="phasevae-"))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


def _checked_loss(name: str, options: Mapping[str, Any] | None) -> Loss:
    if callable(name):
        raise InputError("loss: a function, must be the name of a loss; phasevae.predict takes functions")
    if isinstance(name, str) and name not in LOSS_NAMES:
        # Only what a sweep takes is suggested.
        raise no_such_loss(name, [each for each in LOSS_NAMES if not _learns_variance(find_loss(each))])
    loss = find_loss(name, None, options)
    if _learns_variance(loss):
        raise InputError(f"loss: {name}, has a learned variance; must be a loss whose only weight is that of KL")
    return loss


def _learns_variance(loss: Loss) -> bool:
    return loss.decoder in (LEARNED, PER_FEATURE)


def _checked_keys(own: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return keys as a configuration has them. Raises InputError for mistakes, before the data are read."""
    for key in settings:
        if key in _ARGUMENTS:
            raise InputError(f"{key}: is no setting of phasevae.sweep; give {_ARGUMENTS[key]}")
        if key in DataSection.model_fields or key in SweepSection.model_fields:
            raise InputError(f"{key}: is no setting of phasevae.sweep; weights and seeds make the grid")
    keys = {key: _plain(value) for key, value in {**own, **settings}.items()}
    completed_settings(keys)
    return keys


def _plain(value: Any) -> Any:
    """Return a value as a YAML file would give it."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, Sequence) and not isinstance(value, str) else value


def _completed(keys: Mapping[str, Any], loss: Loss, weights: Sequence[float], unit: float) -> dict[str, Any]:
    """Return all settings, with the keys of the configuration that say the same as a loss and its weights."""
    check_range(weights, unit)
    values = [unit * weight for weight in weights]
    grid: dict[str, Any] = {"sigma2": values}
    if loss.family:
        grid = {"likelihood": loss.family, "likelihood_options": dict(loss.options), "beta": values}
    checked = completed_settings(keys)
    n_top = len(betas_top(checked))
    others = "seeds and beta_top" if n_top > 1 else "seeds"
    check_number("weights", len(values) * len(checked["seeds"]) * n_top, others)
    return completed_settings({**keys, **grid}, needs_grid=True)


def _saved(dataset: Dataset, folder: Path) -> Dataset:
    """Write a data set to a folder, unless it is there already."""
    if is_saved(folder) and saved_digest(folder) == dataset.digest and (folder / "data.npy").is_file():
        return load_dataset(folder, verify=True)
    return save_dataset(dataset, folder)


def _saved_spectrum(dataset: Dataset, loss: Loss, folder: Path) -> Spectrum:
    """Write spectrum.json: of the data, or of the scores of the likelihood."""
    spectrum = spectrum_of_likelihood(dataset, loss.family, dict(loss.options)) if loss.family else spectrum_of(dataset)
    path = folder / "spectrum.json"
    write_spectrum(path, spectrum, provenance_record(path, "spectrum", [folder / "data.json"]))
    return spectrum


def _predicted(
    dataset: Dataset, n_latent: int, loss: str, options: Mapping[str, Any] | None
) -> Prediction | ConditionalPrediction:
    return predict(dataset, n_latent, loss=loss, loss_options=options)


def _settings(completed: Mapping[str, Any], file: NetworkFile | None, dataset: Dataset) -> Settings:
    spec = None if file is None else NetworkSpec.of(file, sample_shape(dataset))
    return Settings.from_keys(training_keys(completed) | {"network": spec})


def _planned(completed: Mapping[str, Any], chosen: Settings, folder: Path) -> list[Task]:
    """Write plan.csv and return the tasks of its points."""
    points = make_plan(completed)
    path = folder / "plan.csv"
    write_plan(path, points, provenance_record(path, "plan", config_digest=json_sha256(grid_keys(completed))))
    return make_tasks(points, folder, chosen, Source.of(folder), completed["extend_unconverged"])


def _train(
    tasks: Sequence[Task],
    dataset: Dataset,
    settings: Settings,
    folder: Path,
    device: str,
    threads: int | None,
    data_memory_mb: int | None,
    progress: bool,
) -> None:
    # These import PyTorch, which takes seconds: mistakes in the arguments are reported before.
    from phasevae.cli.progress import training_progress
    from phasevae.training.device import choose_device
    from phasevae.training.job import Job, run_job
    from phasevae.training.signals import InterruptedTrainingError

    job = Job(
        tasks=tasks,
        x=dataset.x,
        condition=dataset.condition,
        data_sha256=dataset.digest,
        settings=settings,
        checkpoint=folder / "checkpoints" / "bucket=0.safetensors",
        device=choose_device(device),
        data_memory=None if data_memory_mb is None else data_memory_mb * 2**20,
    )
    with _threads(threads):
        try:
            if progress:
                with training_progress() as show:
                    run_job(job, show)
            else:
                run_job(job)
        except InterruptedTrainingError as error:
            raise KeyboardInterrupt(str(error)) from None


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """Compute with this many threads; leave torch's own number as it was."""
    import torch

    from phasevae.training.device import use_threads

    before = torch.get_num_threads()
    use_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
