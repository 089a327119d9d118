"""The plan of a sweep: its points, where each is stored, and which are trained together.

A bucket is a set of points that one job trains as one ensemble. The bucket of a point is a hash of the point's own
path, so adding a point to a sweep moves no other point: one bucket runs again, and it trains one point.
"""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
from collections.abc import Iterable, Mapping, Sequence
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
    `beta` is None if the weight of KL is given as a `beta_ratio` to the critical one. `path` is the point's folder,
    relative to the results folder of the data set. `beta_top` is the weight of the top level of a hierarchy.
    """

    sigma2: float | None
    ratio: float | None
    beta: float | None
    seed: int
    bucket: int
    path: str
    beta_ratio: float | None = None
    beta_top: float | None = None


@dataclass(frozen=True)
class Grid:
    """The grid of a sweep.

    Attributes
    ----------
    column : str
        What is swept: sigma2, ratio, beta or beta_ratio; a column of the plan.
    key : str
        The key of the configuration that gives the values.
    values : list of float
        As given.
    others : list of float
        The values of beta that each of them is combined with, ascending; for a sweep over beta that of sigma2.
    """

    column: str
    key: str
    values: list[float]
    others: list[float]

    @property
    def over_beta(self) -> bool:
        """Whether the weight of KL is swept at a decoder variance of 1, as for all likelihoods but the Gaussian one."""
        return self.column.startswith("beta")

    @property
    def is_relative(self) -> bool:
        """Whether the values are relative to the largest eigenvalue of the spectrum."""
        return self.column.endswith("ratio")


def grid_of(settings: Mapping[str, Any]) -> Grid:
    """Return the grid of validated settings. Raises InputError if a value of beta is given twice."""
    beta = settings.get("beta", 1.0)
    for key, column in (("sigma2_ratio", "ratio"), ("sigma2", "sigma2")):
        if settings.get(key):
            others = _distinct("beta", map(float, beta)) if isinstance(beta, list) else [float(beta)]
            return Grid(column, key, settings[key], others)
    if settings.get("beta_ratio"):
        return Grid("beta_ratio", "beta_ratio", settings["beta_ratio"], [1.0])
    return Grid("beta", "beta", beta if isinstance(beta, list) else [beta], [1.0])


def make_plan(settings: Mapping[str, Any], added: Mapping[float, Sequence[float]] | None = None) -> list[Point]:
    """List all points of a sweep, sorted by beta_top, beta, sigma2 (or ratio) and seed.

    Parameters
    ----------
    settings : mapping
        Validated settings of one data set.
    added : mapping of float to sequence of float, optional
        Further values of the grid for each of its `others`.

    Returns
    -------
    list of Point
        Equal numbers are one point, however they are written: 0.1, 0.10 and 1e-1.

    Raises
    ------
    InputError
        If a point is given twice, and for more than MOST_POINTS points.
    """
    grid = grid_of(settings)
    check_number(grid.key, number_of_points(settings), "beta and seeds")
    seeds = _distinct("seeds", map(int, settings["seeds"]))
    points = []
    tops = betas_top(settings)
    for top, other in itertools.product(tops, grid.others):
        values = _distinct(grid.key, map(float, [*grid.values, *(added or {}).get(other, [])]))
        for value, seed in itertools.product(values, seeds):
            path = f"{grid.column}={value!r},seed={seed}"
            if not grid.over_beta and isinstance(settings["beta"], list):
                path = f"beta={other!r},{path}"
            path = f"beta_top={top!r},{path}" if len(tops) > 1 else path
            numbers = {"sigma2": None, "ratio": None, "beta": None, grid.column: value}
            numbers["sigma2" if grid.over_beta else "beta"] = other
            path = f"points/{path}"
            bucket = bucket_of(path, settings["n_buckets"])
            points.append(Point(**numbers, seed=seed, bucket=bucket, path=path, beta_top=top))
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


def betas_top(settings: Mapping[str, Any]) -> list[float] | list[None]:
    """The sweep's weights of the top level, ascending; a None without a hierarchy.

    Raises InputError if a value is given twice.
    """
    if settings.get("hierarchy") is None:
        return [None]
    given = settings["hierarchy"]["beta_top"]
    return _distinct("hierarchy.beta_top", map(float, given if isinstance(given, list) else [given]))


def number_of_points(settings: Mapping[str, Any]) -> int:
    """Number of points of a sweep, without those that a refinement adds."""
    grid = grid_of(settings)
    return len(betas_top(settings)) * len(grid.others) * len(grid.values) * len(settings["seeds"])


def check_number(key: str, n_points: int, others: str) -> None:
    """Check that a sweep is not too large.

    Parameters
    ----------
    key : str
        The key or argument that gives the grid.
    n_points : int
    others : str
        What else its points differ in.

    Raises
    ------
    InputError
        For more than MOST_POINTS points.
    """
    if n_points > MOST_POINTS:
        raise InputError(f"{key}: {n_points} points with {others}, must be at most {MOST_POINTS}")


def bucket_of(path: str, n_buckets: int) -> int:
    """Bucket of a point: a hash of its path alone, the same on every machine."""
    return int.from_bytes(hashlib.sha256(path.encode()).digest()[:8], "big") % n_buckets


def plan_text(points: list[Point]) -> str:
    """Points as CSV: sigma2 (or ratio), beta (or beta_ratio), seed, bucket, path, in the order of `points`.

    Those of a hierarchy have beta_top in addition.
    """
    variance = "ratio" if points and points[0].sigma2 is None else "sigma2"
    weight = "beta_ratio" if points and points[0].beta is None else "beta"
    columns = [variance, weight, "seed", "bucket", "path"]
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
    columns = [_one_of(("sigma2", "ratio"), table.columns, path), _one_of(("beta", "beta_ratio"), table.columns, path)]
    missing = dict.fromkeys({"sigma2", "ratio", "beta"} - {*columns})
    more = [name for name in ("beta_top",) if name in table.columns]
    rows = table[[*columns, "seed", "bucket", "path", *more]].to_dict("records")
    return [Point(**missing, **row) for row in rows]


def _one_of(names: tuple[str, str], columns: Iterable[str], path: Path | str) -> str:
    """The first of two columns that a table has."""
    for name in names:
        if name in columns:
            return name
    raise InputError(f"{path}: column '{names[0]}' or '{names[1]}' is missing (its columns: {', '.join(columns)})")


def _distinct(name: str, values: Any) -> list:
    """The values in ascending order. Raises InputError if a value occurs twice."""
    ordered = sorted(values)
    for first, second in itertools.pairwise(ordered):
        if first == second:
            raise InputError(f"{name}: {first} is given twice; remove one")
    return ordered
