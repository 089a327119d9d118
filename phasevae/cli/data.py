"""Verbs for data: build a data set, compute its spectrum."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from phasevae.artifacts.files import file_sha256
from phasevae.cli.arguments import given, json_object, named_values, numbers
from phasevae.cli.options import OutputJson, reads_data
from phasevae.errors import InputError
from phasevae.provenance.stages import provenance_record
from phasevae.sweeps.config_schema import dataset_rules
from phasevae.sweeps.settings import GAUSSIAN, check_likelihood, own_module
from phasevae.wording import counted, plain, with_error

if TYPE_CHECKING:
    from phasevae.spectrum.spectrum import Spectrum


@reads_data()
def dataset(
    kind: Annotated[str, typer.Argument(help="A kind of data, such as synthetic, digits or array.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write data.npy and data.json to.")],
    path: Annotated[Path | None, typer.Argument(help="images, array: file or folder to read.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the data set (default: its kind).")] = None,
    eigenvalues: Annotated[str | None, typer.Option(help="synthetic, mixture: eigenvalues of the covariance.")] = None,
    condition_eigenvalues: Annotated[
        str | None, typer.Option(help="conditional: eigenvalues of each class, such as 1,0.1/0.4,0.1.")
    ] = None,
    spread: Annotated[float | None, typer.Option(help="conditional: standard deviation of the classes' means.")] = None,
    n_samples: Annotated[int | None, typer.Option(help="Synthetic data: number of samples.")] = None,
    seed: Annotated[int | None, typer.Option(help="Synthetic data: random seed.")] = None,
    separation: Annotated[float | None, typer.Option(help="mixture: distance of the components, 0 to 1.")] = None,
    weights: Annotated[str | None, typer.Option(help="clusters, conditional: probabilities of the classes.")] = None,
    noise: Annotated[float | None, typer.Option(help="clusters: standard deviation around each cluster.")] = None,
    rates: Annotated[str | None, typer.Option(help="counts: mean count of each feature.")] = None,
    log_variances: Annotated[str | None, typer.Option(help="counts: variances of the log rates.")] = None,
    dispersion: Annotated[float | None, typer.Option(help="counts: r of a negative binomial.")] = None,
    binarize: Annotated[float | None, typer.Option(help="digits: 1 for pixels above this value, else 0.")] = None,
    archive: Annotated[Path | None, typer.Option(help="cifar10: local copy instead of a download.")] = None,
    split: Annotated[str | None, typer.Option(help="cifar10: train | test | all.")] = None,
    *,
    reading: dict[str, Any],
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
        "condition_eigenvalues": _lists(condition_eigenvalues),
        "spread": spread,
        "separation": separation,
        "weights": numbers("--weights", weights),
        "noise": noise,
        "rates": numbers("--rates", rates),
        "log_variances": numbers("--log-variances", log_variances),
        "dispersion": dispersion,
        "binarize": binarize,
        "archive": archive,
        "split": split,
    }
    merged = {**json_object("--options", options), **given(chosen), **reading}
    if "path" not in merged and kind in dataset_rules()["path"]["required_for"]:
        form = shlex.join(["phasevae", "dataset", kind, "PATH", "-o", str(output)])
        raise InputError(f"PATH: missing, must be the file or folder to read: {form}")
    built = build_dataset(kind, name=name, **merged)
    saved = save_dataset(built, output, provenance_record(output / "data.json", "dataset", entry=kind))
    n, dimension = saved.x.shape
    print(f"{saved.reading}\n{output}: {saved.name}, {counted(n, 'sample')} of {counted(dimension, 'feature')}")


@reads_data()
def spectrum(
    data: Annotated[
        list[Path], typer.Argument(help="Folder of `phasevae dataset`, table, images, or files of moments.")
    ],
    output: OutputJson,
    moments: Annotated[bool, typer.Option("--moments", help="DATA are files of `phasevae moments`.")] = False,
    basis: Annotated[Path | None, typer.Option(help="With --moments: file to write for the second pass.")] = None,
    likelihood: Annotated[
        str | None, typer.Option(help="Of the scores of this likelihood (see `train`) instead of the data.")
    ] = None,
    likelihood_options: Annotated[str | None, typer.Option(help="Its options, such as dispersion=2.")] = None,
    *,
    reading: dict[str, Any],
) -> None:
    """Compute the covariance eigenvalues of data with standard errors. The largest is the critical variance. With
    --likelihood: those of its whitened scores, of which the largest is the critical KL weight.

    Example: phasevae spectrum photos.tar.xz --size 8 --grey --standardize per-feature -o spectrum.json
    """
    from phasevae.datasets.registry import dataset_from_path
    from phasevae.datasets.store import is_saved
    from phasevae.spectrum.measure import spectrum_of, warn_of_reading
    from phasevae.spectrum.sampling_bias import bias_warning
    from phasevae.spectrum.spectrum_files import write_spectrum

    if moments and reading:
        raise InputError(f"spectrum: {', '.join(reading)}: must be given to `phasevae moments`, not with --moments")
    if not moments and (basis is not None or len(data) > 1):
        raise InputError("spectrum: --basis and several DATA go with --moments")
    stage, of = "moments" if moments else "spectrum", named_values("--likelihood-options", likelihood_options) or {}
    if likelihood in (None, GAUSSIAN) and of:
        raise InputError("--likelihood-options: goes with --likelihood other than gaussian, must be left out")
    if moments:
        if likelihood not in (None, GAUSSIAN):
            raise InputError("--likelihood: must be left out with --moments")
        result = spectrum_of_parts(data, basis)
        warn_of_reading(result.reading)
    elif likelihood in (None, GAUSSIAN):
        result = spectrum_of(dataset_from_path(data[0], **reading))
    else:
        from phasevae.prediction.score_spectrum import spectrum_of_likelihood

        stage = "scores"
        check_likelihood(likelihood, of)
        result = spectrum_of_likelihood(dataset_from_path(data[0], **reading), likelihood, of)
    saved = [path / "data.json" for path in data if is_saved(path)]
    if (module := own_module({"likelihood": likelihood or GAUSSIAN})) is not None:
        saved.append(module)
    made_by = provenance_record(output, stage, saved, data_sha256=result.data_sha256)
    write_spectrum(output, result, made_by)
    if result.reading is not None:
        print(result.reading)
    what = "critical variance" if result.likelihood is None else "critical KL weight"
    for each in result.conditions:
        print(f"condition {each.value}: {100 * each.share:.3g} % of the samples, {what} {_critical(each.spectrum)}")
    of = "" if result.likelihood is None else f"{likelihood}, "
    print(
        f"{output}: {of}{what} {_critical(result.leading)}, trace {plain(result.trace)}, "
        f"{counted(result.n_samples, 'sample')} of {counted(result.dimension, 'feature')}"
    )
    if (warning := bias_warning(result.leading)) is not None:
        print(f"warning: {warning}")


@reads_data(with_condition=False)
def moments(
    data: Annotated[Path, typer.Argument(help="Folder of `phasevae dataset`, table, or images.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write, such as part1.safetensors.")],
    shard: Annotated[str, typer.Option(help="I/N: part I of N equal parts of the rows.")] = "1/1",
    basis: Annotated[Path | None, typer.Option(help="Second pass: file of `phasevae spectrum --basis`.")] = None,
    *,
    reading: dict[str, Any],
) -> None:
    """Compute the contribution of a part of the data to the spectrum, for `phasevae spectrum --moments`.

    Example: phasevae moments results/mine --shard 3/8 -o part3.safetensors
    """
    from phasevae.datasets.registry import dataset_from_path
    from phasevae.datasets.store import is_saved, load_dataset
    from phasevae.spectrum import sharded

    # Of a saved data set only the rows of the shard are read.
    dataset = load_dataset(data) if is_saved(data) and not reading else dataset_from_path(data, **reading)
    part, rows = sharded.part_of(dataset, _shard(shard))
    if basis is None:
        result = sharded.moments(part, rows)
    else:
        result = sharded.shape(part, rows, sharded.read(basis, sharded.Basis), file_sha256(basis))
    sharded.write(output, result)
    if dataset.reading is not None:
        print(dataset.reading)
    print(f"{output}: rows {part.start} to {part.stop - 1} of {part.n_rows}, {counted(rows.dimension, 'feature')}")


def spectrum_of_parts(files: list[Path], basis: Path | None) -> Spectrum:
    """Compute the spectrum from files of `phasevae moments`.

    Parameters
    ----------
    files : list of Path
        All parts of a pass.
    basis : Path or None
        After the first pass: file to write for the second pass.
    """
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


def _critical(spectrum: Spectrum) -> str:
    return with_error(spectrum.critical_variance, float(spectrum.standard_errors[0]))


def _lists(text: str | None) -> list[list[float]] | None:
    """Lists of numbers with slashes between; None stays None."""
    return None if text is None else [numbers("--condition-eigenvalues", part) for part in text.split("/")]


def _shard(text: str) -> tuple[int, int]:
    number, slash, count = text.partition("/")
    if not (slash and number.isdecimal() and count.isdecimal()):
        raise InputError(f"--shard: {text!r}, must be like 3/8, the third of eight parts")
    return int(number), int(count)
