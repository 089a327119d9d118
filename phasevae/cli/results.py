"""Verbs for finished results: sum them up, list, check and export them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from phasevae.artifacts.files import read_json, write_json
from phasevae.cli.arguments import names
from phasevae.cli.options import Json
from phasevae.errors import InputError, no_such_choice

if TYPE_CHECKING:
    from phasevae.provenance.verify import Finding

Results = Annotated[Path, typer.Argument(help="The results folder.")]
Datasets = Annotated[str | None, typer.Option(help="Only these data sets, separated by commas.")]
_SHOWN = 20


def _asked_for(datasets: str | None) -> list[str]:
    """The data sets that --datasets names; none without it, which means all."""
    return [] if datasets is None else names("--datasets", datasets)


def summary(folder: Results, datasets: Datasets = None) -> None:
    """Print what each sweep has shown: the verdict, the critical variance and the warnings of its fit.json.

    Example: phasevae summary results
    """
    from phasevae.analysis.pipeline import Analysis
    from phasevae.analysis.records import from_json
    from phasevae.analysis.verdict import as_text

    fitted = sorted(path.parent.name for path in folder.glob("*/fit.json"))
    shown = _asked_for(datasets) or fitted
    if not shown:
        instead = ""
        if (folder / "fit.json").is_file():
            named = folder if folder.name not in ("", "..") else folder.resolve()
            instead = f": for this data set, phasevae summary {named.parent} --datasets {named.name}"
        raise InputError(f"{folder}: no data set has a fit.json, must be a folder of results{instead}")
    for name in shown:
        if fitted and not (folder / name).is_dir():
            raise no_such_choice("--datasets", name, fitted)
    paths = {name: folder / name / "fit.json" for name in shown}
    # All are read first: a file that cannot be read leaves no half of a summary.
    found = {name: from_json(Analysis, read_json(path, kind="fit"), str(path)) for name, path in paths.items()}
    for name, analysis in found.items():
        verdict, *more = as_text(analysis).splitlines()
        figures = folder / name / "figures"
        more += [f"figures: {figures}"] if figures.is_dir() else []
        print(f"{name}: {verdict}", *(f"    {line}" for line in more), sep="\n")
    report = folder / "report.html"
    if report.is_file() and set(shown) <= data_sets_of(report):
        print(f"report: {report}")


def data_sets_of(report: Path) -> set[str]:
    """The data sets whose fit a report of Snakemake holds. It lists its files as JSON, by their paths."""
    *before, _ = report.read_text(encoding="utf-8", errors="replace").split('/fit.json": {"name": "fit.json"')
    return {Path(text.rpartition('"')[2]).name for text in before}


def manifest(
    folder: Results,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="JSON file to write (default: manifest.json in the folder).")
    ] = None,
    datasets: Datasets = None,
) -> None:
    """List all files of a results folder with their digests and the commit that made them.

    Example: phasevae manifest results
    """
    from phasevae.provenance.manifest import MANIFEST, build_manifest

    content = build_manifest(folder, _asked_for(datasets))
    output = output or folder / MANIFEST
    write_json(output, content)
    print(f"{output}: {content['n_files']} files")


def verify(folder: Results, json_output: Json = False) -> None:
    """Check which results are missing, altered or stale, by their recorded digests. Exit code 1 if any are.

    Example: phasevae verify results
    """
    from phasevae.provenance.verify import published, verify_results

    findings, n_files = verify_results(folder)
    if json_output:
        print(json.dumps({"n_files": n_files, "findings": [asdict(finding) for finding in findings]}, indent=1))
    else:
        kept = published(folder, findings)
        listed = [finding for finding in findings if finding not in kept]
        for finding in listed[:_SHOWN]:
            print(f"{finding.state}: {finding.path}: {finding.reason}")
        if len(listed) > _SHOWN:
            print(f"... and {len(listed) - _SHOWN} more; --json lists all")
        if kept:
            place = folder / kept[0].path.partition("/")[0]
            print(f"{place}: {_counts(kept)}: published results, of which only tables and figures are kept")
        print(f"{folder}: {n_files} files, {_counts(findings) or 'all as they were written'}")
    if findings:
        raise typer.Exit(1)


def _counts(findings: Sequence[Finding]) -> str:
    """How many files are in each state; the states in their order in `findings`."""
    return ", ".join(f"{n} {state}" for state, n in Counter(finding.state for finding in findings).items())


def export(
    folder: Results,
    output: Annotated[Path, typer.Option("--output", "-o", help="New folder or .zip file to write.")],
    with_data: Annotated[bool, typer.Option("--with-data", help="Include data.npy.")] = False,
) -> None:
    """Write finished results as an RO-Crate: the files with a description of their content and origin.

    Example: phasevae export results -o results.zip
    """
    from phasevae.provenance import ro_crate

    print(f"{output}: RO-Crate of {ro_crate.export(folder, output, with_data)} files")
