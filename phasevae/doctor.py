"""What this installation is made of."""

from __future__ import annotations

import platform
from importlib import metadata
from typing import Any

from phasevae import backends

_PACKAGES = ("phasevae", "torch", "numpy", "scipy", "pandas", "matplotlib", "snakemake")


def examine() -> dict[str, Any]:
    """{versions: {package: version or None}, backends: {name: {available, reason}}}.

    Unlike `backends.states`, which every process must answer alike without loading torch, this loads the extension.
    """
    versions = {"python": platform.python_version()} | {name: _version(name) for name in _PACKAGES}
    states = {name: state._asdict() for name, state in backends.states().items()}
    found = {name: {key: state[key] for key in ("available", "reason")} for name, state in states.items()}
    if found["native_cpu"]["available"]:
        loaded, reason = _load()
        for name in ("native_cpu", "native_cuda"):
            if found[name]["available"]:
                found[name] = {"available": loaded, "reason": reason}
    return {"versions": versions, "backends": found}


def _load() -> tuple[bool, str]:
    """Whether the extension can be loaded, and what it was built with or why not."""
    try:
        from phasevae import _native
    except (ImportError, OSError) as error:
        return False, f"the extension cannot be loaded ({str(error).splitlines()[0]}); `make build` renews it"
    info = _native.build_info()
    cuda = (backends.build_record() or {}).get("cuda")
    networks = "" if _native.HAS_NETWORK_KERNELS else "; PyTorch computes the networks, which need g++ 12 and AVX2"
    return True, f"built for torch {info['torch']}, CUDA {cuda or 'none'}, by {info['compiler']}{networks}"


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
