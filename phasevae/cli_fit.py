"""Verbs for what a sweep shows: fit the transition, draw figures."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from phasevae import artifacts
from phasevae.arguments import latents_of, numbers, record, spectrum_record, table_of
from phasevae.cli_options import DimensionsFile, HysteresisFile, OutputJson, SpectrumFile
from phasevae.errors import InputError
from phasevae.provenance import record as record_of


def fit(
    sweep: Annotated[Path, typer.Argument(help="sweep.csv of `phasevae collect`.")],
    output: OutputJson,
    spectrum: SpectrumFile = None,
    dimensions: DimensionsFile = None,
    histories: Annotated[Path | None, typer.Option(help="histories.csv: adds critical slowing down.")] = None,
    hysteresis: HysteresisFile = None,
    model: Annotated[str | None, typer.Option(help="Form that speaks for the sweep (default: by the data).")] = None,
    window: Annotated[
        str | None, typer.Option(help="LOW,HIGH of the single-mode forms (default: by the data).")
    ] = None,
    converged_only: Annotated[
        bool, typer.Option("--converged-only", help="Leave out points that are not known to have converged.")
    ] = False,
) -> None:
    """Fit the transition: critical variance with its 95 % interval, order, exponents, cascade, hysteresis.

    Example: phasevae fit sweep.csv --spectrum spectrum.json --dimensions dimensions.csv -o fit.json
    """
    from phasevae.analysis import transition

    table, upward = artifacts.read_table(sweep), table_of(hysteresis)
    if upward is not None:
        spectrum_record(spectrum, upward)
    edges = numbers("--window", window)
    if edges is not None and len(edges) != 2:
        raise InputError(f"--window: {window!r}, must be two numbers, the lowest and the highest beta * sigma2")
    result = transition.analyse(
        table,
        spectrum_record(spectrum, table),
        latents_of(sweep, table),
        dimensions=table_of(dimensions),
        histories=table_of(histories),
        upward=upward,
        model=model,
        window=None if edges is None else (edges[0], edges[1]),
        converged_only=converged_only,
    )
    inputs = (sweep, spectrum, dimensions, histories, hysteresis)
    artifacts.write_json(output, {**result, "provenance": record_of(output, "fit", inputs)})
    for warning in result["warnings"]:
        print(f"phasevae: warning: {warning}", file=sys.stderr)
    if result["critical_variance"] is None:
        print(f"{output}: no critical variance: {result['reason']}")
    else:
        low, high = ("open" if edge is None else f"{edge:.6g}" for edge in result["ci95"])
        told = f"order {result['order']['value']}" if result["order"]["value"] else "order not determined"
        print(
            f"{output}: critical variance {result['critical_variance']:.6g} [{low}, {high}], {result['model']}, {told}"
        )


def plot(
    figure: Annotated[
        str, typer.Argument(help="landscape | elbo | latent_variance | kl | ...; a wrong one lists all.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="STEM", help="Writes STEM.pdf and STEM.png.")],
    sweep: Annotated[Path | None, typer.Option(help="sweep.csv")] = None,
    dimensions: DimensionsFile = None,
    hysteresis: HysteresisFile = None,
    fit: Annotated[Path | None, typer.Option(help="fit.json")] = None,
    spectrum: SpectrumFile = None,
    bracketing: Annotated[Path | None, typer.Option(help="bracketing.csv")] = None,
    passes: Annotated[Path | None, typer.Option(help="bracketing.json")] = None,
) -> None:
    """Draw one figure.

    Example: phasevae plot spectrum --spectrum results/mine/spectrum.json -o spectrum
    """
    from phasevae import figures

    table = table_of(sweep)
    drawn = figures.render(
        figure,
        sweep=table,
        dimensions=table_of(dimensions),
        hysteresis=table_of(hysteresis),
        fit=record(fit, "fit"),
        spectrum=spectrum_record(spectrum, table),
        bracketing=table_of(bracketing),
        passes=record(passes),
    )
    inputs = (sweep, dimensions, hysteresis, fit, spectrum, bracketing, passes)
    print(*artifacts.write_figure(output, drawn, record_of(output, "figure", inputs, figure)))
