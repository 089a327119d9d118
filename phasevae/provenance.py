"""What produced a result: a hash of the code it depends on, the backend, the version and the commit."""

from __future__ import annotations

import platform
import subprocess
import tomllib
from pathlib import Path
from typing import Any

from phasevae import backends
from phasevae.artifacts import digest
from phasevae.sources import PACKAGE, source_hash


def training_code_hash() -> str:
    """Hash of everything that a trained point's numbers depend on beside data and settings: the training and
    measuring code, the family of the backend and, for native ones, the sources of the kernels. What is recorded
    about the origin of a point is none of its numbers.

    Raises InputError when PHASEVAE_BACKEND asks for a backend that is not there.
    """
    family = backends.family()
    record = backends.build_record() if family == "native" else None
    python = source_hash("phasevae.jobs:run", without=("phasevae.provenance",))
    return digest({"python": python, "native": record and record["sources"], "backend": family})


def environment() -> dict[str, Any]:
    """{version, git, python}: git is the commit of a source checkout, with '-dirty' when tracked files differ
    from it, and None elsewhere."""
    from phasevae import __version__

    return {"version": __version__, "git": git_commit(PACKAGE.parent), "python": platform.python_version()}


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
