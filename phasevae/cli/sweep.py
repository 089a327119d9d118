"""Commands for the sweep: plan its points, train them, gather them into tables, and sweep upwards."""

from __future__ import annotations

import gc
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from phasevae.artifacts.files import json_sha256
from phasevae.artifacts.names import OWN
from phasevae.artifacts.tables import write_table
from phasevae.cli.arguments import saved_folder
from phasevae.cli.options import DataMemory, NetworkChoice, PlanFile, SettingsJson, SpectrumFile, Threads, in_bytes
from phasevae.cli.settings import given_settings, setting, sweep_settings, training_settings
from phasevae.config import completed_settings
from phasevae.datasets.registry import data_shape
from phasevae.errors import InputError
from phasevae.provenance.stages import provenance_record
from phasevae.wording import counted

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from phasevae.kernels.family import Family
    from phasevae.sweeps.settings import Settings


def plan(
    output: Annotated[Path, typer.Option("--output", "-o", help="plan.csv to write.")],
    config: Annotated[list[Path] | None, typer.Option(help="Config file; a later one overrides.")] = None,
    dataset: Annotated[str | None, typer.Option(help="Which of the config's data sets.")] = None,
    settings: Annotated[str | None, typer.Option(help="The data set's settings as JSON instead.")] = None,
) -> None:
    """List the points of a sweep with their buckets, and estimate the time and memory of their training.

    Example: phasevae plan --config config.yaml --dataset gaussian -o plan.csv
    """
    from phasevae.sweeps.plan import make_plan, write_plan
    from phasevae.sweeps.resources import estimate_cost
    from phasevae.sweeps.settings import grid_keys

    chosen = sweep_settings("plan", config, dataset, settings)
    points = make_plan(chosen)
    grid = json_sha256(grid_keys(chosen))
    write_plan(output, points, provenance_record(output, "plan", config_digest=grid))
    line = f"{output}: {counted(len(points), 'point')} in {counted(len({point.bucket for point in points}), 'bucket')}"
    if shape := data_shape(chosen, output.parent):
        cost = estimate_cost(chosen, len(points), dimension=shape[1], n_samples=shape[0])
        line += (
            f"; {'roughly, for your own networks, ' * ('module' in chosen.get('network', {}))}"
            f"about {cost['seconds'] / 60:.1f} minutes of training on two cores, "
            f"{cost['memory_bytes'] / 2**20:.0f} MiB if trained at once"
        )
    print(line)


def train(
    context: typer.Context,
    data: Annotated[Path, typer.Argument(help="A folder of `phasevae dataset`.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the trained points.")],
    plan: PlanFile = None,
    bucket: Annotated[int | None, typer.Option(help="With --plan: train this bucket only.")] = None,
    spectrum: SpectrumFile = None,
    settings: SettingsJson = None,
    sigma2: setting("sigma2", words="Decoder variances; left out with a likelihood other than gaussian.") = None,
    beta: setting("beta") = None,
    beta_ratio: setting("beta_ratio") = None,
    seeds: setting("seeds") = None,
    likelihood: setting("likelihood") = None,
    likelihood_options: setting("likelihood_options") = None,
    n_latent: setting("n_latent", "--latent") = None,
    hidden: setting("hidden") = None,
    network: NetworkChoice = None,
    samples: setting("samples") = None,
    batch: setting("batch") = None,
    learning_rate: setting("learning_rate") = None,
    schedule: setting("schedule") = None,
    anneal_from: setting("anneal_from") = None,
    anneal_fraction: setting("anneal_fraction") = None,
    antithetic: setting("antithetic") = None,
    rao_blackwell_group: setting("rao_blackwell_group") = None,
    balanced_order: setting("balanced_order") = None,
    moment_matched_noise: setting("moment_matched_noise") = None,
    encoder_sees_condition: setting("encoder_sees_condition") = None,
    holdout: setting("holdout") = None,
    extend_unconverged: setting("extend_unconverged", "--extend") = None,
    device: Annotated[str, typer.Option(help="auto | cpu | cuda | cuda:N.")] = "auto",
    threads: Threads = None,
    checkpoint_seconds: Annotated[float, typer.Option(help="Seconds between checkpoints.")] = 60.0,
    data_memory_mb: DataMemory = None,
) -> None:
    """Train and measure VAEs as one ensemble. Valid points that are already there are kept.

    Example: phasevae train results/mine --sigma2 0.5,0.6 --seeds 0,1 --latent 4 --hidden 256,128 -o results/mine/points
    """
    from phasevae.datasets.store import load_dataset
    from phasevae.sweeps.plan import make_plan, read_plan
    from phasevae.sweeps.points import Source, make_tasks
    from phasevae.sweeps.settings import GAUSSIAN, GRID_KEYS

    data = saved_folder(data)
    keys = given_settings(context, settings)
    gaussian = keys.get("likelihood", GAUSSIAN) == GAUSSIAN
    listed = sigma2 is not None if gaussian else beta is not None or beta_ratio is not None
    if (plan is None) != listed:
        grid = "--sigma2 with a list of decoder variances" if gaussian else "--beta or --beta-ratio with a list"
        raise InputError(f"train: give either --plan plan.csv, or {grid}")
    for key in () if plan is None else GRID_KEYS:
        if context.params.get(key) is not None:
            option = f"--{key.replace('_', '-')}"
            raise InputError(f"{option}: {context.params[key]}, must be left out with --plan")
    if plan is None:
        if bucket is not None:
            raise InputError(f"--bucket: {bucket}, goes with --plan")
        planned = make_plan(completed_settings(keys | {"n_buckets": 1}, needs_grid=True))
        planned = [replace(point, path=point.path.removeprefix("points/")) for point in planned]
    else:
        planned = read_plan(plan)
        if bucket is not None:
            planned = [point for point in planned if point.bucket == bucket]
        if not planned:
            raise InputError(f"{plan}: has no point in bucket {bucket}")
    completed = completed_settings({key: value for key, value in keys.items() if key not in GRID_KEYS})
    source = Source.of(data, spectrum)
    chosen = training_settings(completed, data)
    tasks = make_tasks(planned, output, chosen, source, completed["extend_unconverged"])
    dataset = load_dataset(data, verify=True)
    # These import PyTorch, which takes seconds: mistakes in the arguments are reported before.
    from phasevae.cli.progress import training_progress
    from phasevae.training.device import choose_device, use_threads
    from phasevae.training.job import Job, run_job

    job = Job(
        tasks=tasks,
        x=dataset.x,
        condition=dataset.condition,
        data_sha256=source.data_sha256,
        settings=chosen,
        checkpoint=output / "checkpoints" / f"bucket={'all' if bucket is None else bucket}.safetensors",
        device=choose_device(device),
        checkpoint_seconds=checkpoint_seconds,
        data_memory=in_bytes(data_memory_mb),
        own_likelihood=own_term(chosen, dataset.x),
    )
    use_threads(threads)
    gc.freeze()  # no collection walks the objects of the imported libraries again: a third of the time of tiny networks
    with training_progress() as show:
        trained = run_job(job, show)
    print(f"{output}: {counted(len(trained), 'point')} trained, {len(planned) - len(trained)} kept")


def collect(
    context: typer.Context,
    output: Annotated[Path, typer.Option("--output", "-o", help="sweep.csv to write.")],
    folder: Annotated[Path | None, typer.Argument(metavar="POINTS", help="Folder of trained points.")] = None,
    plan: PlanFile = None,
    data: Annotated[Path | None, typer.Option(help="With --plan: the data set's folder.")] = None,
    spectrum: SpectrumFile = None,
    settings: SettingsJson = None,
    network: NetworkChoice = None,
    dimensions: Annotated[Path | None, typer.Option(help="dimensions.csv to write: one row per latent.")] = None,
    timing: Annotated[Path | None, typer.Option(help="timing.csv to write.")] = None,
    histories: Annotated[Path | None, typer.Option(help="histories.csv to write: the course of each training.")] = None,
) -> None:
    """Gather trained points into tables. A point that belongs to another plan is an error.

    Example: phasevae collect results/mine/points -o sweep.csv --dimensions dimensions.csv
    """
    from phasevae.measurement.tables import (
        dimensions_table,
        histories_table,
        provenance_of,
        read_folder,
        read_planned,
        sweep_table,
        timing_table,
    )
    from phasevae.sweeps.plan import read_plan
    from phasevae.sweeps.points import Source, make_tasks

    if (plan is None) == (folder is None):
        raise InputError("collect: give either a folder of points or --plan plan.csv")
    if plan is not None and settings is None:
        raise InputError("collect: --plan needs --settings, the training settings as JSON; or give the points' folder")
    if plan is None:
        points = read_folder(folder)
    else:
        home = plan.parent if data is None else saved_folder(data)
        source = Source.of(home, spectrum)
        chosen = training_settings(completed_settings(given_settings(context, settings)), home)
        tasks = make_tasks(read_plan(plan), plan.parent, chosen, source)
        points = read_planned(tasks)
    # All tables are made before the first is written, so that a damaged point leaves none of them.
    makers = {
        output: sweep_table,
        dimensions: dimensions_table,
        timing: timing_table,
        histories: histories_table,
    }
    tables = {path: make(points) for path, make in makers.items() if path is not None}
    of_points = provenance_of(points, output)
    for path, table in tables.items():
        origin = provenance_record(path, "collect", (plan, spectrum) if path == output else (output,))
        write_table(path, table, origin | (of_points if path == output else {}))
    print(f"{output}: {counted(len(points), 'point')}")


def hysteresis(
    context: typer.Context,
    data: Annotated[Path, typer.Argument(help="A folder of `phasevae dataset`.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="hysteresis.csv to write.")],
    hysteresis_ratio: Annotated[
        str,
        typer.Option(
            "--ratio", help="Decoder variances (or KL weights) over the largest eigenvalue; the lowest is active."
        ),
    ],
    spectrum: SpectrumFile = None,
    settings: SettingsJson = None,
    beta: setting("beta") = None,
    seeds: setting("seeds") = None,
    likelihood: setting("likelihood") = None,
    likelihood_options: setting("likelihood_options") = None,
    n_latent: setting("n_latent", "--latent") = None,
    hidden: setting("hidden") = None,
    network: NetworkChoice = None,
    samples: setting("samples") = None,
    batch: setting("batch") = None,
    learning_rate: setting("learning_rate") = None,
    device: Annotated[str, typer.Option(help="auto | cpu | cuda | cuda:N.")] = "auto",
    threads: Threads = None,
    data_memory_mb: DataMemory = None,
) -> None:
    """Sweep the decoder variance upwards from active models and compare with fresh ones: is the collapse abrupt?

    Example: phasevae hysteresis results/two --ratio 0.7,1,1.2,1.4,1.6 --latent 1 --samples 2e5 -o hysteresis.csv
    """
    from phasevae.cli.progress import training_progress
    from phasevae.datasets.store import load_dataset
    from phasevae.sweeps.points import Source
    from phasevae.sweeps.settings import GAUSSIAN
    from phasevae.training.device import choose_device, describe_machine, use_threads
    from phasevae.training.hysteresis import hysteresis_sweep

    data = saved_folder(data)
    checked = completed_settings(given_settings(context, settings))
    chosen = training_settings(checked, data)
    source = Source.of(data, spectrum)
    critical = source.reference(chosen, f"{data}: --ratio")
    on = choose_device(device)
    use_threads(threads)
    dataset = load_dataset(data, verify=True)
    x = dataset.x
    grid, own = [value * critical for value in checked["hysteresis_ratio"]], own_term(chosen, x)
    weight = checked["beta"] if chosen.likelihood == GAUSSIAN else 1.0
    gc.freeze()  # as in `train`
    with training_progress() as show:
        memory = in_bytes(data_memory_mb)
        table = hysteresis_sweep(x, chosen, grid, checked["seeds"], weight, on, show, own, memory, dataset.condition)
    record = provenance_record(
        output,
        "hysteresis",
        (data / "data.json", spectrum),
        **describe_machine(on),
        config_digest=json_sha256(chosen.model_dump()),
        data_sha256=source.data_sha256,
        seeds=checked["seeds"],
    )
    if chosen.likelihood != GAUSSIAN:
        table = table.assign(likelihood=chosen.likelihood)
    if dataset.condition is not None:
        table = table.assign(encoder_sees_condition=chosen.encoder_sees_condition)
    write_table(output, table.assign(data_sha256=source.data_sha256), record)
    print(f"{output}: {counted(len(table), 'model')} on two branches")


def own_term(settings: Settings, x: NDArray) -> Family | None:
    """The reconstruction term of a likelihood of the user's own, fitted to rows x [N, D]; None for the others."""
    if not settings.likelihood.startswith(OWN):
        return None
    from phasevae.prediction.own_likelihood import own_likelihood

    return own_likelihood(settings.likelihood, settings.likelihood_options, x).term
