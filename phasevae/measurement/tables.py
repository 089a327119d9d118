"""Tables of finished points: one row per point, per latent or per record of the training, and the time it took."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from phasevae.artifacts.files import read_json
from phasevae.artifacts.tables import read_tables
from phasevae.errors import InputError
from phasevae.sweeps.convergence import is_converged
from phasevae.sweeps.digest import point_digest
from phasevae.sweeps.points import POINT_FILES, Task
from phasevae.sweeps.settings import GAUSSIAN, Member, Settings
from phasevae.theory.relevance import relevance_spectrum
from phasevae.wording import counted

_IDENTITY = ("sigma2", "beta", "seed")
_SWEEP = (
    *_IDENTITY,
    "elbo",
    "kl",
    "mse",
    "log_likelihood",
    "log_likelihood_standard_error",
    "collapsed_elbo",
    "elbo_gap",
    "elbo_gap_standard_error",
    "active_dims",
    "samples",
)
_COLUMNS = (*_SWEEP, "converged")
_RESIDUAL = ("residual_edge", "residual_edge_standard_error", "residual_margin")
_LATENT = {"kl": "kl_per_dim", "latent_variance": "latent_variance", "mean_variance": "mean_variance"}
_REQUIRED = (*_SWEEP, *_LATENT.values(), "mean_covariance", "convergence", "settings", "config_digest", "provenance")

_POINT_NAME = re.compile(r"seed=\d+$")
"""How the name of a point's folder ends."""


def read_planned(tasks: Sequence[Task]) -> list[dict[str, Any]]:
    """Read the points of a plan. Raises InputError that names a point that is missing or belongs to another plan."""
    points = []
    for task in tasks:
        path = task.folder / "point.json"
        point = _read(path)
        if point["config_digest"] != task.digest:
            raise InputError(
                f"{path}: digest {point['config_digest'][:12]}..., the plan's is {task.digest[:12]}...; train it again"
            )
        points.append({**point, "folder": task.folder})
    return points


def read_folder(folder: Path | str) -> list[dict[str, Any]]:
    """Read all points below a folder, which must belong to one sweep: equal settings, data and code.

    Folders of points that are not finished are left out with a warning: a sweep that is still trained has some.

    Raises InputError that names the folder if it has no points, or the point that is damaged or of another sweep.
    """
    paths, unfinished = _point_folders(Path(folder))
    if not paths:
        raise InputError(f"{folder}: holds no point.json, must be a folder of trained points")
    if unfinished:
        others = f" and {counted(len(unfinished) - 1, 'other folder')}" if len(unfinished) > 1 else ""
        have, theirs, are = ("have", "their", "are") if others else ("has", "its", "is")
        warnings.warn(
            f"{unfinished[0]}{others} {have} no point.json and {are} left out: {theirs} training has not ended",
            stacklevel=2,
        )
    points = [{**_read(path), "folder": path.parent} for path in paths]
    for path, point in zip(paths, points, strict=True):
        member = Member(*(point[key] for key in _IDENTITY), point.get("beta_top"))
        origin = point["provenance"]
        digest = point_digest(Settings.from_keys(point["settings"]), member, origin["data_sha256"], origin["code_hash"])
        if digest != point["config_digest"]:
            raise InputError(f"{path}: digest {point['config_digest'][:12]}..., its own keys give {digest[:12]}...")
        for name, mine, first in (
            ("settings", point["settings"], points[0]["settings"]),
            *((key, origin[key], points[0]["provenance"][key]) for key in ("data_sha256", "code_hash")),
        ):
            if mine != first:
                raise InputError(f"{path}: {name} differs from that of {paths[0]}; collect one sweep at a time")
    return points


def _point_folders(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return every point.json below `folder`, and the folders that have the name or files of a point, but none."""
    finished, unfinished = [], []
    for place, _, names in os.walk(folder):
        if "point.json" in names:
            finished.append(Path(place, "point.json"))
        elif _POINT_NAME.search(place) or any(name in names for name in POINT_FILES):
            unfinished.append(Path(place))
    return sorted(finished), sorted(unfinished)


def _read(path: Path) -> dict[str, Any]:
    """Read and check a point; add `converged`, by the present thresholds."""
    point = read_json(path, _REQUIRED, "point")
    for level, size in _levels(point):
        sizes = {len(level[key]) for key in (*_LATENT.values(), "mean_covariance")}
        if sizes | {len(row) for row in level["mean_covariance"]} != {size}:
            raise InputError(f"{path}: its lists must have one number for each of {size} latents")
    return {**point, "converged": is_converged(point["convergence"])}


def _levels(point: dict[str, Any]) -> list[tuple[dict[str, Any], int]]:
    """Return the numbers of each level of latents, and how many latents it has."""
    hierarchy, first = point["settings"].get("hierarchy"), (point, point["settings"]["n_latent"])
    return [first] if hierarchy is None else [first, (point["top"], hierarchy["n_top"])]


def _identity(point: dict[str, Any]) -> dict[str, Any]:
    top = {} if point.get("beta_top") is None else {"beta_top": point["beta_top"]}
    return {key: point[key] for key in _IDENTITY} | top


def provenance_of(points: Sequence[dict[str, Any]], output: Path) -> dict[str, Any]:
    """Collect the provenance of the points of a table.

    Parameters
    ----------
    points : sequence of dict
        As returned by `read_planned` or `read_folder`.
    output : Path
        Where the table will be written.

    Returns
    -------
    dict
        `points`, the digests of the points by their paths relative to the table; and the distinct values of what else
        the points record.
    """
    keys = ("data_sha256", "backend", "tf32", "device", "torch", "cuda")
    values = {key: _distinct(point["provenance"].get(key) for point in points) for key in keys}
    digests = {os.path.relpath(point["folder"], output.parent): point["config_digest"] for point in points}
    return {**values, "seeds": _distinct(point["seed"] for point in points), "points": digests}


def _distinct(values: Iterable[Any]) -> list[Any]:
    return sorted(set(values), key=lambda value: (value is not None, value))


def sweep_table(points: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Make sweep.csv: one row per point, sorted by beta_top, beta, sigma2 and seed."""
    rows = [
        {key: point[key] for key in _COLUMNS}
        | {key: point.get(key) for key in _RESIDUAL}
        | _top_level(point)
        | {key: point["settings"][key] for key in ("n_latent", "schedule")}
        | {key: point["provenance"][key] for key in ("backend", "data_sha256")}
        | _of_likelihood(point)
        | _encoder(point)
        for point in points
    ]
    return _sorted(pd.DataFrame(rows), [])


def _top_level(point: dict[str, Any]) -> dict[str, Any]:
    """Return the columns of a hierarchy; an empty posterior_variance stands for a learned one."""
    hierarchy = point["settings"].get("hierarchy")
    if hierarchy is None:
        return {}
    variance = hierarchy["posterior_variance"]
    return {
        "beta_top": point["beta_top"],
        "kl_top": point["top"]["kl"],
        "active_top": point["top"]["active_dims"],
        "n_top": hierarchy["n_top"],
        "posterior_variance": None if variance == "learned" else variance,
    }


def _encoder(point: dict[str, Any]) -> dict[str, Any]:
    """The column that only tables of data with a condition have."""
    return {key: point[key] for key in ("encoder_sees_condition",) if key in point}


def _of_likelihood(point: dict[str, Any]) -> dict[str, Any]:
    """The columns that only sweeps of likelihoods other than the Gaussian one have."""
    name = point["settings"]["likelihood"]
    return {} if name == GAUSSIAN else {"likelihood": name, "reconstruction": point["reconstruction"]}


def dimensions_table(points: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Make dimensions.csv: one row per point and latent, with the latents as the network numbers them.

    A hierarchy has a column `level`, 1 or 2, and numbers the latents of each level from 0.
    `mean_eigenvalue` and `relevance` belong to the network, not to the latent of the row. They are, largest first, the
    eigenvalues of the covariance of the posterior means, which do not change when latents are rotated, and the
    relevances of the latent directions, which do not change when latents are scaled either.

    Of data with classes, each class has rows of its own, with its value in the column `condition`. It is empty in the
    rows of all classes together.
    """
    rows = []
    for point in points:
        levels = _levels(point)
        for number, (level, size) in enumerate(levels, 1):
            place = _identity(point) | _encoder(point) | ({} if len(levels) == 1 else {"level": number})
            rows += _latents(level, size, place | ({"condition": ""} if point.get("conditions") else {}))
        for each in point.get("conditions", []):
            place = _identity(point) | _encoder(point) | {"condition": str(each["value"])}
            rows += _latents(each, levels[0][1], place)
    return _sorted(pd.DataFrame(rows), ["level", "condition", "latent"])


def _latents(numbers: dict[str, Any], size: int, place: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of the latents of a level, or of one class of a condition, each with its `place`."""
    eigenvalues = np.linalg.eigvalsh(np.array(numbers["mean_covariance"]))[::-1]
    relevances, _ = relevance_spectrum(numbers["mean_covariance"], numbers["latent_variance"])
    return [
        place
        | {"latent": latent}
        | {column: numbers[key][latent] for column, key in _LATENT.items()}
        | {"mean_eigenvalue": float(eigenvalues[latent]), "relevance": float(relevances[latent])}
        for latent in range(size)
    ]


def histories_table(points: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Make histories.csv: one row per record of each point's training.

    `current_sigma2` is the decoder variance while it rises to its target, `learning_time` the sum of the learning rates
    of all steps so far.
    """
    settings = Settings.from_keys(points[0]["settings"])  # a sweep has one training
    paths = [point["folder"] / "history.csv" for point in points]
    digests = [point["history_sha256"] for point in points]
    history, origin = read_tables(paths, "history", ("mse", "elbo"), digests)
    steps, learning_time = history["step"].to_numpy(), np.empty(len(history))
    extended = np.array([point.get("extended", 1) for point in points])[origin]
    for factor in np.unique(extended):
        training = settings.extended(int(factor))
        rates = np.cumsum([training.learning_rate_at(step) for step in range(training.n_steps)])
        rows = np.flatnonzero(extended == factor)
        beyond = rows[steps[rows] > len(rates)]
        if beyond.size:
            path, step = paths[origin[beyond[0]]], steps[beyond[0]]
            raise InputError(f"{path}: step {step}, must be at most {len(rates)} as in point.json")
        learning_time[rows] = rates[steps[rows] - 1]
    identities = pd.DataFrame([_identity(point) for point in points])
    history = history.rename(columns={"sigma2": "current_sigma2"}).assign(learning_time=learning_time)
    table = pd.concat([identities.iloc[origin].reset_index(drop=True), history], axis=1)
    columns = [*identities, "step", "learning_time", "current_sigma2", "kl", "mse", "elbo"]
    return _sorted(table[columns], ["step"])


def timing_table(points: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Make timing.csv: the seconds of each point, its share of its ensemble, and the samples per second of training."""
    rows = []
    for point in points:
        timing = read_json(point["folder"] / "timing.json", kind="timing")
        seconds = timing["train_seconds"]
        rate = point["samples"] / seconds if seconds else None
        rows.append(_identity(point) | timing | {"samples_per_second": rate})
    return _sorted(pd.DataFrame(rows), [])


def _sorted(table: pd.DataFrame, more: list[str]) -> pd.DataFrame:
    order = [name for name in ("beta_top", "beta", "sigma2", "seed", *more) if name in table]
    return table.sort_values(order, ignore_index=True)
