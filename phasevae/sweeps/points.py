"""The trained points of a sweep: what has to be trained, and whether the files that are there are valid.

The words of a sweep, from the plan to the training:

Point      one planned model: decoder variance (or ratio), beta, seed, its folder and bucket (sweeps/plan.py)
Member     the decoder variance, beta and seed of one model, once the ratio is resolved (sweeps/settings.py)
Task       a member with the folder and the digest of its results: what a job has to make valid (here)
Job        the tasks of one bucket with their data and settings (training/job.py)
Ensemble   the tasks that are trained side by side, and the state of their training (training/checkpoints.py)
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phasevae.artifacts.files import file_sha256, read_json
from phasevae.datasets.store import saved_digest
from phasevae.errors import InputError
from phasevae.sweeps.convergence import is_converged
from phasevae.sweeps.digest import point_digest, training_code_hash
from phasevae.sweeps.plan import Point
from phasevae.sweeps.settings import GAUSSIAN, Member, Settings

POINT_FILES = ("point.json", "weights.safetensors", "history.csv")
POINT_CHECKSUMS = {"weights.safetensors": "weights_sha256", "history.csv": "history_sha256"}
"""The files of a point, and the keys of point.json that hold their sha256."""

COMPLETE = "complete"
"""An empty file in the folder of a point, made by Snakemake when the job that trains the point has ended well.

When a job fails, Snakemake puts the earlier versions of the point's files back and takes the job for done. They may be
of a smaller budget, or of other settings. This file is not put back, so the next run does the job again.
"""


class OutdatedPointError(InputError):
    """A point whose files are intact, but were made with other settings, data or code."""


@dataclass(frozen=True)
class Task:
    """A point that a job has to make valid.

    `folder` is where its files go, `digest` the identity that they must carry. `extend` is the largest factor by which
    its training may be lengthened if it has not converged.
    """

    member: Member
    folder: Path
    digest: str
    extend: int = 1


@dataclass(frozen=True)
class Source:
    """The data of a sweep.

    `critical_variance` is the largest eigenvalue, of all classes, which ratios refer to; None if not known.
    `likelihood` is the name of the likelihood whose scores have it, with its options.
    """

    data_sha256: str
    critical_variance: float | None
    likelihood: tuple[str, dict[str, Any]] = (GAUSSIAN, {})

    @classmethod
    def of(cls, data: Path, spectrum: Path | None = None) -> Source:
        """From the folder of a saved data set and its spectrum.json (by default the one in the folder, if any).

        Raises InputError that names the file if it is missing, damaged, or the spectrum of other data.
        """
        sha256 = saved_digest(data)
        spectrum = spectrum or data / "spectrum.json"
        if spectrum == data / "spectrum.json" and not spectrum.is_file():
            return cls(sha256, None)
        record = read_json(spectrum, ("critical_variance", "data_sha256"), "spectrum")
        if record["data_sha256"] != sha256:
            raise InputError(f"{spectrum}: is of other data than {data / 'data.npy'}; compute it again")
        of = record.get("likelihood")
        likelihood = (of["name"], of["options"]) if of else (GAUSSIAN, {})
        return cls(sha256, record["critical_variance"], likelihood)

    def reference(self, settings: Settings, what: str) -> float:
        """Return the largest eigenvalue for a sweep of these settings.

        Raises InputError that begins with `what` if it is not known, or that of another likelihood.
        """
        if self.critical_variance is None:
            raise InputError(f"{what}: is relative to the largest eigenvalue; give --spectrum spectrum.json")
        wanted = (settings.likelihood, settings.likelihood_options)
        if self.likelihood != wanted:
            found, other = (
                name + (f" with {options}" if options else "") for name, options in (self.likelihood, wanted)
            )
            raise InputError(f"{what}: the spectrum is that of the likelihood {found}, must be that of {other}")
        return self.critical_variance


def make_tasks(points: list[Point], folder: Path, settings: Settings, source: Source, extend: int = 1) -> list[Task]:
    """Make the tasks of planned points, for the training code as it is now.

    Parameters
    ----------
    points : list of Point
        The planned points.
    folder : Path
        Folder that the paths of the points are relative to.
    settings : Settings
        Networks and training of all points.
    source : Source
        Their data.
    extend : int
        See `Task`. It is no part of the digest: the numbers of a converged point do not depend on it.

    Raises
    ------
    InputError
        If a point is relative to the largest eigenvalue and that is not known.
    """
    code_hash = training_code_hash(settings)
    tasks = []
    for point in points:
        sigma2, beta = point.sigma2, point.beta
        if sigma2 is None:
            sigma2 = point.ratio * source.reference(settings, point.path)
        if beta is None:
            beta = point.beta_ratio * source.reference(settings, point.path)
        member = Member(float(sigma2), float(beta), int(point.seed), point.beta_top)
        digest = point_digest(settings, member, source.data_sha256, code_hash)
        tasks.append(Task(member, folder / point.path, digest, extend))
    return tasks


def is_valid(task: Task) -> bool:
    """Whether the point's files are there, intact and made for this task, and its training need not be lengthened."""
    return next_budget(task) is None


def read_valid(task: Task) -> dict[str, Any]:
    """Check the files of a task's point against their checksums and return the content of its point.json.

    Raises InputError that names the file if one is missing, damaged or altered; OutdatedPointError if the files are
    intact but were made for another task.
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
    """The budget with which a point is to be trained next, in units of `samples`; None if its files are valid.

    The first budget is 1. It doubles as long as the point has not converged and `task.extend` allows it. A point with
    an allowed budget is never trained again with a smaller one: if the thresholds of convergence are loosened, it keeps
    the samples it had under the tighter ones, where a fresh run would stop earlier (`extended` in point.json). Nothing
    else that a finished job leaves depends on what was there before.
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
    """The budgets that a point may get, in units of `samples`: 1, 2, 4, ... up to `extend`."""
    return [2**k for k in range(int(extend).bit_length())]
