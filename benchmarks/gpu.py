"""Does everything that needs a GPU work, and how fast? Build, tests, compute-sanitizer, times per model-step, a sweep.

    python benchmarks/gpu.py --out DIR [--stages build,tests,memcheck,racecheck,tiers,sweep] [--dry]

takes at most ten minutes; with --dry, which also works without a GPU, about a minute. --dry does two steps of the times
and the sweep, so that the numbers mean nothing. The stages that test come before those that are timed, whatever the
order they are named in. DIR gets gpu.json and gpu.md, renewed after every stage, and a log of each stage. The
computations themselves are in gpu_parts.py.

It needs no network, and the package need not be installed. It needs a CUDA build of torch and the other dependencies
of the package; for the kernels also nvcc, ninja and setuptools, for the tests pytest and hypothesis. A stage that
cannot run is skipped with the reason.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from gpu_parts import BATCH, MODELS, TIERS
from shared import ARCHITECTURES, ROOT, child_environment, make_parser, markdown_table, some_of

from phasevae.artifacts.environment import environment
from phasevae.kernels.backends import allows_tf32

PARTS = str(ROOT / "benchmarks" / "gpu_parts.py")
LIMITS = {"build": 180, "tests": 120, "memcheck": 60, "racecheck": 60, "tiers": 110, "sweep": 70}
"""Seconds of a stage, ten minutes together."""
IN_TF32 = {"TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1"}
"""Torch's variable for products of matrices in TF32."""
TESTS = ("tests/kernels/test_native.py", "tests/kernels/test_native_cuda.py", "tests/training/test_cuda_graph.py")


class SkippedError(Exception):
    """Why a stage cannot run here."""


def child(stage: str, out: Path, command: list[str], limit: float | None = None, **variables: str) -> str:
    """Run a command in the checkout. A child process that crashes leaves the others unharmed.

    Parameters
    ----------
    stage : name of the stage; the output goes to DIR/stage.log
    out : DIR
    command : program and arguments
    limit : seconds, by default those of the stage
    **variables : environment variables

    Returns
    -------
    str : the last line of the output

    Raises
    ------
    RuntimeError : if the command fails or takes too long
    """
    with (out / f"{stage}.log").open("a+") as log:
        log.write(f"$ {variables} {' '.join(command)}\n")
        log.flush()
        limit = LIMITS[stage] if limit is None else limit
        settings = {"cwd": ROOT, "env": child_environment(**variables), "stdout": log, "stderr": subprocess.STDOUT}
        try:
            code = subprocess.run(command, check=False, timeout=limit, **settings).returncode
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"not done after {limit:.0f} s") from None
        log.seek(0)
        last = ([line for line in log.read().splitlines() if line.strip()] or [""])[-1]
    if code:
        raise RuntimeError(f"exit code {code}: {last[:300]}")
    return last


def part(stage: str, name: str, arguments: argparse.Namespace, limit: float | None = None, **variables: str) -> Any:
    """The JSON that a part of gpu_parts.py prints in its last line."""
    command = [sys.executable, PARTS, name, *(["--dry"] if arguments.dry else [])]
    return json.loads(child(stage, arguments.out, command, limit, **variables))


def needs_gpu() -> None:
    """Raises SkippedError if there is no GPU."""
    if not torch.cuda.is_available():
        raise SkippedError(f"torch {torch.__version__} finds no CUDA device")


def build(arguments: argparse.Namespace) -> str:
    """Build the kernels in place."""
    needs_gpu()
    command = [sys.executable, "setup.py", "build_ext", "--inplace"]
    return child("build", arguments.out, command, PHASEVAE_BUILD="cuda")


def tests(arguments: argparse.Namespace) -> str:
    """Run the tests of the kernels and of CUDA graphs."""
    needs_gpu()
    command = [sys.executable, "-m", "pytest", "-n0", "-rs", "-p", "no:cacheprovider", *TESTS]
    return child("tests", arguments.out, command)


def sanitizer(tool: str, out: Path, **variables: str) -> str:
    """Run a tool of compute-sanitizer on every kernel."""
    needs_gpu()
    program = shutil.which("compute-sanitizer") or "/usr/local/cuda/bin/compute-sanitizer"
    if not Path(program).is_file():
        raise SkippedError("there is no compute-sanitizer")
    command = [program, "--tool", tool, "--error-exitcode", "9", sys.executable, PARTS, "exercise"]
    return child(tool, out, command, **variables)


def memcheck(arguments: argparse.Namespace) -> str:
    """Look for accesses outside allocated memory."""
    # Without torch's cache every tensor is an allocation of its own, so that a read beyond its end is noticed.
    return sanitizer("memcheck", arguments.out, PYTORCH_NO_CUDA_MEMORY_CACHING="1")


def racecheck(arguments: argparse.Namespace) -> str:
    """Look for races in shared memory."""
    return sanitizer("racecheck", arguments.out)


def tiers(arguments: argparse.Namespace) -> dict[str, Any]:
    """{tier: {architecture: us per model-step}}; the error message in place of the inner mapping if a tier fails."""
    if not arguments.dry:
        needs_gpu()
    times: dict[str, Any] = {}
    end = time.perf_counter() + LIMITS["tiers"]
    for name, description in TIERS.items():
        native = "fused" in description and torch.cuda.is_available()
        backend = "native_cuda" if native else "torch"
        try:
            left = max(1.0, end - time.perf_counter())
            variables = IN_TF32 if "tf32" in name else {}
            times[name] = part("tiers", f"tier:{name}", arguments, left, PHASEVAE_BACKEND=backend, **variables)
        except RuntimeError as error:
            times[name] = str(error)
        print(f"  {name}: {times[name]}", flush=True)
    return times


def sweep(arguments: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Errors and times of the short sweep by its arithmetic: in float32, and on a GPU in TF32."""
    if not arguments.dry:
        needs_gpu()
    variables = {"float32": {}, "tf32": IN_TF32} if torch.cuda.is_available() else {"float32": {}}
    limit = LIMITS["sweep"] / len(variables)
    return {name: part("sweep", "sweep", arguments, limit, **of_name) for name, of_name in variables.items()}


STAGES = {stage.__name__: stage for stage in (build, tests, memcheck, racecheck, tiers, sweep)}


def versions() -> dict[str, Any]:
    """The device, and the versions of this package and of torch."""
    has_gpu = torch.cuda.is_available()
    return {
        "device": torch.cuda.get_device_name() if has_gpu else f"no GPU: {platform.machine()} CPU",
        "capability": "{}.{}".format(*torch.cuda.get_device_capability()) if has_gpu else None,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        # Of this process; a tier and a sweep are computed in TF32 all the same.
        "tf32": allows_tf32(),
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        **environment(),
    }


def markdown(report: dict[str, Any]) -> str:
    """The report as tables."""
    lines = [f"# {report['versions']['device']}", ""]
    lines += ["DRY RUN: the numbers mean nothing.", ""] if report["dry"] else []
    lines += [", ".join(f"{name} {value}" for name, value in report["versions"].items() if name != "device"), ""]
    done = {name: stage["result"] for name, stage in report["stages"].items() if stage["state"] == "done"}
    short = {name: "below" for name in ("tiers", "sweep") if name in done}
    rows = [
        (name, stage["state"], f"{stage['seconds']:.0f}", short.get(name, stage["result"]))
        for name, stage in report["stages"].items()
    ]
    lines += markdown_table(("stage", "state", "seconds", "result"), rows)
    if "tiers" in done:
        lines += ["", f"Microseconds per model-step, batch {BATCH}, float32; {MODELS} models from (iv) on.", ""]
        rows = []
        for name, times in done["tiers"].items():
            cells = [f"{us:.2f}" for us in times.values()] if isinstance(times, dict) else [times, ""]
            rows.append((name, TIERS[name], *cells))
        lines += markdown_table(("tier", "what", *ARCHITECTURES), rows)
    if "sweep" in done:
        for arithmetic, result in done["sweep"].items():
            shown = ", ".join(f"{name} {value}" for name, value in result.items())
            lines += ["", f"Sweep, products in {arithmetic}: {shown}"]
    return "\n".join(lines) + "\n"


def run_stage(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """{state, seconds, result}: done, failed or skipped, and the result or the reason."""
    (arguments.out / f"{name}.log").unlink(missing_ok=True)
    start = time.perf_counter()
    try:
        state, result = "done", STAGES[name](arguments)
    except SkippedError as error:
        state, result = "skipped", str(error)
    except (RuntimeError, OSError, ValueError) as error:
        state, result = "failed", f"{str(error).splitlines()[0]} (see {name}.log)"
    return {"state": state, "seconds": time.perf_counter() - start, "result": result}


def main(words: list[str] | None = None) -> None:
    """Run the command line."""
    parser = make_parser(__doc__)
    parser.add_argument("--out", type=lambda name: Path(name).resolve(), required=True, help="folder of the report")
    parser.add_argument(
        "--stages", type=some_of(STAGES), default=",".join(STAGES), help="some of them; by default all, in this order"
    )
    parser.add_argument("--dry", action="store_true", help="two steps of everything that can run")
    arguments = parser.parse_args(words)
    arguments.out.mkdir(parents=True, exist_ok=True)
    report: dict[str, Any] = {"versions": versions(), "dry": arguments.dry, "stages": {}}
    for name in sorted(arguments.stages, key=list(STAGES).index):
        print(f"{name} ...", flush=True)
        report["stages"][name] = stage = run_stage(name, arguments)
        print(f"{name}: {stage['state']}: {stage['result']}", flush=True)
        (arguments.out / "gpu.json").write_text(json.dumps(report, indent=1) + "\n")
        (arguments.out / "gpu.md").write_text(markdown(report))
    sys.exit(any(stage["state"] == "failed" for stage in report["stages"].values()))


if __name__ == "__main__":
    main()
