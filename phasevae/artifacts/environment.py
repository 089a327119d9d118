"""TODO."""

from __future__ import annotations

import platform
import subprocess
import tomllib
from pathlib import Path
from typing import Any

from phasevae.artifacts.source_hash import PACKAGE


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
