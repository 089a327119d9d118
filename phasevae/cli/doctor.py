"""The verb that shows versions and backends."""

from __future__ import annotations

import json
import platform
from importlib import metadata
from typing import Any

from phasevae.cli.options import Json
from phasevae.kernels import backends

_PACKAGES = ("phasevae", "torch", "numpy", "scipy", "pandas", "matplotlib", "snakemake")


def doctor(json_output: Json = False) -> None:
    """Show the versions of phasevae and its packages, and which backends can be used.

    Example: phasevae doctor --json
    """
    report = examine()
    if json_output:
        print(json.dumps(report, indent=1))
        return
    for name, version in report["versions"].items():
        print(f"{name:12} {version or 'not installed'}")
    for name, state in report["backends"].items():
        print(f"{name:12} {'available' if state['available'] else 'not available'}: {state['reason']}")


def examine() -> dict[str, Any]:
    """Return {versions: {package: version or None}, backends: {name: {available, reason}}}.

    Unlike `backends.states`, which loads no torch and is the same in every process, this loads the extension.
    """
    versions = {"python": platform.python_version()} | {name: _version(name) for name in _PACKAGES}
    states = {name: state._asdict() for name, state in backends.states().items()}
    usable = {name: {key: state[key] for key in ("available", "reason")} for name, state in states.items()}
    if usable["native_cpu"]["available"]:
        loaded, reason = _load()
        for name in ("native_cpu", "native_cuda"):
            if usable[name]["available"]:
                usable[name] = {"available": loaded, "reason": reason}
    return {"versions": versions, "backends": usable}


def _load() -> tuple[bool, str]:
    """Whether the extension can be loaded, and how it was built or why it cannot be loaded."""
    try:
        from phasevae.kernels import native
    except (ImportError, OSError) as error:
        return False, f"the extension cannot be loaded ({str(error).splitlines()[0]}); `make build` renews it"
    info = native.build_info()
    cuda = (backends.build_record() or {}).get("cuda")
    networks = ""
    if not native.HAS_NETWORK_KERNELS:
        networks = "; PyTorch computes the networks, which need AVX2 and g++ 12 or clang 18, or 64-bit ARM"
    return True, f"built for torch {info['torch']}, CUDA {cuda or 'none'}, by {info['compiler']}{networks}"


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
