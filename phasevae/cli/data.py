"""Verbs for data: build a set, compute its spectrum."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from phasevae.artifacts.files import file_sha256
from phasevae.cli.arguments import given, json_object, numbers
from phasevae.cli.options import Grey, Key, OutputJson, Size, Split, Standardize
from phasevae.errors import InputError
from phasevae.provenance.stages import provenance_record

if TYPE_CHECKING:
    from phasevae.spectrum.spectrum import Spectrum


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
    from phasevae.datasets.registry import build_dataset
    from phasevae.datasets.store import save_dataset

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
    built = build_dataset(kind, name=name, **merged)
    saved = save_dataset(built, output, provenance_record(output / "data.json", "dataset", entry=kind))
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
    from phasevae.datasets.registry import dataset_from_path
    from phasevae.spectrum.spectrum import spectrum_of, write_spectrum

    options = given({"size": size, "grey": grey, "key": key, "standardize": standardize})
    if moments and options:
        raise InputError(f"spectrum: {', '.join(options)}: belong to `phasevae moments`, not to --moments")
    if not moments and (basis is not None or len(data) > 1):
        raise InputError("spectrum: --basis and several DATA go with --moments")
    found = spectrum_of_parts(data, basis) if moments else spectrum_of(dataset_from_path(data[0], **options))
    saved = [path / "data.json" for path in data if (path / "data.json").is_file()]
    made_by = provenance_record(output, "moments" if moments else "spectrum", saved, data_sha256=found.data_sha256)
    write_spectrum(output, found, made_by)
    print(
        f"{output}: critical variance {found.critical_variance:.6g} +- {found.standard_errors[0]:.2g}, "
        f"trace {found.trace:.6g}, {found.n_samples} samples of {found.dimension} features"
    )


def moments(
    data: Annotated[Path, typer.Argument(help="A folder of `phasevae dataset`, a table, or images.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write, such as part1.safetensors.")],
    shard: Annotated[str, typer.Option(help="I/N: the I-th of N equal parts of the rows.")] = "1/1",
    basis: Annotated[Path | None, typer.Option(help="Second pass: the basis of `phasevae spectrum --moments`.")] = None,
    size: Size = None,
    grey: Grey = None,
    key: Key = None,
) -> None:
    """Compute what a part of the data contributes to the spectrum of the whole, for `phasevae spectrum --moments`.

    Example: phasevae moments results/mine --shard 3/8 -o part3.safetensors
    """
    from phasevae.datasets.registry import dataset_from_path
    from phasevae.datasets.store import load_dataset
    from phasevae.spectrum import sharded

    options = given({"size": size, "grey": grey, "key": key})
    # Only the rows of the shard are read of a saved data set.
    saved = (data / "data.json").is_file() and not options
    dataset = load_dataset(data) if saved else dataset_from_path(data, **options)
    part, rows = sharded.part_of(dataset, _shard(shard))
    if basis is None:
        found = sharded.moments(part, rows)
    else:
        found = sharded.shape(part, rows, sharded.read(basis, sharded.Basis), file_sha256(basis))
    sharded.write(output, found)
    print(f"{output}: rows {part.start} to {part.stop - 1} of {part.n_rows}, {rows.dimension} features")


def spectrum_of_parts(files: list[Path], basis: Path | None) -> Spectrum:
    """Spectrum from files of `phasevae moments`; after the first pass also the basis for the second, if it is given."""
    from phasevae.spectrum import sharded

    first = sharded.read(files[0], sharded.Moments, sharded.Shape)
    if isinstance(first, sharded.Shape):
        if basis is not None:
            raise InputError(f"--basis: goes with moments of the first pass, {files[0]} is of the second")
        return sharded.spectrum_of_shapes([sharded.read(file, sharded.Shape) for file in files])
    whole = sharded.basis_of(sharded.merge(sharded.read(file, sharded.Moments) for file in files))
    if basis is not None:
        sharded.write(basis, whole)
    return sharded.spectrum_of_basis(whole)


def _shard(text: str) -> tuple[int, int]:
    number, slash, count = text.partition("/")
    if not (slash and number.isdecimal() and count.isdecimal()):
        raise InputError(f"--shard: {text!r}, must be like 3/8, the third of eight")
    return int(number), int(count)
