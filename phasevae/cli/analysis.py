"""Verbs that analyse a sweep: fit the transition, refine its grid, compare sweeps, draw figures."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from phasevae.artifacts.figures import write_figure
from phasevae.artifacts.files import json_sha256, read_json, write_json
from phasevae.artifacts.tables import read_table, write_table
from phasevae.cli.arguments import latents_of, matching_spectrum, numbers, saved_folder, table_of
from phasevae.cli.options import DimensionsFile, HysteresisFile, NetworkChoice, OutputJson, SpectrumFile
from phasevae.cli.settings import sweep_settings
from phasevae.errors import InputError
from phasevae.provenance.stages import provenance_record
from phasevae.wording import counted, plain


def fit(
    sweep: Annotated[Path, typer.Argument(help="sweep.csv of `phasevae collect`.")],
    output: OutputJson,
    spectrum: SpectrumFile = None,
    dimensions: DimensionsFile = None,
    histories: Annotated[Path | None, typer.Option(help="histories.csv: adds critical slowing down.")] = None,
    hysteresis: HysteresisFile = None,
    model: Annotated[
        str | None, typer.Option(help="Form that gives the critical variance (default: by the data).")
    ] = None,
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
    from phasevae.analysis.pipeline import analyse
    from phasevae.analysis.verdict import numbers_line, verdict

    table, upward = read_table(sweep, "sweep"), table_of(hysteresis, "hysteresis")
    if upward is not None:
        matching_spectrum(spectrum, upward)
    result = analyse(
        table,
        matching_spectrum(spectrum, table),
        latents_of(table),
        dimensions=table_of(dimensions, "dimensions"),
        histories=table_of(histories, "histories"),
        upward=upward,
        model=model,
        window=numbers("--window", window),
        converged_only=converged_only,
    )
    inputs = (sweep, spectrum, dimensions, histories, hysteresis)
    sentence = verdict(result)
    write_json(output, {"verdict": sentence, **asdict(result), "provenance": provenance_record(output, "fit", inputs)})
    for warning in result.warnings:
        print(f"phasevae: warning: {warning}", file=sys.stderr)
    print(sentence)
    print(f"{output}: {numbers_line(result)}")


def plot(
    figure: Annotated[
        str, typer.Argument(help="landscape | elbo | latent_variance | kl | ...; an unknown name lists all.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="STEM", help="Writes STEM.pdf and STEM.png.")],
    sweep: Annotated[Path | None, typer.Option(help="sweep.csv")] = None,
    dimensions: DimensionsFile = None,
    hysteresis: HysteresisFile = None,
    fit: Annotated[Path | None, typer.Option(help="fit.json")] = None,
    spectrum: SpectrumFile = None,
    bracketing: Annotated[Path | None, typer.Option(help="bracketing.csv")] = None,
    bracketing_summary: Annotated[Path | None, typer.Option(help="bracketing.json")] = None,
) -> None:
    """Draw one figure.

    Example: phasevae plot spectrum --spectrum results/mine/spectrum.json -o spectrum
    """
    from phasevae.analysis.bracketing import BracketingSummary
    from phasevae.analysis.pipeline import Analysis
    from phasevae.analysis.records import from_json
    from phasevae.figures.registry import render_figure

    table, summary = table_of(sweep, "sweep"), bracketing_summary
    drawn = render_figure(
        figure,
        sweep=table,
        dimensions=table_of(dimensions, "dimensions"),
        hysteresis=table_of(hysteresis, "hysteresis"),
        fit=fit and from_json(Analysis, read_json(fit, kind="fit"), str(fit)),
        spectrum=matching_spectrum(spectrum, table),
        bracketing=table_of(bracketing, "bracketing"),
        bracketing_summary=summary and from_json(BracketingSummary, read_json(summary), str(summary)),
    )
    inputs = (sweep, dimensions, hysteresis, fit, spectrum, bracketing, bracketing_summary)
    print(*write_figure(output, drawn, provenance_record(output, "figure", inputs, figure)))


def refine(
    fit: Annotated[Path, typer.Argument(help="fit.json of `phasevae fit`.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Plan to write: the sweep's points and the new ones.")],
    spectrum: Annotated[Path | None, typer.Option(help="spectrum.json, for a grid of sigma2_ratio.")] = None,
    config: Annotated[list[Path] | None, typer.Option(help="Config file; a later one overrides.")] = None,
    dataset: Annotated[str | None, typer.Option(help="Which of the config's data sets.")] = None,
    settings: Annotated[str | None, typer.Option(help="The data set's settings as JSON instead.")] = None,
) -> None:
    """Plan further points of a sweep around each transition that its fit shows.

    Example: phasevae refine fit.json --config config.yaml --dataset gaussian -o refined.csv
    """
    from phasevae.sweeps.plan import grid_of, make_plan, write_plan
    from phasevae.sweeps.refine import refined_values, transitions

    chosen = sweep_settings("refine", config, dataset, settings)
    unit, grid = 1.0, grid_of(chosen)
    if grid.is_relative:
        if spectrum is None:
            raise InputError("refine: the grid is relative to the largest eigenvalue; give --spectrum spectrum.json")
        unit = matching_spectrum(spectrum, None).critical_variance
    shown = transitions(read_json(fit, kind="fit"), chosen["refine_transitions"])
    added = {other: refined_values(shown, grid.values, unit * other) for other in grid.others}
    points = make_plan(chosen, added)
    write_plan(output, points, provenance_record(output, "refine", (fit, spectrum), config_digest=json_sha256(chosen)))
    n_new = len(points) - len(make_plan(chosen))
    print(f"{output}: {n_new} new points around {len(shown)} transitions, {len(points)} in all")


def bracket(
    first: Annotated[Path, typer.Argument(help="sweep.csv of the first sweep, from the active side.")],
    second: Annotated[Path, typer.Argument(help="sweep.csv of the second sweep, from scratch, over the same grid.")],
    spectrum: Annotated[Path, typer.Option(help="spectrum.json of `phasevae spectrum`.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="bracketing.csv to write.")],
    summary: Annotated[Path | None, typer.Option(help="bracketing.json to write: critical variances.")] = None,
) -> None:
    """Compare two sweeps over the same decoder variances, one from the active side and one from scratch.

    Example: phasevae bracket sweep.csv second/sweep.csv --spectrum spectrum.json -o bracketing.csv
    """
    from phasevae.analysis.bracketing import GAP, compare_bracketing, summarise_bracketing
    from phasevae.analysis.grid_advice import open_interval

    tables = [read_table(path, "sweep", GAP) for path in (first, second)]
    known, _ = (matching_spectrum(spectrum, table) for table in tables)
    compared = compare_bracketing(*tables, known)
    result = summarise_bracketing(compared, *tables, known, latents_of(tables[0]))
    inputs = (first, second, spectrum)
    write_table(output, compared, provenance_record(output, "bracket", inputs))
    if summary is not None:
        write_json(summary, {**asdict(result), "provenance": provenance_record(summary, "bracket", inputs)})
    values = (result.first.determined, result.second.determined)
    shown = " and ".join("none" if value is None else plain(value) for value in values)
    points = counted(result.n_points, "point")
    print(f"{output}: {result.n_disagree} of {points} disagree; critical variance {shown}")
    for path, fitted in ((first, result.first), (second, result.second)):
        if fitted.critical_variance is None:
            why = "; ".join(text for text in (fitted.reason, fitted.advice) if text is not None)
            print(f"{path}: no critical variance: {why}")
        elif fitted.is_open:
            print(f"{path}: {open_interval(fitted.advice)}")


def stability(
    point: Annotated[Path, typer.Argument(help="Folder of a trained point with a collapsed latent.")],
    data: Annotated[Path, typer.Argument(help="The folder of `phasevae dataset` that it was trained on.")],
    output: OutputJson,
    modes: Annotated[int, typer.Option(min=1, help="How many modes of the residual spectrum, at most 8.")] = 2,
    network: NetworkChoice = None,
) -> None:
    """Compare the second variation of the ELBO in the collapsed latents of a trained model with theory, mode by mode.

    Example: phasevae stability points/sigma2=1.2,seed=0 results/mine -o stability.json
    """
    from phasevae.datasets.store import load_dataset
    from phasevae.measurement.stability import measure_stability
    from phasevae.stored import load

    x = load_dataset(saved_folder(data), verify=True).x
    result = measure_stability(load(point, network), x, n_modes=modes)
    inputs = (point / "point.json", data / "data.json")
    write_json(output, {**result, "provenance": provenance_record(output, "stability", inputs)})
    print(f"{output}: {len(result['blocks'])} blocks, largest relative error {result['largest_error']:.2g}")
