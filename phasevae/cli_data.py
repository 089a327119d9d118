"""Verbs for data: build a set, compute its spectrum."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from phasevae.arguments import given, json_object, numbers
from phasevae.cli_options import OutputJson
from phasevae.errors import InputError
from phasevae.provenance import record

Standardize = Annotated[str | None, typer.Option(help="none | center | global | per-feature.")]
Size = Annotated[int | None, typer.Option(help="Resize images to SIZE x SIZE (antialiased bilinear).")]
Grey = Annotated[bool | None, typer.Option("--grey/--colour", help="ITU-R 601 grey, or the three colours.")]
Split = Annotated[str | None, typer.Option(help="cifar10: train | test | all.")]
Key = Annotated[str | None, typer.Option(help="array: which array of an .npz file.")]


def dataset(
    kind: Annotated[str, typer.Argument(help="synthetic | mixture | clusters | cifar10 | digits | images | array.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for data.npy and data.json.")],
    path: Annotated[Path | None, typer.Argument(help="images, array: the file or folder to read.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the data set (default: its kind).")] = None,
    eigenvalues: Annotated[str | None, typer.Option(help="synthetic, mixture: covariance eigenvalues.")] = None,
    n_samples: Annotated[int | None, typer.Option(help="synthetic, mixture, clusters: number of samples.")] = None,
    seed: Annotated[int | None, typer.Option(help="synthetic, mixture, clusters: random seed.")] = None,
    separation: Annotated[float | None, typer.Option(help="mixture: distance of the components, 0 to 1.")] = None,
    weights: Annotated[str | None, typer.Option(help="clusters: their probabilities.")] = None,
    noise: Annotated[float | None, typer.Option(help="clusters: standard deviation around each.")] = None,
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
        "weights": numbers("--weights", weights),
        "noise": noise,
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


def spectrum(
    data: Annotated[
        list[Path], typer.Argument(help="A folder of `phasevae dataset`, a table, or images; or files of moments.")
    ],
    output: OutputJson,
    moments: Annotated[bool, typer.Option("--moments", help="DATA are the parts from `phasevae moments`.")] = False,
    basis: Annotated[Path | None, typer.Option(help="With --moments: file to write for their second pass.")] = None,
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
    from phasevae.cli_moments import spectrum_of_parts

    options = given({"size": size, "grey": grey, "key": key, "standardize": standardize})
    if moments and options:
        raise InputError(f"spectrum: {', '.join(options)}: belong to `phasevae moments`, not to --moments")
    if not moments and (basis is not None or len(data) > 1):
        raise InputError("spectrum: --basis and several DATA go with --moments")
    found = spectrum_of_parts(data, basis) if moments else spectra.spectrum_of(datasets.from_path(data[0], **options))
    saved = [path / "data.json" for path in data if (path / "data.json").is_file()]
    made_by = record(output, "moments" if moments else "spectrum", saved, data_sha256=found.data_sha256)
    spectra.write(output, found, made_by)
    print(
        f"{output}: critical variance {found.critical_variance:.6g} +- {found.standard_errors[0]:.2g}, "
        f"trace {found.trace:.6g}, {found.n_samples} samples of {found.dimension} features"
    )
