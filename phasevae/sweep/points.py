"""A point of a sweep: what it is trained for, with which settings, and the digest that says its files are valid."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phasevae.artifacts.files import file_sha256, read_json
from phasevae.errors import InputError
from phasevae.sweep.convergence import is_converged
from phasevae.sweep.digest import point_digest, training_code_hash
from phasevae.sweep.plan import Point
from phasevae.sweep.settings import Member, Settings

POINT_FILES = ("point.json", "weights.safetensors", "history.csv")
POINT_CHECKSUMS = {"weights.safetensors": "weights_sha256", "history.csv": "history_sha256"}
"""Files of a point and the keys of point.json that hold their sha256."""


class OutdatedPointError(InputError):
    """A point that is whole, but was made with other settings, data or code."""


@dataclass(frozen=True)
class Task:
    """One point to have: what to train, where it is written, and the digest that makes it valid.

    extend: up to how many times the samples it may be trained when it has not converged.
    """

    member: Member
    folder: Path
    digest: str
    extend: int = 1


@dataclass(frozen=True)
class Source:
    """The data that points are trained on; `critical_variance` is what ratios are relative to, if it is known."""

    data_sha256: str
    critical_variance: float | None

    @classmethod
    def of(cls, data: Path, spectrum: Path | None = None) -> Source:
        """From the folder of a saved data set, and its spectrum.json (by default the one in the folder, if any).

        Raises InputError that names a file that is missing, damaged, or the spectrum of other data.
        """
        sha256 = read_json(data / "data.json", ("sha256",), "data")["sha256"]
        spectrum = spectrum or data / "spectrum.json"
        if spectrum == data / "spectrum.json" and not spectrum.is_file():
            return cls(sha256, None)
        found = read_json(spectrum, ("critical_variance", "data_sha256"), "spectrum")
        if found["data_sha256"] != sha256:
            raise InputError(f"{spectrum}: is of other data than {data / 'data.npy'}; compute it again")
        return cls(sha256, found["critical_variance"])


def make_tasks(points: list[Point], folder: Path, settings: Settings, source: Source, extend: int = 1) -> list[Task]:
    """Tasks of planned points under `folder`, for the training code as it is now.

    extend: see `Task`; no part of the digest, since a point that has converged does not depend on it.
    Raises InputError when a point is relative to the largest eigenvalue and that is not known.
    """
    code_hash = training_code_hash()
    tasks = []
    for point in points:
        sigma2 = point.sigma2
        if sigma2 is None:
            if source.critical_variance is None:
                raise InputError(f"{point.path}: is relative to the largest eigenvalue; give --spectrum spectrum.json")
            sigma2 = point.ratio * source.critical_variance
        member = Member(float(sigma2), float(point.beta), int(point.seed))
        digest = point_digest(settings, member, source.data_sha256, code_hash)
        tasks.append(Task(member, folder / point.path, digest, extend))
    return tasks


def is_valid(task: Task) -> bool:
    """Whether the point's files are there, whole and made for this task, and no larger budget is asked for."""
    return next_budget(task) is None


def read_valid(task: Task) -> dict[str, Any]:
    """The record of the task's point, once its files have been checked against their checksums.

    Raises InputError that names the file which is missing, damaged or altered; OutdatedPointError when the files are
    whole but made for another task.
    """
    for name in POINT_FILES:
        if not (task.folder / name).is_file():
            raise InputError(f"{task.folder / name}: no such file")
    keys = ("config_digest", "convergence", "extended", "record_sha256", *POINT_CHECKSUMS.values())
    point = read_json(task.folder / "point.json", keys, "point")
    if point["config_digest"] != task.digest:
        raise OutdatedPointError(f"{task.folder}: made with other settings, data or code")
    for name, key in POINT_CHECKSUMS.items():
        if file_sha256(task.folder / name) != point[key]:
            raise InputError(f"{task.folder / name}: altered after it was written ({key} of point.json is another)")
    return point


def next_budget(task: Task) -> int | None:
    """With how many times the samples the point is to be trained next; None when its files are valid as they are.

    It starts with once the samples, and doubles them as long as the point has not converged and `task.extend` allows.
    A point that is there with an allowed budget is never trained again with a smaller one: after the thresholds of
    convergence were loosened it keeps the samples it was given under the tighter ones, where a fresh run would stop
    earlier (`extended` in point.json tells). All else that a finished job leaves does not depend on what was there
    before.
    """
    try:
        point = read_valid(task)
        converged = is_converged(point["convergence"])
    except InputError:
        return 1
    factor = point["extended"]
    if factor not in budgets(task.extend):
        return 1
    return 2 * factor if converged is False and 2 * factor in budgets(task.extend) else None


def budgets(extend: int) -> list[int]:
    """The budgets a point may get, in units of `samples`: 1, 2, 4, ... up to `extend`."""
    return [2**k for k in range(int(extend).bit_length())]
