"""Verbs of the command line that look closer at the transition: upward sweeps and the second variation."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from phasevae import artifacts, provenance
from phasevae.arguments import completed_settings, numbers
from phasevae.cli_options import OutputJson, SettingsJson, SpectrumFile
from phasevae.errors import InputError


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

    from phasevae import branches, datasets, jobs, points
    from phasevae.plan import training_keys
    from phasevae.progress import training_progress

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
    checked = completed_settings(settings, flags)
    chosen = points.Settings.from_keys(training_keys(checked))
    source = points.Source.of(data, spectrum)
    if source.critical_variance is None:
        raise InputError(f"{data}: has no spectrum.json, which --ratio is relative to; give --spectrum spectrum.json")
    on = jobs.choose_device(device)
    jobs.use_threads(threads)
    x = torch.tensor(datasets.load(data, verify=True).x, dtype=torch.float32, device=on)
    grid = [value * source.critical_variance for value in checked["hysteresis_ratio"]]
    with training_progress() as report:
        table = branches.sweep(x, chosen, grid, checked["seeds"], checked["beta"], report=report)
    record = provenance.record(
        output,
        "hysteresis",
        (data / "data.json", spectrum),
        **jobs.machine(on),
        config_digest=artifacts.digest(asdict(chosen)),
        data_sha256=source.data_sha256,
        seeds=checked["seeds"],
    )
    artifacts.write_table(output, table.assign(data_sha256=source.data_sha256), record)
    print(f"{output}: {len(table)} models on two branches")


def stability(
    point: Annotated[Path, typer.Argument(help="Folder of a trained point that has collapsed.")],
    data: Annotated[Path, typer.Argument(help="The folder of `phasevae dataset` it was trained on.")],
    output: OutputJson,
    directions: Annotated[int, typer.Option(min=1, help="How many principal directions of the data.")] = 2,
) -> None:
    """Compare the second variation of the ELBO at a trained collapsed model with theory, mode by mode.

    Example: phasevae stability points/sigma2=1.2,seed=0 results/mine -o stability.json
    """
    from phasevae import curvature, datasets
    from phasevae.model import load

    x = datasets.load(data).x
    result = curvature.stability(load(point), x, directions=range(min(directions, x.shape[1])))
    inputs = (point / "point.json", data / "data.json")
    artifacts.write_json(output, {**result, "provenance": provenance.record(output, "stability", inputs)})
    print(f"{output}: {len(result['blocks'])} blocks, largest relative error {result['largest_error']:.2g}")
