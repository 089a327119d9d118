"""The command line: `phasevae VERB`. Each rule of the workflow calls one verb, so each step can be run by hand."""

from __future__ import annotations

import json
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from phasevae import artifacts, stages
from phasevae.arguments import (
    completed_settings,
    data_shape,
    dataset_settings,
    given,
    json_object,
    latents_of,
    numbers,
    record,
    spectrum_record,
)
from phasevae.errors import InputError

app = typer.Typer(
    help="Posterior collapse of variational autoencoders, predicted and measured as a phase transition.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

Standardize = Annotated[str | None, typer.Option(help="none | center | global | per-feature.")]
Size = Annotated[int | None, typer.Option(help="Resize images to SIZE x SIZE (antialiased bilinear).")]
Grey = Annotated[bool | None, typer.Option("--grey/--colour", help="ITU-R 601 grey, or the three colours.")]
Split = Annotated[str | None, typer.Option(help="cifar10: train | test | all.")]
Key = Annotated[str | None, typer.Option(help="array: which array of an .npz file.")]
OutputJson = Annotated[Path, typer.Option("--output", "-o", help="JSON file to write.")]
SettingsJson = Annotated[str | None, typer.Option(help="Training settings as JSON, as the workflow gives them.")]
PlanFile = Annotated[Path | None, typer.Option(help="plan.csv of `phasevae plan`.")]
SpectrumFile = Annotated[Path | None, typer.Option(help="spectrum.json of `phasevae spectrum`.")]


@app.command()
def dataset(
    kind: Annotated[str, typer.Argument(help="synthetic | mixture | cifar10 | digits | images | array.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for data.npy and data.json.")],
    path: Annotated[Path | None, typer.Argument(help="images, array: the file or folder to read.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the data set (default: its kind).")] = None,
    eigenvalues: Annotated[str | None, typer.Option(help="synthetic, mixture: covariance eigenvalues.")] = None,
    n_samples: Annotated[int | None, typer.Option(help="synthetic, mixture: number of samples.")] = None,
    seed: Annotated[int | None, typer.Option(help="synthetic, mixture: random seed.")] = None,
    separation: Annotated[float | None, typer.Option(help="mixture: distance of the components, 0 to 1.")] = None,
    archive: Annotated[Path | None, typer.Option(help="cifar10: a local copy instead of a download.")] = None,
    split: Split = None,
    size: Size = None,
    grey: Grey = None,
    key: Key = None,
    standardize: Standardize = None,
    options: Annotated[str | None, typer.Option(help="All options of the kind as one JSON object.")] = None,
) -> None:
    """Build a data set.

    Example: phasevae dataset synthetic --eigenvalues 4,2,1,0.5 --n-samples 256000 --seed 1234 -o results/mine
    """
    from phasevae import datasets

    chosen = {
        "path": path,
        "eigenvalues": numbers("--eigenvalues", eigenvalues),
        "n_samples": n_samples,
        "seed": seed,
        "separation": separation,
        "archive": archive,
        "split": split,
        "size": size,
        "grey": grey,
        "key": key,
        "standardize": standardize,
    }
    merged = {**json_object("--options", options), **given(chosen)}
    saved = datasets.save(datasets.build(kind, name=name, **merged), output)
    print(f"{output}: {saved.name}, {saved.x.shape[0]} samples of {saved.x.shape[1]} features")


@app.command()
def spectrum(
    data: Annotated[Path, typer.Argument(help="A folder of `phasevae dataset`, a table, or images.")],
    output: OutputJson,
    size: Size = None,
    grey: Grey = None,
    key: Key = None,
    standardize: Standardize = None,
) -> None:
    """Compute the covariance eigenvalues of a data set with their standard errors; the first is the critical variance.

    Example: phasevae spectrum photos.tar.xz --size 8 --grey --standardize per-feature -o spectrum.json
    """
    from phasevae import datasets
    from phasevae import spectrum as spectra

    options = given({"size": size, "grey": grey, "key": key, "standardize": standardize})
    found = spectra.spectrum_of(datasets.from_path(data, **options))
    spectra.write(output, found)
    print(
        f"{output}: critical variance {found.critical_variance:.6g} +- {found.standard_errors[0]:.2g}, "
        f"trace {found.trace:.6g}, {found.n_samples} samples of {found.dimension} features"
    )


@app.command()
def plan(
    output: Annotated[Path, typer.Option("--output", "-o", help="plan.csv to write.")],
    config: Annotated[list[Path] | None, typer.Option(help="Config file; a later one overrides.")] = None,
    dataset: Annotated[str | None, typer.Option(help="Which of the config's data sets.")] = None,
    settings: Annotated[str | None, typer.Option(help="The data set's settings as JSON instead.")] = None,
) -> None:
    """List the points of a sweep with their buckets, and estimate what training them takes.

    Example: phasevae plan --config config.yaml --dataset gaussian -o plan.csv
    """
    from phasevae import plan as plans
    from phasevae.cost import estimate

    if (settings is None) == (config is None):
        raise InputError("plan: give either --config FILE with --dataset NAME, or --settings JSON")
    chosen = (
        dataset_settings(config, dataset) if settings is None else completed_settings(settings, {}, needs_grid=True)
    )
    points = plans.make_plan(chosen)
    plans.write_plan(output, points)
    line = f"{output}: {len(points)} points in {len({point.bucket for point in points})} buckets"
    if shape := data_shape(chosen, output.parent):
        cost = estimate(chosen, len(points), dimension=shape[1], n_samples=shape[0])
        line += (
            f"; about {cost['seconds'] / 60:.1f} minutes of training on two cores, "
            f"{cost['memory_bytes'] / 2**20:.0f} MiB if trained at once"
        )
    print(line)


@app.command()
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
    decoder_group: Annotated[int | None, typer.Option(help="Most rows that share decoder targets.")] = None,
    holdout: Annotated[float | None, typer.Option(help="Fraction of rows kept from training.")] = None,
    device: Annotated[str, typer.Option(help="auto | cpu | cuda | cuda:N.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads (default: all cores).")] = None,
    checkpoint_seconds: Annotated[float, typer.Option(help="Seconds between checkpoints.")] = 60.0,
) -> None:
    """Train and measure VAEs, all as one ensemble; points that are there and valid are kept.

    Example: phasevae train results/mine --sigma2 0.5,0.6 --seeds 0,1 --latent 4 --hidden 256,128 -o results/mine/points
    """
    from phasevae import datasets, jobs, points
    from phasevae.plan import make_plan, read_plan, training_keys
    from phasevae.progress import training_progress

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
        "decoder_group": decoder_group,
        "holdout": holdout,
    }
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
        planned = make_plan(completed_settings(settings, {**flags, **grid}, needs_grid=True))
        planned = [replace(point, path=point.path.removeprefix("points/")) for point in planned]
    else:
        planned = read_plan(plan)
        if bucket is not None:
            planned = [point for point in planned if point.bucket == bucket]
        if not planned:
            raise InputError(f"{plan}: has no point in bucket {bucket}")
    chosen = points.Settings.from_keys(training_keys(completed_settings(settings, flags)))
    source = points.Source.of(data, spectrum)
    job = jobs.Job(
        tasks=points.make_tasks(planned, output, chosen, source),
        x=datasets.load(data, verify=True).x,
        data_sha256=source.data_sha256,
        settings=chosen,
        checkpoint=output / "checkpoints" / f"bucket={'all' if bucket is None else bucket}.safetensors",
        device=jobs.choose_device(device),
        checkpoint_seconds=checkpoint_seconds,
    )
    jobs.use_threads(threads)
    with training_progress() as report:
        trained = jobs.run(job, report, lambda line: print(f"phasevae: {line}", file=sys.stderr))
    print(f"{output}: {len(trained)} points trained, {len(planned) - len(trained)} kept")


@app.command()
def collect(
    output: Annotated[Path, typer.Option("--output", "-o", help="sweep.csv to write.")],
    folder: Annotated[Path | None, typer.Argument(metavar="POINTS", help="Folder of trained points.")] = None,
    plan: PlanFile = None,
    data: Annotated[Path | None, typer.Option(help="With --plan: the data set's folder.")] = None,
    spectrum: SpectrumFile = None,
    settings: SettingsJson = None,
    dimensions: Annotated[Path | None, typer.Option(help="dimensions.csv to write: one row a latent.")] = None,
    timing: Annotated[Path | None, typer.Option(help="timing.csv to write.")] = None,
) -> None:
    """Gather trained points into tables; a point that another plan made is an error.

    Example: phasevae collect results/mine/points -o sweep.csv --dimensions dimensions.csv
    """
    from phasevae import collect as tables
    from phasevae import points
    from phasevae.plan import read_plan, training_keys

    if (plan is None) == (folder is None):
        raise InputError("collect: give either a folder of points or --plan plan.csv")
    if plan is not None and settings is None:
        raise InputError("collect: --plan needs --settings, the training settings as JSON; or give the points' folder")
    if plan is None:
        found = tables.read_folder(folder)
    else:
        source = points.Source.of(data or plan.parent, spectrum)
        chosen = points.Settings.from_keys(training_keys(completed_settings(settings, {})))
        tasks = points.make_tasks(read_plan(plan), plan.parent, chosen, source)
        found = tables.read_planned(tasks)
    # All tables first, so that a damaged point leaves none of them behind.
    makers = {output: tables.sweep_table, dimensions: tables.dimensions_table, timing: tables.timing_table}
    made = {path: make(found) for path, make in makers.items() if path is not None}
    for path, table in made.items():
        artifacts.write_table(path, table)
    print(f"{output}: {len(found)} points")


@app.command()
def fit(
    sweep: Annotated[Path, typer.Argument(help="sweep.csv of `phasevae collect`.")],
    output: OutputJson,
    spectrum: SpectrumFile = None,
) -> None:
    """Fit the piecewise KL(sigma2) and estimate the critical variance with its 95 % interval.

    Example: phasevae fit sweep.csv --spectrum spectrum.json -o fit.json
    """
    from phasevae.analysis import critical

    table = artifacts.read_table(sweep)
    result = critical.fit(table, spectrum_record(spectrum, table), latents_of(sweep, table))
    artifacts.write_json(output, result)
    if result["critical_variance"] is None:
        print(f"{output}: no critical variance: {result['reason']}")
    else:
        low, high = ("open" if edge is None else f"{edge:.6g}" for edge in result["ci95"])
        print(f"{output}: critical variance {result['critical_variance']:.6g} [{low}, {high}], {result['model']}")


app.command()(stages.refine)
app.command()(stages.bracket)


@app.command()
def plot(
    figure: Annotated[
        str,
        typer.Argument(help="landscape | elbo | latent_variance | kl | kl_derivatives | spectrum | bracketing."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="STEM", help="Writes STEM.pdf and STEM.png.")],
    sweep: Annotated[Path | None, typer.Option(help="sweep.csv")] = None,
    dimensions: Annotated[Path | None, typer.Option(help="dimensions.csv")] = None,
    fit: Annotated[Path | None, typer.Option(help="fit.json")] = None,
    spectrum: SpectrumFile = None,
    bracketing: Annotated[Path | None, typer.Option(help="bracketing.csv")] = None,
    passes: Annotated[Path | None, typer.Option(help="bracketing.json")] = None,
) -> None:
    """Draw one figure of the paper, or the comparison of two passes.

    Example: phasevae plot spectrum --spectrum results/mine/spectrum.json -o spectrum
    """
    from phasevae import figures

    table = None if sweep is None else artifacts.read_table(sweep)
    drawn = figures.render(
        figure,
        sweep=table,
        dimensions=None if dimensions is None else artifacts.read_table(dimensions),
        fit=record(fit),
        spectrum=spectrum_record(spectrum, table),
        bracketing=None if bracketing is None else artifacts.read_table(bracketing),
        passes=record(passes),
    )
    print(*artifacts.write_figure(output, drawn))


@app.command()
def doctor(json_output: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Say which versions and which backends of the ELBO operations are at work here.

    Example: phasevae doctor --json
    """
    from phasevae.doctor import examine

    found = examine()
    if json_output:
        print(json.dumps(found, indent=1))
        return
    for name, version in found["versions"].items():
        print(f"{name:12} {version or 'not installed'}")
    for name, state in found["backends"].items():
        print(f"{name:12} {'available' if state['available'] else 'not available'}: {state['reason']}")


def main() -> None:
    """Entry point: bad input is one line on standard error and exit code 2, an interruption 128 + its signal."""
    warnings.showwarning = _show_warning
    try:
        app()
    except InputError as error:
        _fail(str(error), 2)
    except MemoryError as error:
        _fail(f"not enough memory: {error}", 2)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        _fail(f"{place}{error.strerror or error}", 2)
    except Exception as error:
        signal_number = getattr(error, "signal_number", None)
        if signal_number is None:
            raise
        _fail(str(error), 128 + signal_number)


def _fail(message: str, code: int) -> None:
    print(f"phasevae: {message}", file=sys.stderr)
    sys.exit(code)


def _show_warning(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
    print(f"phasevae: warning: {message}", file=sys.stderr)
