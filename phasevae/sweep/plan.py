"""The plan of a sweep: which points there are, where each is stored and which are trained together.

A bucket is a set of points trained as one ensemble in one job. A point's bucket is a hash of its own path,
so adding a point to a sweep moves no other point: one bucket is run again, and in it one point is trained.
"""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phasevae.artifacts.files import describe_table, read_table, replacing
from phasevae.errors import InputError

SECOND_SEEDS = 1000
"""Added to the seeds of a sweep for its second pass; seeds of the first lie below."""


@dataclass(frozen=True)
class Point:
    """One model of a sweep. `sigma2` is None when it is given as `ratio` to the largest eigenvalue.

    `path` is relative to the data set's results folder and names the point's own folder.
    """

    sigma2: float | None
    ratio: float | None
    beta: float
    seed: int
    bucket: int
    path: str


def make_plan(settings: Mapping[str, Any], added: Mapping[float, Sequence[float]] | None = None) -> list[Point]:
    """All points of one data set's validated settings, sorted by beta, sigma2 (or ratio) and seed.

    `added` holds further values of sigma2 (or ratio) for each beta. Numbers are canonical: 0.1, 0.10 and 1e-1 are one
    point. Raises InputError when a point is given twice.
    """
    column = "ratio" if settings.get("sigma2_ratio") else "sigma2"
    key = "sigma2_ratio" if column == "ratio" else "sigma2"
    seeds = _distinct("seeds", map(int, settings["seeds"]))
    points = []
    for b in betas(settings):
        grid = _distinct(key, map(float, [*grid_values(settings), *(added or {}).get(b, [])]))
        for value, seed in itertools.product(grid, seeds):
            path = f"{column}={value!r},seed={seed}"
            path = f"points/beta={b!r},{path}" if isinstance(settings["beta"], list) else f"points/{path}"
            sigma2, ratio = (None, value) if column == "ratio" else (value, None)
            points.append(Point(sigma2, ratio, b, seed, bucket_of(path, settings["n_buckets"]), path))
    return points


def second_pass(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of the pass that brackets the sweep of `settings`: the same grid from fresh seeds, by the other way.

    A sweep that comes from the active side is bracketed from scratch, and the other way round. Raises InputError when
    a seed is so large that seeds of the two passes could coincide.
    """
    for seed in settings["seeds"]:
        if seed >= SECOND_SEEDS:
            raise InputError(
                f"seeds: {seed}, must be below {SECOND_SEEDS} with bracket: true, whose own seeds lie above"
            )
    schedule = "anneal" if settings["schedule"] == "scratch" else "scratch"
    return {**settings, "seeds": [seed + SECOND_SEEDS for seed in settings["seeds"]], "schedule": schedule}


def betas(settings: Mapping[str, Any]) -> list[float]:
    """The sweep's values of beta, ascending. Raises InputError when one is given twice."""
    beta = settings["beta"]
    return _distinct("beta", map(float, beta)) if isinstance(beta, list) else [float(beta)]


def grid_values(settings: Mapping[str, Any]) -> list[float]:
    """The sweep's values of sigma2_ratio, or else of sigma2, as they are given."""
    return settings.get("sigma2_ratio") or settings["sigma2"]


def bucket_of(path: str, n_buckets: int) -> int:
    """Bucket of a point: a hash of its path alone, the same on every machine."""
    return int.from_bytes(hashlib.sha256(path.encode()).digest()[:8], "big") % n_buckets


def plan_text(points: list[Point]) -> str:
    """Points as CSV: sigma2 (or ratio), beta, seed, bucket, path, in the order of `points`."""
    column = "ratio" if points and points[0].sigma2 is None else "sigma2"
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([column, "beta", "seed", "bucket", "path"])
    writer.writerows([getattr(point, column), point.beta, point.seed, point.bucket, point.path] for point in points)
    return stream.getvalue()


def write_plan(path: Path | str, points: list[Point], provenance: Mapping[str, Any] | None = None) -> None:
    """Write the table of `plan_text` to a file, and where it comes from beside it."""
    with replacing(path) as temporary:
        temporary.write_text(plan_text(points))
    if provenance is not None:
        describe_table(path, read_table(path), provenance)


def read_plan(path: Path | str) -> list[Point]:
    """Read a plan written by `write_plan`.

    Raises InputError that names the file, the line and the value when a column is missing, a number is not
    positive or not whole, or a path is given twice or leaves the results folder.
    """
    table = read_table(path, required=("beta", "seed", "bucket", "path"))
    column = next((name for name in ("sigma2", "ratio") if name in table.columns), None)
    if column is None:
        raise InputError(f"{path}: column 'sigma2' or 'ratio' is missing (found: {', '.join(table.columns)})")
    points = [_read_row(f"{path}: line {line}", column, row) for line, row in enumerate(table.to_dict("records"), 2)]
    try:
        _distinct("path", (point.path for point in points))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return points


def _distinct(name: str, values: Any) -> list:
    """Sorted values. Raises InputError when one occurs twice."""
    ordered = sorted(values)
    for first, second in itertools.pairwise(ordered):
        if first == second:
            raise InputError(f"{name}: {first} is given twice; remove one")
    return ordered


def _read_row(where: str, column: str, row: Mapping[str, Any]) -> Point:
    value, beta = (_number(where, name, row[name]) for name in (column, "beta"))
    seed, bucket = (_whole(where, name, row[name]) for name in ("seed", "bucket"))
    path = row["path"]
    if not isinstance(path, str) or not path.startswith("points/") or ".." in Path(path).parts:
        raise InputError(f"{where}: path {path!r}, must be a folder under points/")
    sigma2, ratio = (None, value) if column == "ratio" else (value, None)
    return Point(sigma2, ratio, beta, seed, bucket, path)


def _number(where: str, name: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not (math.isfinite(number) and number > 0):
        raise InputError(f"{where}: {name} {value!r}, must be a positive number")
    return number


def _whole(where: str, name: str, value: Any) -> int:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not (number >= 0 and number.is_integer()):
        raise InputError(f"{where}: {name} {value!r}, must be a whole number, 0 or more")
    return int(number)
