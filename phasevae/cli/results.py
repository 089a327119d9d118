"""Verbs for finished results: list them, check them, hand them on."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from phasevae.artifacts.files import write_json

Results = Annotated[Path, typer.Argument(help="The results folder.")]
_SHOWN = 20


def manifest(
    folder: Results,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Default: manifest.json in it.")] = None,
    datasets: Annotated[str | None, typer.Option(help="Only these data sets, with commas between.")] = None,
) -> None:
    """List all files of a results folder with their digests and the code and commit that made them.

    Example: phasevae manifest results
    """
    from phasevae.provenance.manifest import MANIFEST, build_manifest

    found = build_manifest(folder, datasets.split(",") if datasets else ())
    output = output or folder / MANIFEST
    write_json(output, found)
    print(f"{output}: {found['n_files']} files")


def verify(
    folder: Results,
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check results against the digests they carry: what is missing, altered or stale? Exit code 1 if anything is.

    Example: phasevae verify results
    """
    from phasevae.provenance.verify import verify_results

    found, n_files = verify_results(folder)
    if json_output:
        print(json.dumps({"n_files": n_files, "findings": [asdict(one) for one in found]}, indent=1))
    else:
        for one in found[:_SHOWN]:
            print(f"{one.state}: {one.path}: {one.reason}")
        if len(found) > _SHOWN:
            print(f"... and {len(found) - _SHOWN} more; --json lists all")
        counts = Counter(one.state for one in found)
        told = ", ".join(f"{counts[state]} {state}" for state in sorted(counts)) or "all as they were written"
        print(f"{folder}: {n_files} files, {told}")
    if found:
        raise typer.Exit(1)


def export(
    folder: Results,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder or .zip file to write.")],
    with_data: Annotated[bool, typer.Option("--with-data", help="Take data.npy along.")] = False,
) -> None:
    """Write finished results as an RO-Crate: the files and a description of what they are and what made them.

    Example: phasevae export results -o results.zip
    """
    from phasevae.provenance import ro_crate

    print(f"{output}: RO-Crate of {ro_crate.export(folder, output, with_data)} files")
