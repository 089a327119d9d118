"""What produced a result: a hash of the code it depends on, the backend, the version and the commit.

The hash is taken over syntax trees without docstrings, so words about the code may change freely while any
change of what it does invalidates the results made with the old one. Nothing is imported to compute it.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import platform
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from phasevae import backends
from phasevae.artifacts import digest
from phasevae.errors import InputError

PACKAGE = Path(__file__).parent


@functools.lru_cache
def source_hash(*modules: str, package: Path = PACKAGE) -> str:
    """sha256 (hex) of the syntax trees, without docstrings, of `modules` and all that they import of phasevae.

    Modules are dotted names such as 'phasevae.training'. Imports are followed statically, those inside
    functions and relative ones too. The top-level __init__ is left out: it holds the version and lazy names.
    Raises InputError when a module does not exist.
    """
    found: dict[str, str] = {}
    waiting = list(modules)
    for name in waiting:
        if _file_of(name, package) is None:
            raise InputError(f"{name}: no such module in {package}")
    while waiting:
        name = waiting.pop()
        file = _file_of(name, package)
        if name in found or file is None:
            continue
        tree = ast.parse(file.read_bytes(), filename=str(file))
        waiting += _imported(tree, name, is_package=file.name == "__init__.py")
        found[name] = hashlib.sha256(_dump(_without_docstrings(tree)).encode()).hexdigest()
    return digest(found)


def training_code_hash() -> str:
    """Hash of everything that a trained point's numbers depend on beside data and settings: the training and
    measuring code, the family of the backend and, for native ones, the sources of the kernels.

    Raises InputError when PHASEVAE_BACKEND asks for a backend that is not there.
    """
    family = backends.family()
    record = backends.build_record() if family == "native" else None
    return digest(
        {"python": source_hash("phasevae.jobs"), "native": record and record["sources"], "backend": family},
    )


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


def _file_of(name: str, package: Path) -> Path | None:
    """Source file of the module phasevae.a.b; None when there is none (a function, another package)."""
    head, *rest = name.split(".")
    if head != "phasevae" or not rest:
        return None
    stem = package.joinpath(*rest)
    candidates = (stem.with_name(stem.name + ".py"), stem / "__init__.py")
    return next((file for file in candidates if file.is_file()), None)


def _imported(tree: ast.AST, name: str, is_package: bool) -> Iterator[str]:
    """Dotted names that a module's import statements may load, its own parent packages first."""
    parts = name.split(".")
    yield from (".".join(parts[:depth]) for depth in range(1, len(parts)))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            up = node.level - 1 if is_package else node.level
            base = parts[: len(parts) - up] if node.level else []
            source = ".".join([*base, *(node.module or "").split(".")]).rstrip(".")
            # `from phasevae import theory` loads phasevae.theory: each name may be a module.
            names = [source, *(f"{source}.{alias.name}" for alias in node.names)]
        else:
            continue
        yield from (candidate for candidate in names if candidate.startswith("phasevae."))


def _without_docstrings(tree: ast.Module) -> ast.Module:
    """The tree with every string that stands alone as a statement removed."""
    for node in ast.walk(tree):
        for field, value in ast.iter_fields(node):
            if isinstance(value, list):
                setattr(node, field, [item for item in value if not _is_bare_string(item)])
    return tree


def _is_bare_string(node: Any) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _dump(node: Any) -> str:
    """Like ast.dump, without empty fields: those differ between Python versions."""
    if isinstance(node, ast.AST):
        fields = ((name, value) for name, value in ast.iter_fields(node) if value is not None and value != [])
        return f"{type(node).__name__}({','.join(f'{name}={_dump(value)}' for name, value in fields)})"
    if isinstance(node, list):
        return f"[{','.join(map(_dump, node))}]"
    return repr(node)
