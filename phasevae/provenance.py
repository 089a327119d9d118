"""What produced a result: a hash of the code it depends on, the backend, the version and the commit."""

from __future__ import annotations

import os
import platform
import subprocess
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from phasevae import backends
from phasevae.artifacts import digest, file_sha256
from phasevae.errors import InputError
from phasevae.sources import PACKAGE, source_hash


class UnknownStageError(InputError):
    """A stage, or a figure, that this version does not have."""


def training_code_hash() -> str:
    """Hash of everything that a trained point's numbers depend on beside data and settings: the training and
    measuring code, the family of the backend and, for native ones, the sources of the kernels. What is recorded
    about the origin of a point is none of its numbers.

    Raises InputError when PHASEVAE_BACKEND asks for a backend that is not there.
    """
    family = backends.family()
    record = backends.build_record() if family == "native" else None
    return digest({"python": training_sources(), "native": record and record["sources"], "backend": family})


def training_sources(package: Path = PACKAGE) -> str:
    """Hash of the training and measuring code in the folder `package`."""
    # Whether a point came to rest decides how long it is trained, but none of its numbers.
    return source_hash("phasevae.jobs:run", without=(*_NOT_ENTERED, *_STAGES["verdict"]), package=package)


_STAGES = {
    "spectrum": ("phasevae.spectrum:spectrum_of", "phasevae.spectrum:write"),
    "moments": ("phasevae.moments", "phasevae.datasets:load"),
    "plan": ("phasevae.plan:make_plan", "phasevae.plan:write_plan"),
    "collect": ("phasevae.collect",),
    "fit": ("phasevae.analysis.transition",),
    "refine": ("phasevae.analysis.refine", "phasevae.plan:make_plan", "phasevae.plan:write_plan"),
    "bracket": ("phasevae.analysis.bracketing",),
    "hysteresis": ("phasevae.branches",),
    "verdict": ("phasevae.convergence:is_converged",),
    "stability": ("phasevae.curvature",),
}
"""What each stage starts with."""

_NOT_ENTERED = (
    "phasevae.provenance",  # records where results come from: none of them
    "phasevae.schemas",  # refuses damaged ones
    "phasevae.datasets:KINDS",  # of the registries a stage runs one entry, which is its root
    "phasevae.figures:FIGURES",
)


def stage_code(stage: str, entry: str = "") -> str:
    """Hash of the code of a stage of the workflow. `entry`: the kind of the stage dataset, the figure of figure.

    Raises UnknownStageError when there is no such stage or figure.
    """
    if stage == "train":
        return training_code_hash()
    if stage == "dataset":
        from phasevae.datasets import KINDS

        builder = (_root(KINDS[entry]),) if entry in KINDS else ()
        roots = ("phasevae.datasets:build", "phasevae.datasets:save", *builder)
    elif stage == "figure":
        from phasevae.figures import FIGURES

        if entry not in FIGURES:
            raise UnknownStageError(f"figure '{entry}': phasevae has none of this name")
        roots = (_root(FIGURES[entry].draw), "phasevae.figures:render", "phasevae.artifacts:write_figure")
    elif stage not in _STAGES:
        raise UnknownStageError(f"stage '{stage}': phasevae has none of this name")
    else:
        roots = _STAGES[stage]
    found = source_hash(*roots, without=_NOT_ENTERED)
    return digest([found, training_code_hash()]) if stage == "hysteresis" else found


def _root(function: Callable) -> str:
    return f"{function.__module__}:{function.__name__}"


def record(
    output: Path, stage: str, inputs: Iterable[Path | None] = (), entry: str = "", **more: Any
) -> dict[str, Any]:
    """Where an artifact at `output` comes from: {stage, version, git, dirty, python, code_hash, inputs, ...more}.

    inputs: sha256 of each input by its path relative to the folder of `output`, so that results may be moved; None
    stands for an input that was not given.
    """
    sums = {os.path.relpath(path, output.parent): file_sha256(path) for path in inputs if path is not None}
    named = {"stage": stage, "entry": entry} if entry else {"stage": stage}
    return {**named, **environment(), "code_hash": stage_code(stage, entry), "inputs": sums, **more}


def environment() -> dict[str, Any]:
    """{version, git, dirty, python}: git is the commit of a source checkout, dirty whether tracked files differ from
    it; both are None elsewhere."""
    from phasevae import __version__

    commit, _, mark = (git_commit(PACKAGE.parent) or "").partition("-")
    known = {"git": commit, "dirty": bool(mark)} if commit else {"git": None, "dirty": None}
    return {"version": __version__, **known, "python": platform.python_version()}


def git_commit(root: Path) -> str | None:
    """Commit of `root` with '-dirty' when tracked files differ from it; None unless `root` is itself the top of
    phasevae's work tree: a virtual environment inside somebody's repository is not."""
    if not _is_checkout(root):
        return None
    try:
        top, commit = _git(root, "rev-parse", "--show-toplevel", "HEAD").splitlines()
        dirty = bool(_git(root, "status", "--porcelain", "--untracked-files=no"))
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    if Path(top).resolve() != root.resolve():
        return None
    return f"{commit}-dirty" if dirty else commit


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()


def _is_checkout(root: Path) -> bool:
    try:
        project = tomllib.loads((root / "pyproject.toml").read_text())
    except (OSError, tomllib.TOMLDecodeError):
        return False
    return project.get("project", {}).get("name") == "phasevae"
