"""What does benchmarks/gpu.py compute? One part per process: the times of a tier, the sweep, the run for a sanitizer.

    python benchmarks/gpu_parts.py tier:i|...|tier:v|sweep|exercise [--dry]

takes up to five minutes on a GPU (with --dry some seconds, also on a CPU), writes no file and prints its result as JSON
in the last line.
"""

from __future__ import annotations

import json
import os
import time
import warnings
from typing import Any

import numpy as np
import torch
from contenders.common import HIDDEN, make_data, settings_of
from contenders.loop import PlainVAE, first_batches
from contenders.phasevae_trainer import train_steps
from shared import ARCHITECTURES, Steps, make_parser, paper_problem, repeated, seconds_for, seconds_per_step
from torch import Tensor

from phasevae.architecture import Architecture
from phasevae.kernels.dispatch import backend
from phasevae.measurement.measure import measure_model
from phasevae.spectrum.measure import compute_spectrum
from phasevae.sweeps.settings import Member
from phasevae.theory.ppca import ppca_kl
from phasevae.training import cuda_graph
from phasevae.training.trainer import Trainer

BATCH = 128
MODELS = 128
TIERS = {
    "i": "DataLoader, one model after another",
    "ii": "data on the GPU",
    "iii": "+ CUDA graph",
    "iv": "batched ensemble, eager PyTorch",
    "iv+graph": "batched ensemble, PyTorch, CUDA graph",
    "iv+fused": "batched ensemble, fused kernels for the whole step, eager",
    "v": "batched ensemble, fused kernels for the whole step, CUDA graph",
    "v+tf32": "the same, products of matrices in TF32",
}
PLAIN = ("i", "ii", "iii")

HAS_GPU = torch.cuda.is_available()
DEVICE = "cuda" if HAS_GPU else "cpu"


def synchronise() -> None:
    """Wait for the GPU, if there is one."""
    if HAS_GPU:
        torch.cuda.synchronize()


def plain_run(name: str, shape: tuple, dry: bool) -> Steps:
    """Return the function that trains one model for some steps, for tiers i to iii.

    Parameters
    ----------
    name : tier
    shape : dimension, hidden widths and number of latents
    dry : whether to do without the CUDA graph
    """
    dimension, hidden, n_latent = shape
    x = torch.randn(65536, dimension, device="cpu" if name == "i" else DEVICE)
    networks = Architecture(dimension, n_latent, hidden).networks
    model = PlainVAE(*(network.widths for network in networks)).to(DEVICE)
    with_graph = name == "iii" and not dry
    adam = torch.optim.Adam(model.parameters(), lr=1e-3, capturable=with_graph)
    data = torch.utils.data.TensorDataset(x)
    batches = first_batches(torch.utils.data.DataLoader(data, batch_size=BATCH, shuffle=True))

    def update(batch: Tensor) -> Tensor:
        adam.zero_grad()
        loss = model(batch, 0.9)
        loss.backward()
        adam.step()
        return loss

    def step() -> None:
        if name == "i":
            (batch,) = next(batches)
            update(batch.to(DEVICE)).item()
        else:
            update(x[torch.randint(x.shape[0], (BATCH,), device=x.device)])

    return repeated(cuda_graph.captured(step, [x]) if with_graph else step)


def trainer_run(name: str, shape: tuple, models: int, dry: bool) -> Steps:
    """Return the function that trains the ensemble for some steps, for tiers iv and v.

    Parameters
    ----------
    name, shape, dry : as for `plain_run`
    models : number of models
    """
    dimension, hidden, n_latent = shape
    members = [Member(0.5 + 0.01 * i, 1.0, i % 4) for i in range(models)]
    x = torch.randn(65536, dimension, device=DEVICE)
    with_graph = name in ("iv+graph", "v", "v+tf32") and not dry
    trainer = Trainer(x, members, settings_of("usual", n_latent, hidden, BATCH * 1e6), with_graph)
    return lambda steps: train_steps(trainer, steps)


def tier(name: str, dry: bool) -> dict[str, float]:
    """Microseconds per model-step by architecture; of two steps if `dry`."""
    warnings.filterwarnings("error", message="training without a CUDA graph")
    models = 1 if name in PLAIN else 2 if dry else MODELS
    times = {}
    for architecture, shape in ARCHITECTURES.items():
        run = plain_run(name, shape, dry) if name in PLAIN else trainer_run(name, shape, models, dry)
        if dry:
            seconds = seconds_for(run, 2, synchronise) / 2
        else:
            seconds = seconds_per_step({name: run}, 0.5, 5, synchronise)[name]
        times[architecture] = 1e6 * seconds / models
    return times


def paper_sweep(dry: bool) -> dict[str, Any]:
    """The paper's synthetic sweep, shortened: 16 decoder variances, 8 seeds, one ensemble; KL against pPCA."""
    problem = paper_problem()
    variances, seeds = (problem.sigma2[::8], 1) if dry else (problem.sigma2, 8)
    data = make_data(problem, 512 if dry else 65536)
    eigenvalues = compute_spectrum(data).eigenvalues
    x = torch.from_numpy(data).to(DEVICE)
    members = [Member(sigma2, 1.0, seed) for sigma2 in variances for seed in range(seeds)]
    settings = settings_of("ours", problem.n_latent, HIDDEN, 1024 if dry else 1e6)
    start = time.perf_counter()
    trainer = Trainer(x, members, settings.with_changes(batch=512))
    trainer.run()
    trained = time.perf_counter() - start
    measured = [
        measure_model(trainer.model.member(i), x, member, with_likelihood=False) for i, member in enumerate(members)
    ]
    kl = np.array([point["kl"] for point in measured])
    error = kl - [ppca_kl(eigenvalues, member.sigma2, problem.n_latent) for member in members]
    return {
        "models": len(members),
        "steps": trainer.step,
        "backend": backend(DEVICE),
        "train_seconds": round(trained, 2),
        "measure_seconds": round(time.perf_counter() - start - trained, 2),
        "kl_rms_nats": float(np.sqrt(np.mean(error**2))),
        "kl_largest_error_nats": float(np.abs(error).max()),
    }


def exercise() -> str:
    """Run every kernel on shapes that leave blocks and warps incomplete, and some training steps, for a sanitizer."""
    from phasevae.kernels import native

    for models, rows, n in ((1, 1, 1), (3, 70, 5), (2, 33, 130)):
        for dtype in (torch.float32, torch.float64):
            mu, logvar = (torch.randn(models, rows, n, device="cuda", dtype=dtype).requires_grad_() for _ in range(2))
            keys, step = torch.arange(models, device="cuda"), torch.tensor(3, device="cuda")
            z, kl = native.reparam_kl(mu, logvar, keys, step, True)
            x = torch.zeros(1, rows, n, device="cuda", dtype=dtype)
            nll = native.gaussian_nll(x, z, torch.ones(models, device="cuda", dtype=dtype))
            torch.autograd.grad(nll.sum() + kl.sum(), (mu, logvar))
            native.normals(keys, keys, rows, n, dtype)
            native.rao_blackwell_targets(x, None, mu, logvar, z, z, rows)
    cached = not os.environ.get("PYTORCH_NO_CUDA_MEMORY_CACHING")
    data = torch.randn(150, 5, device="cuda")
    # Tiles that are full and incomplete, noise that is matched and groups of rows.
    for hidden, batch in (((9,), 10), ((33, 130), 130)):
        settings = settings_of("ours", 3, hidden, 6 * batch).with_changes(batch=batch)
        for use_graph in (False, True) if cached else (False,):
            Trainer(data, [Member(0.5, 1.0, seed) for seed in (0, 1)], settings, use_graph).run()
    torch.backends.cuda.matmul.allow_tf32 = True
    Trainer(data, [Member(0.5, 1.0, seed) for seed in (0, 1)], settings, False).run()
    synchronise()
    return "every kernel ran"


def main() -> None:
    """Run the command line."""
    parser = make_parser(__doc__)
    parser.add_argument("part", choices=[*(f"tier:{name}" for name in TIERS), "sweep", "exercise"])
    parser.add_argument("--dry", action="store_true", help="two steps")
    arguments = parser.parse_args()
    kind, _, name = arguments.part.partition(":")
    parts = {"tier": lambda: tier(name, arguments.dry), "sweep": lambda: paper_sweep(arguments.dry)}
    print(json.dumps(parts.get(kind, exercise)()))


if __name__ == "__main__":
    main()
