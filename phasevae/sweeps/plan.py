"""The plan of a sweep: its points, where each is stored, and which are trained together.

A bucket is a set of points that one job trains as one ensemble. The bucket of a point is a hash of the point's own
path, so adding a point to a sweep moves no other point: one bucket runs again, and it trains one point.
"""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phasevae.artifacts.files import replacing
from phasevae.artifacts.tables import describe_table, read_table
from phasevae.errors import InputError

SECOND_SEEDS = 1000
"""Added to the seeds of a sweep for the points that bracket it; the sweep's own seeds lie below."""

MOST_POINTS = 20_000
"""Most points of a sweep. Snakemake takes about 3 ms and 40 kB for each point before the first job starts."""


@dataclass(frozen=True)
class Point:
    """One planned model of a sweep.

    `sigma2` is None if the decoder variance is given as a `ratio` to the largest eigenvalue, and the other way round.
    `path` is the point's folder, relative to the results folder of the data set. `beta_top` is the weight of the top
    level of a hierarchy.
    """

    sigma2: float | None
    ratio: float | None
    beta: float
    seed: int
    bucket: int
    path: str
    beta_top: float | None = None


def make_plan(settings: Mapping[str, Any], added: Mapping[float, Sequence[float]] | None = None) -> list[Point]:
    """List all points of a sweep, sorted by beta_top, beta, sigma2 (or ratio) and seed.

    Parameters
    ----------
    settings : mapping
        Validated settings of one data set.
    added : mapping of float to sequence of float, optional
        Further values of sigma2 (or ratio) for each beta.

    Returns
    -------
    list of Point
        Equal numbers are one point, however they are written: 0.1, 0.10 and 1e-1.

    Raises
    ------
    InputError
        If a point is given twice, and for more than MOST_POINTS points.
    """
    n_points = number_of_points(settings)
    column = "ratio" if settings.get("sigma2_ratio") else "sigma2"
    key = "sigma2_ratio" if column == "ratio" else "sigma2"
    if n_points > MOST_POINTS:
        raise InputError(f"{key}: {n_points} points with beta and seeds, must be at most {MOST_POINTS}")
    seeds = _distinct("seeds", map(int, settings["seeds"]))
    points = []
    for top, b in itertools.product(betas_top(settings), betas(settings)):
        grid = _distinct(key, map(float, [*grid_values(settings), *(added or {}).get(b, [])]))
        for value, seed in itertools.product(grid, seeds):
            path = f"{column}={value!r},seed={seed}"
            path = f"beta={b!r},{path}" if isinstance(settings["beta"], list) else path
            path = f"points/beta_top={top!r},{path}" if len(betas_top(settings)) > 1 else f"points/{path}"
            sigma2, ratio = (None, value) if column == "ratio" else (value, None)
            points.append(Point(sigma2, ratio, b, seed, bucket_of(path, settings["n_buckets"]), path, top))
    return points


def second_pass(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of the points that bracket a sweep: the same grid, fresh seeds and the other schedule.

    An annealed sweep is bracketed by one from scratch, and the other way round. Raises InputError if a seed is so large
    that the seeds of both could coincide.
    """
    for seed in settings["seeds"]:
        if seed >= SECOND_SEEDS:
            raise InputError(
                f"seeds: {seed}, must be below {SECOND_SEEDS} with bracket: true, whose own seeds lie above"
            )
    schedule = "anneal" if settings["schedule"] == "scratch" else "scratch"
    return {**settings, "seeds": [seed + SECOND_SEEDS for seed in settings["seeds"]], "schedule": schedule}


def betas(settings: Mapping[str, Any]) -> list[float]:
    """The sweep's values of beta, ascending. Raises InputError if a value is given twice."""
    return _weights("beta", settings["beta"])


def betas_top(settings: Mapping[str, Any]) -> list[float] | list[None]:
    """The sweep's weights of the top level, ascending; a None without a hierarchy. See `betas`."""
    hierarchy = settings.get("hierarchy")
    return [None] if hierarchy is None else _weights("hierarchy.beta_top", hierarchy["beta_top"])


def number_of_points(settings: Mapping[str, Any]) -> int:
    """Number of points of a sweep, without those that a refinement adds."""
    weights = len(betas_top(settings)) * len(betas(settings))
    return weights * len(grid_values(settings)) * len(settings["seeds"])


def grid_values(settings: Mapping[str, Any]) -> list[float]:
    """The sweep's values of sigma2_ratio, or of sigma2 where there are none, as given."""
    return settings.get("sigma2_ratio") or settings["sigma2"]


def bucket_of(path: str, n_buckets: int) -> int:
    """Bucket of a point: a hash of its path alone, the same on every machine."""
    return int.from_bytes(hashlib.sha256(path.encode()).digest()[:8], "big") % n_buckets


def plan_text(points: list[Point]) -> str:
    """Points as CSV: sigma2 (or ratio), beta, seed, bucket, path, in the order of `points`; beta_top of a hierarchy."""
    columns = _columns("ratio" if points and points[0].sigma2 is None else "sigma2")
    if points and points[0].beta_top is not None:
        columns.append("beta_top")
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([getattr(point, column) for column in columns] for point in points)
    return stream.getvalue()


def write_plan(path: Path | str, points: list[Point], provenance: Mapping[str, Any] | None = None) -> None:
    """Write the table of `plan_text`, and its provenance to the metadata file next to it."""
    with replacing(path) as temporary:
        temporary.write_text(plan_text(points), encoding="utf-8")
        describe_table(path, read_table(temporary, "plan"), provenance, temporary)


def read_plan(path: Path | str) -> list[Point]:
    """Read a plan written by `write_plan`.

    Raises InputError that names the file, the line, the column and the value if a point cannot be one.
    """
    table = read_table(path, "plan")
    column = next((name for name in ("sigma2", "ratio") if name in table.columns), None)
    if column is None:
        raise InputError(f"{path}: column 'sigma2' or 'ratio' is missing (its columns: {', '.join(table.columns)})")
    other = "ratio" if column == "sigma2" else "sigma2"
    more = [name for name in ("beta_top",) if name in table.columns]
    rows = table[_columns(column) + more].to_dict("records")
    return [Point(**{other: None, column: row.pop(column)}, **row) for row in rows]


def _columns(value: str) -> list[str]:
    return [value, "beta", "seed", "bucket", "path"]


def _weights(name: str, given: float | list[float]) -> list[float]:
    return _distinct(name, map(float, given)) if isinstance(given, list) else [float(given)]


def _distinct(name: str, values: Any) -> list:
    """The values in ascending order. Raises InputError if a value occurs twice."""
    ordered = sorted(values)
    for first, second in itertools.pairwise(ordered):
        if first == second:
            raise InputError(f"{name}: {first} is given twice; remove one")
    return ordered
