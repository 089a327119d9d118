"""The choice between the native kernels and PyTorch, made without loading torch.

A native build leaves a record next to the extension: the torch it was built for and a hash of its sources. The
extension is usable if both still agree with what is installed. So every process makes the same choice: the Snakefile,
which must not load torch, and the training.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.machinery
import importlib.util
import json
import os
import re
import sys
from pathlib import Path
from typing import NamedTuple

from phasevae.errors import InputError, no_such_choice

PACKAGE = Path(__file__).parents[1]
BACKENDS = ("torch", "native_cpu", "native_cuda")
RECORD = "_build_info.json"
_STRING_OR_COMMENT = re.compile(rb'("(?:\\.|[^"\\\n])*")|//[^\n]*|/\*.*?\*/', re.DOTALL)


class State(NamedTuple):
    """Whether a backend can be used, and why or why not.

    broken: it was built but cannot be used, which deserves a warning.
    """

    available: bool
    reason: str
    broken: bool = False


def forced() -> str | None:
    """Return the backend that PHASEVAE_BACKEND names, None when it is not set.

    Raises InputError when there is no such backend or it is not available.
    """
    name = os.environ.get("PHASEVAE_BACKEND")
    if not name:
        return None
    if name not in BACKENDS:
        raise no_such_choice("PHASEVAE_BACKEND", name, BACKENDS)
    if name != "torch" and not (state := states()[name]).available:
        raise InputError(f"PHASEVAE_BACKEND: {name} is not available: {state.reason}")
    return name


def family() -> str:
    """Return 'native' or 'torch', the part of the choice that enters the digest of a result.

    The digest does not distinguish the native backends, as it does not distinguish devices: results of machines with
    and without a GPU belong together.
    """
    name = forced()
    if name is not None:
        return name.split("_")[0]
    return "native" if states()["native_cpu"].available else "torch"


def choose(device_type: str) -> str:
    """Return the backend for tensors on 'cpu' or 'cuda': native where it can be used, else torch.

    Raises InputError when PHASEVAE_BACKEND names a backend of another device.
    """
    name = forced()
    native = f"native_{device_type}"
    if name is None:
        return native if native in BACKENDS and states()[native].available else "torch"
    if name not in ("torch", native):
        raise InputError(f"PHASEVAE_BACKEND: {name} cannot compute on {device_type}; unset it, or use another --device")
    return name


def allows_tf32() -> bool:
    """Return whether a GPU may compute products of float32 matrices in TF32, which is torch's own setting.

    As long as torch is not loaded, the setting is what the environment says.
    """
    torch = sys.modules.get("torch")
    if torch is None:
        return os.environ.get("TORCH_ALLOW_TF32_CUBLAS_OVERRIDE") == "1"
    products = torch.backends.cuda.matmul
    precision = getattr(products, "fp32_precision", None)  # since torch 2.9, which refuses to mix the two names
    return products.allow_tf32 if precision is None else precision == "tf32"


@functools.cache
def states() -> dict[str, State]:
    """Return the state of every backend of BACKENDS."""
    has_torch = torch_build() is not None
    cpu = _native_state()
    cuda = cpu
    if cpu.available and not build_record()["cuda"]:
        cuda = State(False, "the extension was built without CUDA; `PHASEVAE_BUILD=cuda make build` builds it")
    torch = State(has_torch, "PyTorch operations on CPU or CUDA" if has_torch else "torch is not installed")
    return {"torch": torch, "native_cpu": cpu, "native_cuda": cuda}


def build_record() -> dict[str, str | None] | None:
    """Return {torch, cuda, sources} of the native build, None if its record is missing or damaged."""
    try:
        record = json.loads((PACKAGE / RECORD).read_text())
        return {key: record[key] for key in ("torch", "cuda", "sources")}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def torch_build() -> str | None:
    """Return version and commit of the installed torch, read from its files; None if there is no torch."""
    spec = importlib.util.find_spec("torch")
    if spec is None or not spec.submodule_search_locations:
        return None
    tree = ast.parse((Path(spec.submodule_search_locations[0]) / "version.py").read_text())
    values = {}
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Constant):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            values[ast.unparse(target)] = node.value.value
    return f"{values.get('__version__')} {values.get('git_version')}"


def sources_hash(root: Path) -> str:
    """Return the sha256 (hex) of the names of all files of csrc/ in `root`, and of their code.

    Without comments and line ends, which change no number: a build and the points that it trained stay valid.
    """
    digest = hashlib.sha256()
    for file in sorted(file for file in (root / "csrc").rglob("*") if file.is_file()):
        code = b" ".join(_STRING_OR_COMMENT.sub(rb"\1 ", file.read_bytes()).split())
        digest.update(f"{file.relative_to(root)} {hashlib.sha256(code).hexdigest()}\n".encode())
    return digest.hexdigest()


def _native_state() -> State:
    if importlib.machinery.PathFinder.find_spec("phasevae._C", [str(PACKAGE)]) is None:
        return State(False, "the extension is not built; `make build` builds it")
    record = build_record()
    if record is None:
        return State(False, f"the extension has no valid {RECORD} next to it; `make build` renews both", broken=True)
    if record["torch"] != torch_build():
        reason = f"the extension was built for torch {record['torch']}, not {torch_build()}; `make build` renews it"
        return State(False, reason, broken=True)
    if (PACKAGE.parent / "csrc").is_dir() and record["sources"] != sources_hash(PACKAGE.parent):
        return State(False, "the extension was built from other sources; `make build` renews it", broken=True)
    return State(True, f"built for torch {record['torch']}, CUDA {record['cuda'] or 'none'}")
