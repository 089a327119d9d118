"""How many launches does a training step make on a GPU, and how many bytes do they move?

    python benchmarks/launch_counts.py [--batch 256] [--calls] [--roofline]

records the operations of a step on the CPU, with the code that runs on a GPU, and counts those that launch a kernel
there. Nothing is timed. `PHASEVAE_BACKEND=torch` counts the step without the native kernels. It takes seconds.

Bytes are those of the tensors that an operation reads and writes, each once, without caches: an estimate. With
--roofline, so are the floating-point operations of products of matrices, a fused product as two. Launches are
exact but for products of matrices, where a library may choose several, and a sum of few rows, where it may choose two.
They are those of many models: with few, csrc/cuda/networks.cu adds sums over rows in a launch more for each network.
"""

from __future__ import annotations

import itertools
import sys
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import torch
from captured import Call, Recorder, tensors_of
from shared import ARCHITECTURES, make_parser
from torch import Tensor

from phasevae.kernels import dispatch, mlp
from phasevae.sweeps.settings import Member, Settings
from phasevae.training import native_steps
from phasevae.training.trainer import Trainer

RIDGE = 20
"""Operations a byte where a kernel is bound by both: 67 TFLOP/s in float32 and 3.35 TB/s, the data sheet of an H100."""

STEP_KERNELS = ("sample_posterior", "sample_posterior_backward", "gaussian_objective", "step_inputs")

# Operations that allocate or rename memory.
WITHOUT_A_LAUNCH = {"empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided", "_unsafe_view", "detach"}

PARTS = {
    ("variance_reduction", "moment_matched_noise"): "moment-matched noise",
    ("variance_reduction", "rao_blackwell_targets"): "Rao-Blackwellised targets",
    ("mlp", "forward"): "networks, forward",
    ("mlp", "backward"): "networks, backward",
    ("adam", "step"): "Adam",
    ("vae_step", "_by_outputs"): "reconstruction and its derivatives",
    ("vae_step", "differentiate"): "sampling, KL and their derivatives",
    ("fused_step", "_by_outputs"): "reconstruction, targets and their derivatives",
    ("trainer", "_compute"): "rows, schedules, counters, history",
}
"""Parts of a step by the innermost of these functions, by file and name."""


class Launches(NamedTuple):
    """Of an operation of a step.

    Attributes
    ----------
    part, name : str
    launches : int
    read_or_written : int
        Bytes.
    operations : int
        Floating-point operations of products of matrices.
    """

    part: str
    name: str
    launches: int
    read_or_written: int
    operations: int = 0


class PartRecorder(Recorder):
    """A Recorder that knows which part of the step makes each call."""

    def __init__(self):
        super().__init__()
        self.parts: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = super().__torch_dispatch__(func, types, args, kwargs)
        frame = sys._getframe(1)
        while (place := (Path(frame.f_code.co_filename).stem, frame.f_code.co_name)) not in PARTS:
            frame = frame.f_back
        self.parts.append(PARTS[place])
        return result


def size(tensor: Tensor) -> int:
    """Return the bytes of the numbers of a tensor; those that a stride of 0 repeats count once."""
    numbers = tensor.element_size()
    for length, stride in zip(tensor.shape, tensor.stride(), strict=True):
        numbers *= length if stride else 1
    return numbers


def launches_of(call: Call, part: str) -> list[Launches]:
    """Return what an operation launches."""
    name = call.name.partition("::")[2]
    if call.is_view or name in WITHOUT_A_LAUNCH:
        return []
    if name in ("mlp_forward", "mlp_backward"):
        return [Launches(part, *layer) for layer in layer_launches(name, *call.args)]
    moved = sum(map(size, tensors_of((call.args, call.kwargs)))) + sum(map(size, call.made))
    if name not in ("copy_", "fill_", "zero_"):
        # What changes in place is read and written; the tensor for a result, a keyword, is only written.
        results = [id(tensor) for tensor in tensors_of(call.kwargs)]
        moved += sum(size(tensor) for tensor in call.written if id(tensor) not in results)
    count = 1
    if name == "baddbmm":
        # The bias is copied into the result before the product is added to it.
        count, moved = 2, moved + 2 * size(call.made[0])
    elif name == "gaussian_objective":
        # The rows and the outputs are read by both launches, and a control variate for each half is handed over.
        x, decoded = call.args[0], call.args[5]
        count, moved = 2, moved + size(x) + size(decoded) + 4 * size(decoded[:, 0, 0])
    elif name == "step_inputs":
        moved += size(call.made[0])
    return [Launches(part, name, count, moved)]


def layer_launches(name: str, x: Tensor, parameters: Tensor, _: int, widths: list[int], *others: object) -> list[tuple]:
    """Return name, 1, bytes and operations of the launches of a pass: csrc/cuda/networks.cu has one for each layer."""
    of_width = x.element_size() * len(parameters) * x.shape[1]
    names = [f"{name} {a} x {b}" for a, b in itertools.pairwise(widths)]
    products = [2 * len(parameters) * x.shape[1] * a * b for a, b in itertools.pairwise(widths)]
    inputs = [size(x), *(of_width * width for width in widths[1:-1])]
    layers = [x.element_size() * len(parameters) * (a + 1) * b for a, b in itertools.pairwise(widths)]
    if name == "mlp_forward":
        outputs = (of_width * width for width in widths[1:])
        moved = [sum(layer) for layer in zip(inputs, layers, outputs, strict=True)]
        return [(*layer[:1], 1, *layer[1:]) for layer in zip(names, moved, products, strict=True)]
    objectives = 1 if others[2] is None else 2
    launches = []
    for k, (of_input, of_layer) in enumerate(zip(inputs, layers, strict=True)):
        # Both gradients by the output are read; those by the input, or the only one of the first layer, are written.
        by_input = objectives if k else int(others[3])
        weight = of_layer if by_input else 0
        moved = of_input + of_layer + weight + of_width * (objectives * widths[k + 1] + by_input * widths[k])
        launches.append((names[k], 1, moved, (1 + by_input) * products[k]))
    return launches


def record(models: int, shape: tuple[int, tuple[int, ...], int], batch: int) -> list[Launches]:
    """Return the launches of a step of the default training.

    Parameters
    ----------
    models : int
    shape : dimension, hidden widths and number of latents
    batch : int
    """
    dimension, hidden, n_latent = shape
    members = [Member(0.5 + 0.01 * i, 1.0, i % 2) for i in range(models)]
    settings = Settings(n_latent=n_latent, hidden=hidden, batch=batch, samples=batch * 1e4)
    trainer = Trainer(torch.randn(2048, dimension), members, settings, use_graph=False)
    trainer._inputs.prepare(0)
    recorder = PartRecorder()
    with recorder:
        trainer._compute()
    return [found for pair in zip(recorder.calls, recorder.parts, strict=True) for found in launches_of(*pair)]


def as_on_a_gpu() -> None:
    """Let the operations of a GPU be called for tensors of the CPU."""
    mlp._is_thin = lambda *_: False
    if dispatch.backend("cpu") != "torch":
        of_cpu = dispatch.implementation("cpu")
        of_cpu.has_step_kernels = lambda _: True
        native_steps.NativeSteps.can_train = lambda *_: False
        # Only the shapes of their results count.
        for name in STEP_KERNELS:
            torch.library.impl(f"phasevae::{name}", "CPU")(getattr(of_cpu, f"_fake_{name}"))
        torch.library.impl("phasevae::end_step", "CPU")(lambda *_: None)


def table(shape: tuple[int, tuple[int, ...], int], batch: int, with_calls: bool) -> list[str]:
    """Return the lines of the table of an architecture: launches of a step, bytes of a model-step."""
    two, four = (record(models, shape, batch) for models in (2, 4))
    assert [launches[:3] for launches in two] == [launches[:3] for launches in four], "launches depend on the models"
    parts: dict[str, list[float]] = defaultdict(lambda: [0, 0.0])
    lines = []
    for few, many in zip(two, four, strict=True):
        # What an additional model reads and writes: rows that all models share do not count.
        of_model = (many.read_or_written - few.read_or_written) / 2
        parts[few.part][0] += few.launches
        parts[few.part][1] += of_model
        if with_calls:
            lines.append(f"{few.part}: {few.name}, {few.launches}, {of_model / 1e6:.3f} MB")
    lines += ["| part | launches a step | MB a model-step (estimate) |", "|---|---|---|"]
    lines += [f"| {part} | {count} | {moved / 1e6:.2f} |" for part, (count, moved) in parts.items()]
    total = [sum(column) for column in zip(*parts.values(), strict=True)]
    return [*lines, f"| all | {total[0]} | {total[1] / 1e6:.1f} |"]


def roofline(shape: tuple[int, tuple[int, ...], int], batch: int) -> list[str]:
    """Return the lines of a table of the kernels of a step: bytes and operations of a model-step."""
    lines = [
        "| kernel | MB (estimate) | MFLOP of products (estimate) | FLOP a byte | bound by |",
        "|---|---|---|---|---|",
    ]
    for few, many in zip(*(record(models, shape, batch) for models in (2, 4)), strict=True):
        moved, operations = ((many[i] - few[i]) / 2 for i in (3, 4))
        if moved > 1000:
            intensity = operations / moved
            roof = "arithmetic" if intensity > RIDGE else "memory"
            lines.append(f"| {few.name} | {moved / 1e6:.2f} | {operations / 1e6:.1f} | {intensity:.0f} | {roof} |")
    return lines


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--calls", action="store_true", help="also list the operations")
    parser.add_argument("--roofline", action="store_true", help="also list bytes and operations of each kernel")
    arguments = parser.parse_args()
    as_on_a_gpu()
    for name, shape in ARCHITECTURES.items():
        print(f"\n{name}, batch {arguments.batch}, {dispatch.backend('cpu')}\n")
        print("\n".join(table(shape, arguments.batch, arguments.calls)))
        if arguments.roofline:
            print("\n" + "\n".join(roofline(shape, arguments.batch)))


if __name__ == "__main__":
    main()
