"""Times the ELBO operations: eager PyTorch, torch.compile, the PyTorch twin and the native kernels, in one run.

    python benchmarks/kernels.py [--device cpu] [--threads 1] [--shapes 1x128x4,64x512x16] [--csv kernels.csv]

A shape is M x B x n: models, rows, latents; D features. The implementations take turns, so that a disturbance of the
machine meets all of them; the time is the median of the rounds. `eager` is what one writes without this package:
torch.randn and plain operations. Achieved bytes/s count each input and output of a pass once, so they compare with
the copy bandwidth measured in the same run.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from itertools import product

import pandas as pd
import torch
from torch import Tensor

from phasevae.kernels import backends, reference

SHAPES = "1x128x4,1x512x16,16x128x4,16x128x16,64x512x16,128x128x4,128x512x16"
OPS = ("reparam_kl", "gaussian_nll", "both")
PASSES = ("forward", "forward+backward")


def eager_reparam_kl(mu: Tensor, logvar: Tensor, keys: Tensor, step: int, antithetic: bool) -> tuple[Tensor, Tensor]:
    spread = (0.5 * logvar).exp() * torch.randn_like(mu)
    return (mu + spread).unsqueeze(1), 0.5 * (mu.square() + logvar.exp() - 1 - logvar)


def eager_gaussian_nll(x: Tensor, xhat: Tensor, sigma2: Tensor) -> Tensor:
    return (xhat - x.unsqueeze(1)).square().sum(-1) / (2 * sigma2[:, None, None])


def implementations(names: list[str]) -> dict[str, tuple[Callable, Callable]]:
    """(reparam_kl, gaussian_nll) by name."""
    found = {
        "eager": (eager_reparam_kl, eager_gaussian_nll),
        "compile": (torch.compile(eager_reparam_kl), torch.compile(eager_gaussian_nll)),
        "twin": (reference.reparam_kl, reference.gaussian_nll),
    }
    if backends.states()["native_cpu"].available:
        from phasevae.kernels import native

        found["native"] = (native.reparam_kl, native.gaussian_nll)
    return {name: functions for name, functions in found.items() if name in names}


def make_run(functions: tuple[Callable, Callable], op: str, tensors: dict[str, Tensor], backward: bool) -> Callable:
    """A function without arguments that computes `op`, with given gradients of its outputs where `backward`."""
    reparam_kl, gaussian_nll = functions
    leaves = [tensors[name] for name in (("mu", "logvar") if op != "gaussian_nll" else ())]
    leaves += [tensors["xhat"]] if op != "reparam_kl" else []
    if backward:
        leaves = [leaf.detach().requires_grad_() for leaf in leaves]

    def run() -> None:
        outputs = []
        if op != "gaussian_nll":
            outputs += reparam_kl(leaves[0], leaves[1], tensors["keys"], 3, False)
        if op != "reparam_kl":
            outputs.append(gaussian_nll(tensors["x"], leaves[-1], tensors["sigma2"]))
        if backward:
            torch.autograd.grad(outputs, leaves, [tensors["gradients"][output.shape] for output in outputs])

    return run


def make_tensors(shape: tuple[int, int, int], features: int, device: str) -> dict:
    models, rows, latents = shape
    tensors = {
        "mu": torch.randn(shape, device=device),
        "logvar": torch.randn(shape, device=device),
        "keys": torch.arange(models, device=device),
        "x": torch.randn(models, rows, features, device=device),
        "xhat": torch.randn(models, 1, rows, features, device=device),
        "sigma2": torch.ones(models, device=device),
    }
    of_outputs = (shape, (models, 1, rows, latents), (models, 1, rows))
    tensors["gradients"] = {torch.Size(s): torch.randn(s, device=device) for s in of_outputs}
    return tensors


def bytes_moved(op: str, shape: tuple[int, int, int], features: int, backward: bool) -> int:
    """Every input and output of a pass once, float32."""
    models, rows, latents = shape
    small, large = models * rows * latents, models * rows * features
    of_op = {"reparam_kl": 4 * small + backward * 6 * small, "gaussian_nll": 2 * large + backward * 3 * large}
    return 4 * (of_op.get(op) or sum(of_op.values()))


def seconds(runs: dict[str, Callable], device: str, at_least: float = 0.3, rounds: int = 15) -> dict[str, float]:
    """Median seconds of each, over rounds in which they take turns."""
    repeats, times = {}, {name: [] for name in runs}
    for name, run in runs.items():
        timed(run, 2, device)
        repeats[name] = max(1, round(at_least / rounds / timed(run, 3, device)))
    for _ in range(rounds):
        for name, run in runs.items():
            times[name].append(timed(run, repeats[name], device))
    return {name: statistics.median(values) for name, values in times.items()}


def timed(run: Callable, repeats: int, device: str) -> float:
    synchronise = torch.cuda.synchronize if device == "cuda" else (lambda: None)
    synchronise()
    start = time.perf_counter()
    for _ in range(repeats):
        run()
    synchronise()
    return (time.perf_counter() - start) / repeats


def copy_bandwidth(device: str) -> float:
    """Bytes per second read and written by copying an array larger than the caches."""
    source = torch.zeros(1 << 25, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / seconds({"copy": lambda: target.copy_(source)}, device)["copy"]


def measure(arguments: argparse.Namespace) -> pd.DataFrame:
    """One row per shape, operation, pass and implementation."""
    bandwidth, rows = copy_bandwidth(arguments.device), []
    shapes = [tuple(map(int, shape.split("x"))) for shape in arguments.shapes.split(",")]
    for shape, op, part in product(shapes, OPS, PASSES):
        torch.compiler.reset()
        backward = part != "forward"
        tensors = make_tensors(shape, arguments.features, arguments.device)
        functions = implementations(arguments.implementations.split(","))
        runs = {name: make_run(pair, op, tensors, backward) for name, pair in functions.items()}
        moved = bytes_moved(op, shape, arguments.features, backward)
        for name, duration in seconds(runs, arguments.device).items():
            row = {"shape": "x".join(map(str, shape)), "D": arguments.features, "op": op, "pass": part}
            row |= {"implementation": name, "us": duration * 1e6, "GB_per_s": moved / duration / 1e9}
            rows.append(row | {"of_copy": moved / duration / bandwidth})
    return pd.DataFrame(rows)


def table(measured: pd.DataFrame) -> pd.DataFrame:
    """Microseconds side by side, native's speedup over eager and its share of the copy bandwidth."""
    keys = ["shape", "op", "pass"]
    wide = measured.pivot_table(index=keys, columns="implementation", values="us", sort=False)
    if "native" in wide and "eager" in wide:
        native = measured[measured["implementation"] == "native"].set_index(keys)
        wide["eager/native"] = (wide["eager"] / wide["native"]).round(1)
        wide["native GB/s"] = native["GB_per_s"].round(1)
        wide["of copy"] = native["of_copy"].round(2)
    return wide.reset_index()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--shapes", default=SHAPES)
    parser.add_argument("--features", type=int, default=64, help="D")
    parser.add_argument("--implementations", default="eager,compile,twin,native")
    parser.add_argument("--csv", help="write all measurements to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    measured = measure(arguments)
    print(f"{arguments.device}, {arguments.threads} threads, torch {torch.__version__}, D = {arguments.features}")
    print(table(measured).to_string(index=False, float_format=lambda value: f"{value:.4g}"))
    if arguments.csv:
        measured.to_csv(arguments.csv, index=False)


if __name__ == "__main__":
    main()
