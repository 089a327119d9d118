"""The version, the commit and the Python that a result is made with."""

from __future__ import annotations

import platform
import subprocess
import tomllib
from pathlib import Path
from typing import Any

from phasevae.artifacts.source_hash import PACKAGE


def environment() -> dict[str, Any]:
    """Return {version, git, dirty, python}.

    `git` is the commit of a source checkout and `dirty` whether tracked files differ from it. Both are None elsewhere.
    """
    from phasevae import __version__

    commit, _, mark = (git_commit(PACKAGE.parent) or "").partition("-")
    state = {"git": commit, "dirty": bool(mark)} if commit else {"git": None, "dirty": None}
    return {"version": __version__, **state, "python": platform.python_version()}


def git_commit(root: Path) -> str | None:
    """Return the commit of `root`, with '-dirty' if tracked files differ from it.

    None unless `root` is the top of phasevae's own work tree. A virtual environment in another repository is not.
    """
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
        project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError):
        return False
    return project.get("project", {}).get("name") == "phasevae"
