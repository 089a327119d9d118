"""The verb that tells what is at work here."""

from __future__ import annotations

import json
import platform
from importlib import metadata
from typing import Annotated, Any

import typer

from phasevae.kernels import backends


def doctor(json_output: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Say which versions and which backends are at work here.

    Example: phasevae doctor --json
    """

    found = examine()
    if json_output:
        print(json.dumps(found, indent=1))
        return
    for name, version in found["versions"].items():
        print(f"{name:12} {version or 'not installed'}")
    for name, state in found["backends"].items():
        print(f"{name:12} {'available' if state['available'] else 'not available'}: {state['reason']}")


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
        from phasevae.kernels import native
    except (ImportError, OSError) as error:
        return False, f"the extension cannot be loaded ({str(error).splitlines()[0]}); `make build` renews it"
    info = native.build_info()
    cuda = (backends.build_record() or {}).get("cuda")
    networks = "" if native.HAS_NETWORK_KERNELS else "; PyTorch computes the networks, which need g++ 12 and AVX2"
    return True, f"built for torch {info['torch']}, CUDA {cuda or 'none'}, by {info['compiler']}{networks}"


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
