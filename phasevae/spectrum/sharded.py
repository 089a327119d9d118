"""The spectrum of a data set in parts, each computed where its rows are, merged exactly.

Two passes over the parts give what one computation over all rows does. The first finds each part's means and
covariance, whose merge is that of the whole (Chan, Golub & LeVeque, The American Statistician 37, 242, 1983). The
second, with the eigenvectors of the whole, sums powers of each part's principal components, which give the standard
errors.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phasevae.artifacts.files import read_tensors, write_tensors
from phasevae.datasets.base import Dataset, SampleStream, write_npy
from phasevae.datasets.feature_statistics import FeatureStatistics, feature_statistics
from phasevae.datasets.streams import sample_stream
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


@dataclass(frozen=True)
class Part:
    """Rows `start` up to `stop`, of `n_rows`, of a data set."""

    name: str
    data_sha256: str
    start: int
    stop: int
    n_rows: int
    provenance: dict[str, Any]


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
    """A part's `covariance.power_sums` [4, k] of the principal components, and projections [rows, 8] of some of its
    rows; `basis_sha256` says of which basis."""

    parts: list[Part]
    powers: NDArray
    projections: NDArray
    eigenvalues: NDArray
    trace: float
    basis_sha256: str


def part_of(dataset: Dataset, shard: tuple[int, int] = (1, 1)) -> tuple[Part, SampleStream]:
    """Shard `shard[0]` (counted from 1) of `shard[1]` of a data set: what it is, and its rows.

    Raises InputError when there are fewer rows than shards.
    """
    number, count = shard
    n_rows = len(dataset.x)
    if not 1 <= number <= count <= n_rows:
        raise InputError(f"shard {number}/{count} of {n_rows} rows: must be I/N with 1 <= I <= N <= {n_rows}")
    start, stop = (number - 1) * n_rows // count, number * n_rows // count
    # The bytes of data.npy that this data set has, or would have.
    sha256 = dataset.sha256 or write_npy(dataset.x)
    part = Part(dataset.name, sha256, start, stop, n_rows, dataset.provenance)
    return part, replace(sample_stream(dataset.x[start:stop]), label=dataset.name or "data")


def moments(part: Part, rows: SampleStream) -> Moments:
    """First pass over a part. Raises InputError for values that are not finite or more than 20,000 features."""
    found = feature_statistics(rows, of_part=True)
    return Moments([part], found, covariance_matrix(rows, found))


def merge(found: Iterable[Moments]) -> Moments:
    """Moments of all parts together, in the memory of two. Raises InputError when the features differ."""
    parts, merged, matrix = [], None, None
    for one in found:
        parts += one.parts
        if merged is None:
            merged, matrix = one.features, one.covariance.copy()
            continue
        first, second = merged, one.features
        if first.origin.shape != second.origin.shape:
            sizes = f"{second.origin.size} features, must have {first.origin.size}"
            raise InputError(f"{one.parts[0].name}: {sizes} as {parts[0].name} has")
        n = first.n_samples + second.n_samples
        weight = second.n_samples / n
        between = (second.origin - first.origin) + (second.shift - first.shift)
        matrix *= 1 - weight
        matrix += weight * one.covariance
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
    """Eigenvalues and vectors. Raises InputError when every feature is constant."""
    eigenvalues, vectors = eigendecomposition(whole.covariance)
    if eigenvalues[0] == 0:
        raise InputError("data: every feature is constant, at least one must vary")
    leading = vectors[:, :MOST_MEASURED]
    return Basis(whole.parts, whole.features, eigenvalues, leading, float(np.trace(whole.covariance)))


def shape(part: Part, rows: SampleStream, basis: Basis, basis_sha256: str) -> Shape:
    """Second pass over a part. Raises InputError when the basis is of other data."""
    if part not in basis.parts:
        raise InputError(f"{part.name}: rows {part.start} to {part.stop} are not among those of the basis")
    powers = power_sums(rows, basis.features, basis.vectors, first_row=part.start)
    n_components = basis.vectors[:, :N_COMPONENTS]
    projections = principal_components(rows, basis.features, n_components, MOST_ROWS, first_row=part.start)
    return Shape(
        [part], powers, projections, eigenvalues=basis.eigenvalues, trace=basis.trace, basis_sha256=basis_sha256
    )


def spectrum_of_basis(basis: Basis) -> Spectrum:
    """The spectrum after the first pass: with the standard errors of Gaussian data, and no moments of higher order."""
    unknown = np.full(basis.vectors.shape[1], np.nan)
    return _named(basis.parts, basis.eigenvalues, basis.trace, (unknown, unknown), None)


def spectrum_of_shapes(found: Sequence[Shape]) -> Spectrum:
    """The spectrum after the second pass, that of the whole. Raises InputError when the parts are not all of the rows
    of one basis."""
    found = sorted(found, key=lambda one: one.parts[0].start)
    parts = [part for one in found for part in one.parts]
    for one in found:
        if one.basis_sha256 != found[0].basis_sha256:
            raise InputError(f"{one.parts[0].name}: moments about another basis than those of {parts[0].name}")
    _check_whole(parts)
    skewness, kurtosis = shape_of_powers(sum(one.powers for one in found), found[0].eigenvalues)
    ratio = variance_proxy_ratio(np.concatenate([one.projections for one in found]))
    eigenvalues = found[0].eigenvalues
    return _named(parts, eigenvalues, found[0].trace, (skewness, kurtosis), float(eigenvalues[0] * ratio))


def write(path: Path | str, found: Moments | Basis | Shape) -> None:
    """Write any of the three as safetensors."""
    arrays, metadata = {}, {"kind": type(found).__name__}
    for key, value in vars(found).items():
        if isinstance(value, FeatureStatistics):
            arrays |= {name: getattr(value, name) for name in _FEATURES}
            metadata |= {"n_samples": value.n_samples, "share_binary": value.share_binary}
        elif isinstance(value, np.ndarray):
            arrays[key] = value
        else:
            metadata[key] = [asdict(part) for part in value] if key == "parts" else value
    write_tensors(path, arrays, metadata)


def read(path: Path | str, *kinds: type) -> Any:
    """Read what `write` wrote, of one of `kinds`. Raises InputError that names the file."""
    arrays, metadata = read_tensors(path)
    known = {kind.__name__: kind for kind in (Moments, Basis, Shape)}
    kind = known.get(metadata.pop("kind", None)) if isinstance(metadata, dict) else None
    if kind not in kinds:
        raise InputError(f"{path}: must be {' or '.join(one.__name__.lower() for one in kinds)} of `phasevae moments`")
    try:
        values = {**arrays, **metadata, "parts": [Part(**part) for part in metadata["parts"]]}
        if kind is not Shape:
            names = (*_FEATURES, "n_samples", "share_binary")
            values["features"] = FeatureStatistics(**{name: values.pop(name) for name in names})
        return kind(**values)
    except (KeyError, TypeError) as error:
        raise InputError(f"{path}: not a file of `phasevae moments`, or damaged ({error})") from None


def _check_whole(parts: Sequence[Part]) -> None:
    """Every row of every data set exactly once."""
    if not parts:
        raise InputError("moments: no parts, must be at least one")
    wanted = {part.data_sha256: 0 for part in parts}
    for part in sorted(parts, key=lambda part: part.start):
        expected = wanted[part.data_sha256]
        if part.start != expected:
            told = "are given twice" if part.start < expected else "are missing"
            first, last = sorted((part.start, expected))
            raise InputError(f"{part.name}: rows {first} to {last - 1} {told}; each shard must be given once")
        wanted[part.data_sha256] = part.stop
    for part in parts:
        if wanted[part.data_sha256] != part.n_rows:
            rows = f"rows {wanted[part.data_sha256]} to {part.n_rows - 1}"
            raise InputError(f"{part.name}: {rows} are missing; each shard must be given once")


def _named(
    parts: Sequence[Part],
    eigenvalues: NDArray,
    trace: float,
    shape: tuple[NDArray, NDArray],
    variance_proxy: float | None,
) -> Spectrum:
    """A spectrum with the name, sha256 and provenance of its data; of several data sets, with what they were."""
    n_samples = sum(part.stop - part.start for part in parts)
    found = assemble_spectrum(eigenvalues, trace, n_samples, *shape, variance_proxy)
    if len({part.data_sha256 for part in parts}) == 1:
        part = parts[0]
        return replace(found, name=part.name, data_sha256=part.data_sha256, provenance=part.provenance)
    sources = {part.data_sha256: {"name": part.name, "n_samples": part.n_rows, **part.provenance} for part in parts}
    listed = [{"data_sha256": sha256, **source} for sha256, source in sources.items()]
    return replace(found, name=f"{len(sources)} data sets", provenance={"parts": listed})
