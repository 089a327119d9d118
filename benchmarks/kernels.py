"""How fast are the ELBO operations? Eager PyTorch, torch.compile, the PyTorch twin and the native kernels in one run.

    python benchmarks/kernels.py [--device cpu] [--threads 1] [--csv kernels.csv]              half an hour
    python benchmarks/kernels.py --shapes 1x128x4 --implementations eager,twin,native          a quick look

prints a table, and writes all measurements to the file of --csv. A shape is M x B x n: models, rows, latents. The
number of features is D. The implementations take turns, so that a disturbance of the machine affects all of them; the
time is the median of the rounds. `eager` is plain code without this package: torch.randn and plain operations.
Achieved bytes/s count each input and output of a pass once, so they compare with the copy bandwidth measured in the
same run.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from itertools import product
from pathlib import Path

import pandas as pd
import torch
from shared import make_parser, repeated, seconds_per_step
from torch import Tensor

from phasevae.artifacts.tables import write_table
from phasevae.kernels import backends, reference

SHAPES = "1x128x4,1x512x16,16x128x4,16x128x16,64x512x16,128x128x4,128x512x16"
OPS = ("reparam_kl", "gaussian_nll", "both")
PASSES = ("forward", "forward+backward")


def eager_reparam_kl(mu: Tensor, logvar: Tensor, keys: Tensor, step: int, antithetic: bool) -> tuple[Tensor, Tensor]:
    """As users write it."""
    spread = (0.5 * logvar).exp() * torch.randn_like(mu)
    return (mu + spread).unsqueeze(1), 0.5 * (mu.square() + logvar.exp() - 1 - logvar)


def eager_gaussian_nll(x: Tensor, xhat: Tensor, sigma2: Tensor) -> Tensor:
    """As users write it."""
    return (xhat - x.unsqueeze(1)).square().sum(-1) / (2 * sigma2[:, None, None])


def implementations(names: list[str]) -> dict[str, tuple[Callable, Callable]]:
    """(reparam_kl, gaussian_nll) by name, of the given names that are available."""
    pairs = {
        "eager": (eager_reparam_kl, eager_gaussian_nll),
        "compile": (torch.compile(eager_reparam_kl), torch.compile(eager_gaussian_nll)),
        "twin": (reference.reparam_kl, reference.gaussian_nll),
    }
    if backends.states()["native_cpu"].available:
        from phasevae.kernels import native

        pairs["native"] = (native.reparam_kl, native.gaussian_nll)
    return {name: pair for name, pair in pairs.items() if name in names}


def make_run(functions: tuple[Callable, Callable], op: str, tensors: dict, backward: bool) -> Callable[[], None]:
    """Return the function without arguments that is timed.

    Parameters
    ----------
    functions : implementation of reparam_kl and gaussian_nll
    op : one of `OPS`
    tensors : inputs, and gradients by the shape of the output, of `make_tensors`
    backward : whether to compute the gradients of the inputs as well
    """
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
    """Random inputs of both operations by name, and gradients of the outputs by their shape."""
    models, rows, latents = shape
    tensors = {
        "mu": torch.randn(shape, device=device),
        "logvar": torch.randn(shape, device=device),
        "keys": torch.arange(models, device=device),
        "x": torch.randn(models, rows, features, device=device),
        "xhat": torch.randn(models, 1, rows, features, device=device),
        "sigma2": torch.ones(models, device=device),
    }
    output_shapes = (shape, (models, 1, rows, latents), (models, 1, rows))
    tensors["gradients"] = {torch.Size(s): torch.randn(s, device=device) for s in output_shapes}
    return tensors


def bytes_moved(op: str, shape: tuple[int, int, int], features: int, backward: bool) -> int:
    """Bytes of every input and output of a pass, each counted once, in float32."""
    models, rows, latents = shape
    small, large = models * rows * latents, models * rows * features
    by_op = {"reparam_kl": 4 * small + backward * 6 * small, "gaussian_nll": 2 * large + backward * 3 * large}
    return 4 * (by_op.get(op) or sum(by_op.values()))


def seconds(calls: dict[str, Callable[[], object]], device: str) -> dict[str, float]:
    """Median seconds of each call, over 15 rounds in which they take turns."""
    synchronise = torch.cuda.synchronize if device == "cuda" else (lambda: None)
    return seconds_per_step({name: repeated(call) for name, call in calls.items()}, 0.02, 15, synchronise)


def copy_bandwidth(device: str) -> float:
    """Bytes per second read and written when an array larger than the caches is copied."""
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
    """Microseconds side by side, the speedup of native over eager and its share of the copy bandwidth."""
    keys = ["shape", "op", "pass"]
    wide = measured.pivot_table(index=keys, columns="implementation", values="us", sort=False)
    if "native" in wide and "eager" in wide:
        native = measured[measured["implementation"] == "native"].set_index(keys)
        wide["eager/native"] = (wide["eager"] / wide["native"]).round(1)
        wide["native GB/s"] = native["GB_per_s"].round(1)
        wide["of copy"] = native["of_copy"].round(2)
    return wide.reset_index()


def main() -> None:
    """Run the command line."""
    parser = make_parser(__doc__)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--shapes", default=SHAPES)
    parser.add_argument("--features", type=int, default=64, help="D")
    parser.add_argument("--implementations", default="eager,compile,twin,native")
    parser.add_argument("--csv", type=Path, help="write all measurements to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    measured = measure(arguments)
    print(f"{arguments.device}, {arguments.threads} threads, torch {torch.__version__}, D = {arguments.features}")
    print(table(measured).to_string(index=False, float_format=lambda value: f"{value:.4g}"))
    if arguments.csv:
        write_table(arguments.csv, measured)


if __name__ == "__main__":
    main()
