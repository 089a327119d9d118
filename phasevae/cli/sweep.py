"""Verbs for the sweep: plan its points, train them, gather them into tables."""

from __future__ import annotations

import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer

from phasevae.artifacts.files import json_sha256, write_table
from phasevae.cli.arguments import given, json_object, numbers
from phasevae.cli.options import PlanFile, SettingsJson, SpectrumFile
from phasevae.config import completed_settings, dataset_settings
from phasevae.datasets.registry import data_shape
from phasevae.errors import InputError
from phasevae.provenance.stages import provenance_record


def plan(
    output: Annotated[Path, typer.Option("--output", "-o", help="plan.csv to write.")],
    config: Annotated[list[Path] | None, typer.Option(help="Config file; a later one overrides.")] = None,
    dataset: Annotated[str | None, typer.Option(help="Which of the config's data sets.")] = None,
    settings: Annotated[str | None, typer.Option(help="The data set's settings as JSON instead.")] = None,
) -> None:
    """List the points of a sweep with their buckets, and estimate what training them takes.

    Example: phasevae plan --config config.yaml --dataset gaussian -o plan.csv
    """
    from phasevae.sweep.plan import make_plan, write_plan
    from phasevae.sweep.resources import estimate_cost
    from phasevae.sweep.settings import grid_keys

    if (settings is None) == (config is None):
        raise InputError("plan: give either --config FILE with --dataset NAME, or --settings JSON")
    chosen = (
        dataset_settings(config, dataset)
        if settings is None
        else completed_settings(json_object("--settings", settings), needs_grid=True)
    )
    points = make_plan(chosen)
    grid = json_sha256(grid_keys(chosen))
    write_plan(output, points, provenance_record(output, "plan", config_digest=grid))
    line = f"{output}: {len(points)} points in {len({point.bucket for point in points})} buckets"
    if shape := data_shape(chosen, output.parent):
        cost = estimate_cost(chosen, len(points), dimension=shape[1], n_samples=shape[0])
        line += (
            f"; about {cost['seconds'] / 60:.1f} minutes of training on two cores, "
            f"{cost['memory_bytes'] / 2**20:.0f} MiB if trained at once"
        )
    print(line)


def train(
    data: Annotated[Path, typer.Argument(help="A folder of `phasevae dataset`.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the trained points.")],
    plan: PlanFile = None,
    bucket: Annotated[int | None, typer.Option(help="With --plan: train this bucket only.")] = None,
    spectrum: SpectrumFile = None,
    settings: SettingsJson = None,
    sigma2: Annotated[str | None, typer.Option(help="Decoder variances, without --plan.")] = None,
    seeds: Annotated[str, typer.Option(help="Seeds, without --plan.")] = "0",
    beta: Annotated[str, typer.Option(help="KL weights, without --plan.")] = "1",
    latent: Annotated[int | None, typer.Option(help="Number of latents.")] = None,
    hidden: Annotated[str | None, typer.Option(help="Hidden widths of the encoder; the decoder mirrors them.")] = None,
    samples: Annotated[float | None, typer.Option(help="Rows shown to each model.")] = None,
    batch: Annotated[int | None, typer.Option(help="Rows a step.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Highest learning rate of Adam.")] = None,
    schedule: Annotated[str | None, typer.Option(help="anneal (from the active side) | scratch.")] = None,
    anneal_from: Annotated[float | None, typer.Option(help="First sigma2 over its target.")] = None,
    anneal_fraction: Annotated[float | None, typer.Option(help="Part of the budget that sigma2 rises in.")] = None,
    antithetic: Annotated[bool | None, typer.Option(help="Draw each latent with +eps and -eps.")] = None,
    rao_blackwell_group: Annotated[int | None, typer.Option(help="Most rows that share decoder targets.")] = None,
    balanced_order: Annotated[bool | None, typer.Option(help="Balance the moments of consecutive rows.")] = None,
    moment_matched_noise: Annotated[
        bool | None, typer.Option(help="Give the noise of a batch unit covariance.")
    ] = None,
    holdout: Annotated[float | None, typer.Option(help="Fraction of rows kept from training.")] = None,
    extend: Annotated[int | None, typer.Option(help="Most times the samples that an unconverged point gets.")] = None,
    device: Annotated[str, typer.Option(help="auto | cpu | cuda | cuda:N.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads (default: all cores).")] = None,
    checkpoint_seconds: Annotated[float, typer.Option(help="Seconds between checkpoints.")] = 60.0,
) -> None:
    """Train and measure VAEs, all as one ensemble; points that are there and valid are kept.

    Example: phasevae train results/mine --sigma2 0.5,0.6 --seeds 0,1 --latent 4 --hidden 256,128 -o results/mine/points
    """
    from phasevae.datasets.store import load_dataset
    from phasevae.sweep.plan import make_plan, read_plan
    from phasevae.sweep.points import Source, make_tasks
    from phasevae.sweep.settings import Settings, training_keys

    flags = {
        "n_latent": latent,
        "hidden": numbers("--hidden", hidden, int),
        "samples": samples,
        "batch": batch,
        "learning_rate": learning_rate,
        "schedule": schedule,
        "anneal_from": anneal_from,
        "anneal_fraction": anneal_fraction,
        "antithetic": antithetic,
        "rao_blackwell_group": rao_blackwell_group,
        "balanced_order": balanced_order,
        "moment_matched_noise": moment_matched_noise,
        "holdout": holdout,
        "extend_unconverged": extend,
    }
    keys = {**json_object("--settings", settings), **given(flags)}
    if (plan is None) == (sigma2 is None):
        raise InputError("train: give either --plan plan.csv, or --sigma2 with a list of decoder variances")
    if plan is None:
        if bucket is not None:
            raise InputError(f"--bucket: {bucket}, goes with --plan")
        betas = numbers("--beta", beta)
        grid = {
            "sigma2": numbers("--sigma2", sigma2),
            "beta": betas if len(betas) > 1 else betas[0],
            "seeds": numbers("--seeds", seeds, int),
            "n_buckets": 1,
        }
        planned = make_plan(completed_settings({**keys, **grid}, needs_grid=True))
        planned = [replace(point, path=point.path.removeprefix("points/")) for point in planned]
    else:
        planned = read_plan(plan)
        if bucket is not None:
            planned = [point for point in planned if point.bucket == bucket]
        if not planned:
            raise InputError(f"{plan}: has no point in bucket {bucket}")
    completed = completed_settings(keys)
    chosen = Settings.from_keys(training_keys(completed))
    source = Source.of(data, spectrum)
    tasks = make_tasks(planned, output, chosen, source, completed["extend_unconverged"])
    x = load_dataset(data, verify=True).x
    # These import PyTorch, which takes seconds: whatever is wrong with the arguments is told before.
    from phasevae.cli.progress import training_progress
    from phasevae.training.job import Job, choose_device, run_job, use_threads

    job = Job(
        tasks=tasks,
        x=x,
        data_sha256=source.data_sha256,
        settings=chosen,
        checkpoint=output / "checkpoints" / f"bucket={'all' if bucket is None else bucket}.safetensors",
        device=choose_device(device),
        checkpoint_seconds=checkpoint_seconds,
    )
    use_threads(threads)
    with training_progress() as report:
        trained = run_job(job, report, lambda line: print(f"phasevae: {line}", file=sys.stderr))
    print(f"{output}: {len(trained)} points trained, {len(planned) - len(trained)} kept")


def collect(
    output: Annotated[Path, typer.Option("--output", "-o", help="sweep.csv to write.")],
    folder: Annotated[Path | None, typer.Argument(metavar="POINTS", help="Folder of trained points.")] = None,
    plan: PlanFile = None,
    data: Annotated[Path | None, typer.Option(help="With --plan: the data set's folder.")] = None,
    spectrum: SpectrumFile = None,
    settings: SettingsJson = None,
    dimensions: Annotated[Path | None, typer.Option(help="dimensions.csv to write: one row a latent.")] = None,
    timing: Annotated[Path | None, typer.Option(help="timing.csv to write.")] = None,
    histories: Annotated[Path | None, typer.Option(help="histories.csv to write: how each model trained.")] = None,
) -> None:
    """Gather trained points into tables; a point that another plan made is an error.

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
    from phasevae.sweep.plan import read_plan
    from phasevae.sweep.points import Source, make_tasks
    from phasevae.sweep.settings import Settings, training_keys

    if (plan is None) == (folder is None):
        raise InputError("collect: give either a folder of points or --plan plan.csv")
    if plan is not None and settings is None:
        raise InputError("collect: --plan needs --settings, the training settings as JSON; or give the points' folder")
    if plan is None:
        found = read_folder(folder)
    else:
        source = Source.of(data or plan.parent, spectrum)
        chosen = Settings.from_keys(training_keys(completed_settings(json_object("--settings", settings))))
        tasks = make_tasks(read_plan(plan), plan.parent, chosen, source)
        found = read_planned(tasks)
    # All tables first, so that a damaged point leaves none of them behind.
    makers = {
        output: sweep_table,
        dimensions: dimensions_table,
        timing: timing_table,
        histories: histories_table,
    }
    made = {path: make(found) for path, make in makers.items() if path is not None}
    of_points = provenance_of(found, output)
    for path, table in made.items():
        origin = provenance_record(path, "collect", (plan, spectrum) if path == output else (output,))
        write_table(path, table, origin | (of_points if path == output else {}))
    print(f"{output}: {len(found)} points")


def hysteresis(
    data: Annotated[Path, typer.Argument(help="A folder of `phasevae dataset`.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="hysteresis.csv to write.")],
    ratio: Annotated[str, typer.Option(help="Decoder variances over the largest eigenvalue, the lowest active.")],
    spectrum: SpectrumFile = None,
    settings: SettingsJson = None,
    seeds: Annotated[str, typer.Option(help="Seeds of both branches.")] = "0",
    beta: Annotated[float | None, typer.Option(help="KL weight of all models.")] = None,
    latent: Annotated[int | None, typer.Option(help="Number of latents.")] = None,
    hidden: Annotated[str | None, typer.Option(help="Hidden widths of the encoder; the decoder mirrors them.")] = None,
    samples: Annotated[float | None, typer.Option(help="Rows shown to each model at each step.")] = None,
    batch: Annotated[int | None, typer.Option(help="Rows a step.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Highest learning rate of Adam.")] = None,
    device: Annotated[str, typer.Option(help="auto | cpu | cuda | cuda:N.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads (default: all cores).")] = None,
) -> None:
    """Sweep the decoder variance upwards from active models, beside freshly trained ones: is the collapse abrupt?

    Example: phasevae hysteresis results/two --ratio 0.7,1,1.2,1.4,1.6 --latent 1 --samples 2e5 -o hysteresis.csv
    """
    import torch

    from phasevae.cli.progress import training_progress
    from phasevae.datasets.store import load_dataset
    from phasevae.sweep.points import Source
    from phasevae.sweep.settings import Settings, training_keys
    from phasevae.training.hysteresis import hysteresis_sweep
    from phasevae.training.job import choose_device, describe_machine, use_threads

    flags = {
        "n_latent": latent,
        "hidden": numbers("--hidden", hidden, int),
        "samples": samples,
        "batch": batch,
        "learning_rate": learning_rate,
        "hysteresis_ratio": numbers("--ratio", ratio),
        "seeds": numbers("--seeds", seeds, int),
        "beta": beta,
    }
    checked = completed_settings({**json_object("--settings", settings), **given(flags)})
    chosen = Settings.from_keys(training_keys(checked))
    source = Source.of(data, spectrum)
    if source.critical_variance is None:
        raise InputError(f"{data}: has no spectrum.json, which --ratio is relative to; give --spectrum spectrum.json")
    on = choose_device(device)
    use_threads(threads)
    x = torch.tensor(load_dataset(data, verify=True).x, dtype=torch.float32, device=on)
    grid = [value * source.critical_variance for value in checked["hysteresis_ratio"]]
    with training_progress() as report:
        table = hysteresis_sweep(x, chosen, grid, checked["seeds"], checked["beta"], report=report)
    record = provenance_record(
        output,
        "hysteresis",
        (data / "data.json", spectrum),
        **describe_machine(on),
        config_digest=json_sha256(asdict(chosen)),
        data_sha256=source.data_sha256,
        seeds=checked["seeds"],
    )
    write_table(output, table.assign(data_sha256=source.data_sha256), record)
    print(f"{output}: {len(table)} models on two branches")
