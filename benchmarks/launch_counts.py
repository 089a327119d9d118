"""How many launches does a training step make on a GPU, and how many bytes do they move?

    python benchmarks/launch_counts.py [--batch 256] [--calls]

records the operations of a step on the CPU, with the code that runs on a GPU, and counts those that launch a kernel
there. Nothing is timed. `PHASEVAE_BACKEND=torch` counts the step without the native kernels. It takes seconds.

Bytes are those of the tensors that an operation reads and writes, each once, without caches: an estimate. Launches are
exact but for products of matrices, where a library may choose several, and a sum of few rows, where it may choose two.
"""

from __future__ import annotations

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
from phasevae.training.trainer import Trainer

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
    """

    part: str
    name: str
    launches: int
    read_or_written: int


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


def launches_of(call: Call, part: str) -> Launches | None:
    """Return what an operation launches, None if nothing."""
    name = call.name.partition("::")[2]
    if call.is_view or name in WITHOUT_A_LAUNCH:
        return None
    moved = sum(map(size, tensors_of((call.args, call.kwargs)))) + sum(map(size, call.made))
    if name not in ("copy_", "fill_", "zero_"):
        # What changes in place is read and written; the tensor for a result, a keyword, is only written.
        results = [id(tensor) for tensor in tensors_of(call.kwargs)]
        moved += sum(size(tensor) for tensor in call.written if id(tensor) not in results)
    count = 1
    if name == "baddbmm":
        # The bias is copied into the result before the product is added to it.
        count, moved = 2, moved + 2 * size(call.made[0])
    return Launches(part, name, count, moved)


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
    found = (launches_of(*pair) for pair in zip(recorder.calls, recorder.parts, strict=True))
    return [launches for launches in found if launches is not None]


def as_on_a_gpu() -> None:
    """Let the operations of a GPU be called for tensors of the CPU."""
    mlp._native_kernels = lambda *_: False
    mlp._is_thin = lambda *_: False
    if dispatch.backend("cpu") != "torch":
        of_cpu = dispatch.implementation("cpu")
        of_cpu.TARGET_DEVICES = tuple("cpu" for device in of_cpu.TARGET_DEVICES if device == "cuda")


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


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--calls", action="store_true", help="also list the operations")
    arguments = parser.parse_args()
    as_on_a_gpu()
    for name, shape in ARCHITECTURES.items():
        print(f"\n{name}, batch {arguments.batch}, {dispatch.backend('cpu')}\n")
        print("\n".join(table(shape, arguments.batch, arguments.calls)))


if __name__ == "__main__":
    main()
