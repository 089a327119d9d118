"""What this installation is made of."""

from __future__ import annotations

import platform
from importlib import metadata
from typing import Any

_PACKAGES = ("phasevae", "torch", "numpy", "scipy", "pandas", "matplotlib", "snakemake")


def examine() -> dict[str, Any]:
    """{versions: {package: version or None}, backends: {name: {available, reason}}}."""
    versions = {"python": platform.python_version()} | {name: _version(name) for name in _PACKAGES}
    has_torch = versions["torch"] is not None
    reason = "PyTorch operations on CPU or CUDA" if has_torch else "torch is not installed"
    return {"versions": versions, "backends": {"torch": {"available": has_torch, "reason": reason}}}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
