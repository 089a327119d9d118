"""Verbs for what may follow a sweep: further points where it changes, and a second pass to compare it with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from phasevae import artifacts
from phasevae.arguments import completed_settings, dataset_settings, latents_of, spectrum_record
from phasevae.errors import InputError
from phasevae.provenance import record


def refine(
    fit: Annotated[Path, typer.Argument(help="fit.json of `phasevae fit`.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Plan to write: the sweep's points and the new ones.")],
    spectrum: Annotated[Path | None, typer.Option(help="spectrum.json, for a grid of sigma2_ratio.")] = None,
    config: Annotated[list[Path] | None, typer.Option(help="Config file; a later one overrides.")] = None,
    dataset: Annotated[str | None, typer.Option(help="Which of the config's data sets.")] = None,
    settings: Annotated[str | None, typer.Option(help="The data set's settings as JSON instead.")] = None,
) -> None:
    """Plan further points of a sweep about each transition that its fit shows.

    Example: phasevae refine fit.json --config config.yaml --dataset gaussian -o refined.csv
    """
    from phasevae import plan as plans
    from phasevae.analysis import refine as refining

    if (settings is None) == (config is None):
        raise InputError("refine: give either --config FILE with --dataset NAME, or --settings JSON")
    chosen = (
        dataset_settings(config, dataset) if settings is None else completed_settings(settings, {}, needs_grid=True)
    )
    unit = 1.0
    if chosen.get("sigma2_ratio"):
        if spectrum is None:
            raise InputError("refine: the grid is relative to the largest eigenvalue; give --spectrum spectrum.json")
        unit = spectrum_record(spectrum, None)["critical_variance"]
    found = refining.transitions(artifacts.read_json(fit, kind="fit"), chosen["refine_transitions"])
    grid = plans.grid_values(chosen)
    added = {beta: refining.refined_values(found, grid, unit * beta) for beta in plans.betas(chosen)}
    points = plans.make_plan(chosen, added)
    plans.write_plan(output, points, record(output, "refine", (fit, spectrum), config_digest=artifacts.digest(chosen)))
    n_new = len(points) - len(plans.make_plan(chosen))
    print(f"{output}: {n_new} new points about {len(found)} transitions, {len(points)} in all")


def bracket(
    first: Annotated[Path, typer.Argument(help="sweep.csv of the one pass.")],
    second: Annotated[Path, typer.Argument(help="sweep.csv of the other pass, over the same grid.")],
    spectrum: Annotated[Path, typer.Option(help="spectrum.json of `phasevae spectrum`.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="bracketing.csv to write.")],
    summary: Annotated[Path | None, typer.Option(help="bracketing.json to write: critical variances.")] = None,
) -> None:
    """Compare two passes over the same decoder variances, one from the active side and one from scratch.

    Example: phasevae bracket sweep.csv second/sweep.csv --spectrum spectrum.json -o bracketing.csv
    """
    from phasevae.analysis import bracketing

    tables = [artifacts.read_table(path) for path in (first, second)]
    known, _ = (spectrum_record(spectrum, table) for table in tables)
    compared = bracketing.compare(*tables, known)
    found = bracketing.summary(compared, *tables, known, latents_of(first, tables[0]))
    inputs = (first, second, spectrum)
    artifacts.write_table(output, compared, record(output, "bracket", inputs))
    if summary is not None:
        artifacts.write_json(summary, {**found, "provenance": record(summary, "bracket", inputs)})
    values = [found[name]["critical_variance"] for name in bracketing.PASSES]
    shown = " and ".join("none" if value is None else f"{value:.6g}" for value in values)
    print(f"{output}: {found['n_disagree']} of {found['n_points']} points disagree; critical variance {shown}")
