"""The spectrum of a data set from parts that are computed separately and merged exactly.

Two passes over the parts give the same result as one computation over all rows. The first pass computes means and
covariance of each part; their merge is that of the whole. The second pass uses the eigenvectors of the whole and sums
powers of the principal components of each part, which give the standard errors.

References
----------
T. F. Chan, G. H. Golub and R. J. LeVeque, Algorithms for computing the sample variance, The American Statistician 37,
242 (1983).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phasevae.artifacts.tensors import check_tensors, read_tensors, write_tensors
from phasevae.datasets.base import Dataset, SampleStream, write_npy
from phasevae.datasets.feature_statistics import FeatureStatistics, feature_statistics
from phasevae.datasets.reading import Reading, joined_reading
from phasevae.datasets.samples import read_samples
from phasevae.errors import InputError
from phasevae.spectrum.moments import (
    covariance_matrix,
    eigendecomposition,
    power_sums,
    principal_components,
    shape_of_powers,
)
from phasevae.spectrum.spectrum import MOST_MEASURED, Spectrum, assemble_spectrum
from phasevae.spectrum.variance_proxy import MOST_ROWS, N_COMPONENTS, variance_proxy_ratio

_FEATURES = ("origin", "shift", "low", "high")
_AXES = dict.fromkeys((*_FEATURES, "eigenvalues"), "D") | {
    "covariance": "DD",
    "vectors": "Dk",
    "powers": "4k",
    "projections": "rp",
}
"""The axes of each array: D features, k components; four powers; r rows, p components."""


@dataclass(frozen=True)
class Part:
    """The rows from `start` to `stop`, exclusive, of a data set of `n_rows`."""

    name: str
    data_sha256: str
    start: int
    stop: int
    n_rows: int
    provenance: dict[str, Any]
    read: dict[str, Any] | None = None  # `Reading.to_json` of the data set


@dataclass(frozen=True)
class Moments:
    """Means and covariance (1/N) [D, D] of one or more parts."""

    parts: list[Part]
    features: FeatureStatistics
    covariance: NDArray


@dataclass(frozen=True)
class Basis:
    """The covariance of the whole in diagonal form: eigenvalues [D], descending, and leading vectors [D, k]."""

    parts: list[Part]
    features: FeatureStatistics
    eigenvalues: NDArray
    vectors: NDArray
    trace: float


@dataclass(frozen=True)
class Shape:
    """The contribution of a part to the shape of the principal components."""

    parts: list[Part]
    powers: NDArray  # `power_sums`, [4, k]
    projections: NDArray  # of some of its rows, [rows, 8]
    eigenvalues: NDArray
    trace: float
    basis_sha256: str  # which basis the components are from


def part_of(dataset: Dataset, shard: tuple[int, int] = (1, 1)) -> tuple[Part, SampleStream]:
    """Return a part of a data set and the stream of its rows.

    Parameters
    ----------
    dataset : Dataset
    shard : tuple of int
        Which part (counted from 1), and the number of equal parts.

    Raises
    ------
    InputError
        If there are fewer rows than parts.
    """
    if dataset.condition is not None:
        raise InputError(f"{dataset.name}: has a condition, must be used whole (phasevae spectrum)")
    number, count = shard
    n_rows = len(dataset.x)
    if not 1 <= number <= count <= n_rows:
        raise InputError(f"shard {number}/{count} of {n_rows} rows: must be I/N with 1 <= I <= N <= {n_rows}")
    start, stop = (number - 1) * n_rows // count, number * n_rows // count
    # That of data.npy, also if the data set is not saved.
    sha256 = dataset.sha256 or write_npy(dataset.x)
    read = None if dataset.reading is None else dataset.reading.to_json()
    part = Part(dataset.name, sha256, start, stop, n_rows, dataset.provenance, read)
    return part, read_samples(replace(dataset, x=dataset.x[start:stop]))


def moments(part: Part, rows: SampleStream) -> Moments:
    """Compute the first pass over a part. Raises InputError for unusable values or more than 20,000 features."""
    features = feature_statistics(rows, first_row=part.start)
    return Moments([part], features, covariance_matrix(rows, features))


def merge(moments_of_parts: Iterable[Moments]) -> Moments:
    """Merge the moments of all parts, in the memory of two. Raises InputError if they do not fit."""
    parts, merged, matrix = [], None, None
    for added in moments_of_parts:
        parts += added.parts
        if merged is None:
            merged, matrix = added.features, added.covariance.copy()
            continue
        first, second = merged, added.features
        if first.origin.shape != second.origin.shape:
            sizes = f"{second.origin.size} features, must have {first.origin.size}"
            raise InputError(f"{added.parts[0].name}: {sizes} as {parts[0].name} has")
        n = first.n_samples + second.n_samples
        weight = second.n_samples / n
        between = (second.origin - first.origin) + (second.shift - first.shift)
        matrix *= 1 - weight
        matrix += weight * added.covariance
        matrix += (weight * (1 - weight)) * np.outer(between, between)
        merged = FeatureStatistics(
            n_samples=n,
            origin=first.origin,
            shift=first.shift + weight * between,
            low=np.minimum(first.low, second.low),
            high=np.maximum(first.high, second.high),
            share_binary=(1 - weight) * first.share_binary + weight * second.share_binary,
        )
    _check_whole(parts)
    return Moments(parts, merged, matrix)


def basis_of(whole: Moments) -> Basis:
    """Compute eigenvalues and vectors of the whole. Raises InputError when every feature is constant."""
    eigenvalues, vectors = eigendecomposition(whole.covariance)
    if eigenvalues[0] == 0:
        raise InputError("data: every feature is constant, at least one must vary")
    leading = vectors[:, :MOST_MEASURED]
    return Basis(whole.parts, whole.features, eigenvalues, leading, float(np.trace(whole.covariance)))


def shape(part: Part, rows: SampleStream, basis: Basis, basis_sha256: str) -> Shape:
    """Compute the second pass over a part.

    Parameters
    ----------
    part : Part
    rows : SampleStream
        Its rows.
    basis : Basis
        The eigenvectors of the whole.
    basis_sha256 : str
        The sha256 of the file of the basis.

    Raises
    ------
    InputError
        If the basis is of other data.
    """
    if part not in basis.parts:
        raise InputError(f"{part.name}: rows {part.start} to {part.stop} are not among those of the basis")
    powers = power_sums(rows, basis.features, basis.vectors, first_row=part.start)
    n_components = basis.vectors[:, :N_COMPONENTS]
    projections = principal_components(rows, basis.features, n_components, MOST_ROWS, first_row=part.start)
    return Shape(
        [part], powers, projections, eigenvalues=basis.eigenvalues, trace=basis.trace, basis_sha256=basis_sha256
    )


def spectrum_of_basis(basis: Basis) -> Spectrum:
    """Return the spectrum after the first pass, with the standard errors of Gaussian data and no higher moments."""
    unknown = np.full(basis.vectors.shape[1], np.nan)
    return _named(basis.parts, basis.eigenvalues, basis.trace, (unknown, unknown), None)


def spectrum_of_shapes(shapes: Sequence[Shape]) -> Spectrum:
    """Return the spectrum after the second pass. Raises InputError unless the parts are all rows of one basis."""
    shapes = sorted(shapes, key=lambda shape: shape.parts[0].start)
    parts = [part for shape in shapes for part in shape.parts]
    for shape in shapes:
        if shape.basis_sha256 != shapes[0].basis_sha256:
            raise InputError(f"{shape.parts[0].name}: moments about another basis than those of {parts[0].name}")
    _check_whole(parts)
    eigenvalues = shapes[0].eigenvalues
    skewness_and_kurtosis = shape_of_powers(sum(shape.powers for shape in shapes), eigenvalues)
    ratio = variance_proxy_ratio(np.concatenate([shape.projections for shape in shapes]))
    return _named(parts, eigenvalues, shapes[0].trace, skewness_and_kurtosis, float(eigenvalues[0] * ratio))


def write(path: Path | str, content: Moments | Basis | Shape) -> None:
    """Write the result of a pass as safetensors; `read` is the inverse."""
    arrays, metadata = {}, {"kind": type(content).__name__}
    for key, value in vars(content).items():
        if isinstance(value, FeatureStatistics):
            arrays |= {name: getattr(value, name) for name in _FEATURES}
            metadata |= {"n_samples": value.n_samples, "share_binary": value.share_binary}
        elif isinstance(value, np.ndarray):
            arrays[key] = value
        else:
            metadata[key] = [asdict(part) for part in value] if key == "parts" else value
    write_tensors(path, arrays, metadata)


def read(path: Path | str, *kinds: type) -> Any:
    """Read a file of `write`.

    Parameters
    ----------
    path : Path or str
    *kinds : type
        What it may hold: `Moments`, `Basis` or `Shape`.

    Raises
    ------
    InputError
        If it holds anything else or is damaged. It names the file.
    """
    arrays, metadata = read_tensors(path)
    named = metadata.pop("kind", None) if isinstance(metadata, dict) else None
    kind = next((kind for kind in kinds if kind.__name__ == named), None)
    if kind is None:
        names = " or ".join(kind.__name__.lower() for kind in kinds)
        raise InputError(f"{path}: must be {names} of `phasevae moments`")
    check_tensors(path, arrays, metadata, "moments", _AXES)
    try:
        values = {**arrays, **metadata, "parts": [Part(**part) for part in metadata["parts"]]}
        if kind is not Shape:
            names = (*_FEATURES, "n_samples", "share_binary")
            values["features"] = FeatureStatistics(**{name: values.pop(name) for name in names})
        return kind(**values)
    except (KeyError, TypeError) as error:
        raise InputError(f"{path}: not a file of `phasevae moments`, or damaged ({error})") from None


def _check_whole(parts: Sequence[Part]) -> None:
    """Check that the parts are every row of every data set exactly once."""
    if not parts:
        raise InputError("moments: no parts, must be at least one")
    next_row = {part.data_sha256: 0 for part in parts}
    for part in sorted(parts, key=lambda part: part.start):
        expected = next_row[part.data_sha256]
        if part.start != expected:
            mistake = "are given twice" if part.start < expected else "are missing"
            first, last = sorted((part.start, expected))
            raise InputError(f"{part.name}: rows {first} to {last - 1} {mistake}; each shard must be given once")
        next_row[part.data_sha256] = part.stop
    for part in parts:
        if next_row[part.data_sha256] != part.n_rows:
            rows = f"rows {next_row[part.data_sha256]} to {part.n_rows - 1}"
            raise InputError(f"{part.name}: {rows} are missing; each shard must be given once")


def _named(
    parts: Sequence[Part],
    eigenvalues: NDArray,
    trace: float,
    skewness_and_kurtosis: tuple[NDArray, NDArray],
    variance_proxy: float | None,
) -> Spectrum:
    """A spectrum with name, sha256 and provenance of its data; for several data sets, with a list of them."""
    n_samples = sum(part.stop - part.start for part in parts)
    spectrum = assemble_spectrum(eigenvalues, trace, n_samples, *skewness_and_kurtosis, variance_proxy)
    if len({part.data_sha256 for part in parts}) == 1:
        part = parts[0]
        reading = Reading.from_json(part.read)
        return replace(
            spectrum, name=part.name, data_sha256=part.data_sha256, provenance=part.provenance, reading=reading
        )
    sources = {part.data_sha256: {"name": part.name, "n_samples": part.n_rows, **part.provenance} for part in parts}
    listed = [{"data_sha256": sha256, **source} for sha256, source in sources.items()]
    readings = {part.data_sha256: (part.name, Reading.from_json(part.read)) for part in parts}
    joined = joined_reading(list(readings.values()))
    return replace(spectrum, name=f"{len(sources)} data sets", provenance={"parts": listed}, reading=joined)
