"""Everything that needs a GPU, in one command: build, tests, compute-sanitizer, times per model-step, a short sweep.

    python benchmarks/gpu.py --out DIR [--stages build,tests,memcheck,racecheck,tiers,sweep] [--dry]

Needs no network and no install of this package: a CUDA build of torch with numpy, pandas and safetensors; for the
kernels nvcc, ninja and setuptools; for the tests pytest and hypothesis. What cannot be done is skipped with its reason.
DIR gets gpu.json and gpu.md, renewed after every stage, and a log of each. --dry runs the times and the sweep for two
steps, on the CPU where there is no GPU: the numbers mean nothing then. What is computed stands in gpu_parts.py.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from gpu_parts import ARCHITECTURES, BATCH, MODELS, TIERS

ROOT = Path(__file__).resolve().parents[1]
PARTS = str(ROOT / "benchmarks" / "gpu_parts.py")
SECONDS = {"build": 540, "tests": 540, "memcheck": 400, "racecheck": 400, "tiers": 150, "sweep": 400}


class SkippedError(Exception):
    """Why a stage cannot be done here."""


def child(stage: str, out: Path, command: list[str], **environment: str) -> str:
    """Run a command in the checkout, its output in DIR/stage.log; its last line. Raises RuntimeError on failure.

    What computes is always a child: one that dies takes nothing with it.
    """
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    with (out / f"{stage}.log").open("a+") as log:
        log.write(f"$ {environment} {' '.join(command)}\n")
        log.flush()
        settings = {"cwd": ROOT, "env": {**os.environ, "PYTHONPATH": path, **environment}, "stdout": log}
        try:
            code = subprocess.run(
                command, check=False, stderr=subprocess.STDOUT, timeout=SECONDS[stage], **settings
            ).returncode
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"not done after {SECONDS[stage]} s") from None
        log.seek(0)
        last = ([line for line in log.read().splitlines() if line.strip()] or [""])[-1]
    if code:
        raise RuntimeError(f"exit code {code}: {last[:300]}")
    return last


def part(stage: str, out: Path, name: str, arguments: argparse.Namespace, **environment: str) -> Any:
    """The JSON that a part prints last, run as a child."""
    command = [sys.executable, PARTS, name, *(["--dry"] if arguments.dry else [])]
    return json.loads(child(stage, out, command, **environment))


def needs_gpu() -> None:
    if not torch.cuda.is_available():
        raise SkippedError(f"torch {torch.__version__} finds no CUDA device")


def build(out: Path, arguments: argparse.Namespace) -> Any:
    needs_gpu()
    return child("build", out, [sys.executable, "setup.py", "build_ext", "--inplace"], PHASEVAE_BUILD="cuda")


def tests(out: Path, arguments: argparse.Namespace) -> Any:
    needs_gpu()
    files = ["tests/kernels/test_native.py", "tests/kernels/test_native_cuda.py", "tests/training/test_cuda_graph.py"]
    return child("tests", out, [sys.executable, "-m", "pytest", "-rs", "-p", "no:cacheprovider", *files])


def sanitizer(tool: str, out: Path, **environment: str) -> Any:
    needs_gpu()
    program = shutil.which("compute-sanitizer") or "/usr/local/cuda/bin/compute-sanitizer"
    if not Path(program).is_file():
        raise SkippedError("there is no compute-sanitizer")
    command = [program, "--tool", tool, "--error-exitcode", "9", sys.executable, PARTS, "exercise"]
    return child(tool, out, command, **environment)


def memcheck(out: Path, arguments: argparse.Namespace) -> Any:
    # Without torch's cache every tensor is an allocation of its own, so a read beyond its end is seen.
    return sanitizer("memcheck", out, PYTORCH_NO_CUDA_MEMORY_CACHING="1")


def racecheck(out: Path, arguments: argparse.Namespace) -> Any:
    return sanitizer("racecheck", out)


def tiers(out: Path, arguments: argparse.Namespace) -> Any:
    """{tier: {architecture: us per model-step}}, or the reason in place of the inner mapping."""
    if not arguments.dry:
        needs_gpu()
    found: dict[str, Any] = {}
    for name, what in TIERS.items():
        native = "fused" in what and torch.cuda.is_available()
        backend = "native_cuda" if native else "torch"
        try:
            found[name] = part("tiers", out, f"tier:{name}", arguments, PHASEVAE_BACKEND=backend)
        except RuntimeError as error:
            found[name] = str(error)
        print(f"  {name}: {found[name]}", flush=True)
    return found


def sweep(out: Path, arguments: argparse.Namespace) -> Any:
    if not arguments.dry:
        needs_gpu()
    return part("sweep", out, "sweep", arguments)


STAGES = {stage.__name__: stage for stage in (build, tests, memcheck, racecheck, tiers, sweep)}


def versions() -> dict[str, Any]:
    has_gpu = torch.cuda.is_available()
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    return {
        "device": torch.cuda.get_device_name() if has_gpu else f"no GPU: {platform.machine()} CPU",
        "capability": "{}.{}".format(*torch.cuda.get_device_capability()) if has_gpu else None,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "python": platform.python_version(),
        "commit": commit.stdout.strip() or None,
    }


def markdown(report: dict[str, Any]) -> str:
    """The report as tables."""
    lines = [f"# {report['versions']['device']}", ""]
    lines += ["DRY RUN: the numbers mean nothing.", ""] if report["dry"] else []
    lines += [", ".join(f"{name} {value}" for name, value in report["versions"].items() if name != "device"), ""]
    lines += ["| stage | state | seconds | result |", "|---|---|---|---|"]
    for name, stage in report["stages"].items():
        result = "below" if name in ("tiers", "sweep") and stage["state"] == "done" else stage["result"]
        lines.append(f"| {name} | {stage['state']} | {stage['seconds']:.0f} | {result} |")
    timed = report["stages"].get("tiers", {})
    if timed.get("state") == "done":
        lines += ["", f"Microseconds per model-step, batch {BATCH}, float32; {MODELS} models from (iv) on.", ""]
        lines += [f"| tier | what | {' | '.join(a.replace('|', ' to ') for a in ARCHITECTURES)} |", "|---|---|---|---|"]
        for name, times in timed["result"].items():
            cells = [f"{us:.2f}" for us in times.values()] if isinstance(times, dict) else [times, ""]
            lines.append(f"| {name} | {TIERS[name]} | {' | '.join(cells)} |")
    found = report["stages"].get("sweep", {})
    if found.get("state") == "done":
        lines += ["", "Sweep: " + ", ".join(f"{name} {value}" for name, value in found["result"].items())]
    return "\n".join(lines) + "\n"


def run_stage(name: str, out: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """{state, seconds, result}: done, failed or skipped, and what came out or why."""
    (out / f"{name}.log").unlink(missing_ok=True)
    start = time.perf_counter()
    try:
        state, result = "done", STAGES[name](out, arguments)
    except SkippedError as error:
        state, result = "skipped", str(error)
    except (RuntimeError, OSError, ValueError) as error:
        state, result = "failed", f"{str(error).splitlines()[0]} (see {name}.log)"
    return {"state": state, "seconds": time.perf_counter() - start, "result": result}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="folder of the report")
    parser.add_argument("--stages", default=",".join(STAGES), help="some of them; by default all, in this order")
    parser.add_argument("--dry", action="store_true", help="two steps of everything that can run")
    arguments = parser.parse_args()
    chosen = arguments.stages.split(",")
    if arguments.out is None or not set(chosen) <= set(STAGES):
        parser.error(f"--out DIR is needed, and --stages must be some of: {', '.join(STAGES)}")
    out = arguments.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    report: dict[str, Any] = {"versions": versions(), "dry": arguments.dry, "stages": {}}
    for name in chosen:
        print(f"{name} ...", flush=True)
        report["stages"][name] = run_stage(name, out, arguments)
        print(f"{name}: {report['stages'][name]['state']}: {report['stages'][name]['result']}", flush=True)
        (out / "gpu.json").write_text(json.dumps(report, indent=1) + "\n")
        (out / "gpu.md").write_text(markdown(report))
    sys.exit(any(stage["state"] == "failed" for stage in report["stages"].values()))


if __name__ == "__main__":
    main()
