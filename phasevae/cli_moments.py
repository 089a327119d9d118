"""Verb for data in parts: what one part contributes to the spectrum of the whole."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from phasevae import artifacts
from phasevae.arguments import given
from phasevae.cli_data import Grey, Key, Size
from phasevae.errors import InputError

if TYPE_CHECKING:
    from phasevae.spectrum import Spectrum


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
    from phasevae import datasets
    from phasevae import moments as partial

    options = given({"size": size, "grey": grey, "key": key})
    # Only the rows of the shard are read of a saved data set.
    saved = (data / "data.json").is_file() and not options
    dataset = datasets.load(data) if saved else datasets.from_path(data, **options)
    part, rows = partial.part_of(dataset, _shard(shard))
    if basis is None:
        found = partial.moments(part, rows)
    else:
        found = partial.shape(part, rows, partial.read(basis, partial.Basis), artifacts.file_sha256(basis))
    partial.write(output, found)
    print(f"{output}: rows {part.start} to {part.stop - 1} of {part.n_rows}, {rows.dimension} features")


def spectrum_of_parts(files: list[Path], basis: Path | None) -> Spectrum:
    """Spectrum from files of `phasevae moments`; after the first pass also the basis for the second, if it is given."""
    from phasevae import moments as partial

    first = partial.read(files[0], partial.Moments, partial.Shape)
    if isinstance(first, partial.Shape):
        if basis is not None:
            raise InputError(f"--basis: goes with moments of the first pass, {files[0]} is of the second")
        return partial.spectrum_of_shapes([partial.read(file, partial.Shape) for file in files])
    whole = partial.basis_of(partial.merge(partial.read(file, partial.Moments) for file in files))
    if basis is not None:
        partial.write(basis, whole)
    return partial.spectrum_of_basis(whole)


def _shard(text: str) -> tuple[int, int]:
    number, slash, count = text.partition("/")
    if not (slash and number.isdecimal() and count.isdecimal()):
        raise InputError(f"--shard: {text!r}, must be like 3/8, the third of eight")
    return int(number), int(count)
