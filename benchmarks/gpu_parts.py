"""What benchmarks/gpu.py computes, one part a process: the times of a tier, the sweep, and the run for a sanitizer.

    python benchmarks/gpu_parts.py tier:i|...|tier:v|sweep|exercise [--dry]

prints its result as JSON in the last line.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[1]
# D, hidden, n_latent
ARCHITECTURES = {"8-256-128|128-256-8 n=4": (8, (256, 128), 4), "64-512-256|256-512-64 n=16": (64, (512, 256), 16)}
BATCH = 128
MODELS = 128
TIERS = {
    "i": "DataLoader, one model after another",
    "ii": "data on the GPU",
    "iii": "+ CUDA graph",
    "iv": "batched ensemble, eager PyTorch",
    "iv+graph": "batched ensemble, PyTorch, CUDA graph",
    "iv+fused": "batched ensemble, fused operations and Adam, eager",
    "v": "batched ensemble, fused operations and Adam, CUDA graph",
}
EIGENVALUES = [0.9048374180**i for i in range(8)]


def device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def us_per_step(run: Callable[[int], None], dry: bool, round_seconds: float = 0.5, rounds: int = 5) -> float:
    """Median over rounds of the time that run(n) takes for one of its n steps."""

    def timed(steps: int) -> float:
        synchronise()
        start = time.perf_counter()
        run(steps)
        synchronise()
        return (time.perf_counter() - start) / steps

    if dry:
        return 1e6 * timed(2)
    timed(50)
    steps = max(20, round(round_seconds / timed(50)))
    return 1e6 * statistics.median(timed(steps) for _ in range(rounds))


class PlainVAE(nn.Module):
    """One VAE as one writes it without this package."""

    def __init__(self, dimension: int, hidden: tuple[int, ...], n_latent: int):
        super().__init__()
        first, second = hidden
        inner = (nn.Linear(dimension, first), nn.ReLU(), nn.Linear(first, second), nn.ReLU())
        self.encoder = nn.Sequential(*inner, nn.Linear(second, 2 * n_latent))
        inner = (nn.Linear(n_latent, second), nn.ReLU(), nn.Linear(second, first), nn.ReLU())
        self.decoder = nn.Sequential(*inner, nn.Linear(first, dimension))

    def forward(self, x: Tensor, sigma2: float = 0.9) -> Tensor:
        """The negative ELBO without its constant."""
        mu, logvar = self.encoder(x).chunk(2, -1)
        xhat = self.decoder(mu + (0.5 * logvar).exp() * torch.randn_like(mu))
        kl = 0.5 * (mu.square() + logvar.exp() - 1 - logvar).sum(-1)
        return ((x - xhat).square().sum(-1) / (2 * sigma2) + kl).mean()


def shuffled_batches(x: Tensor) -> Iterator[Tensor]:
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x), batch_size=BATCH, shuffle=True)
    while True:
        for (batch,) in loader:
            yield batch


def plain_run(name: str, shape: tuple, dry: bool) -> Callable[[int], None]:
    """Tiers (i) to (iii): run(n) does n steps of one model."""
    from phasevae.training import cuda_graph

    x = torch.randn(65536, shape[0], device="cpu" if name == "i" else device())
    model = PlainVAE(*shape).to(device())
    with_graph = name == "iii" and not dry
    adam = torch.optim.Adam(model.parameters(), lr=1e-3, capturable=with_graph)
    batches = shuffled_batches(x)

    def update(batch: Tensor) -> Tensor:
        adam.zero_grad()
        loss = model(batch)
        loss.backward()
        adam.step()
        return loss

    def step() -> None:
        if name == "i":
            update(next(batches).to(device())).item()
        else:
            update(x[torch.randint(x.shape[0], (BATCH,), device=x.device)])

    launch = cuda_graph.captured(step, [x]) if with_graph else step

    def run(steps: int) -> None:
        for _ in range(steps):
            launch()

    return run


def trainer_run(name: str, shape: tuple, dry: bool) -> Callable[[int], None]:
    """Tiers (iv) and (v): run(n) does n steps of the ensemble."""
    from phasevae.sweep.settings import Member
    from phasevae.training.trainer import Trainer

    dimension, hidden, n_latent = shape
    members = [Member(0.5 + 0.01 * i, 1.0, i % 4) for i in range(2 if dry else MODELS)]
    x = torch.randn(65536, dimension, device=device())
    with_graph = name in ("iv+graph", "v") and not dry
    trainer = Trainer(x, members, recipe(n_latent, hidden, BATCH * 1e6, BATCH, False), with_graph)

    def run(steps: int) -> None:
        end = trainer.step + steps
        trainer.run(should_stop=lambda: trainer.step == end)

    return run


def recipe(n_latent: int, hidden: tuple[int, ...], samples: float, batch: int, antithetic: bool) -> Any:
    from phasevae.sweep.settings import Settings

    return Settings(
        n_latent=n_latent,
        hidden=hidden,
        samples=samples,
        batch=batch,
        learning_rate=5e-3,
        schedule="anneal",
        anneal_from=0.4,
        anneal_fraction=0.3,
        antithetic=antithetic,
        rao_blackwell_group=64 if antithetic else 1,
        balanced_order=antithetic,
        moment_matched_noise=antithetic,
        holdout=0.0,
    )


def tier(name: str, dry: bool) -> dict[str, float]:
    """Microseconds per model-step by architecture."""
    warnings.filterwarnings("error", message="training without a CUDA graph")
    found = {}
    for architecture, shape in ARCHITECTURES.items():
        batched = name not in ("i", "ii", "iii")
        run = (trainer_run if batched else plain_run)(name, shape, dry)
        found[architecture] = us_per_step(run, dry) / ((2 if dry else MODELS) if batched else 1)
    return found


def paper_sweep(dry: bool) -> dict[str, Any]:
    """The paper's synthetic sweep, shortened: 16 decoder variances, 8 seeds, one ensemble; KL against pPCA."""
    import numpy as np

    from phasevae.kernels.elbo import backend
    from phasevae.measurement.measure import column_means, measure_model
    from phasevae.sweep.settings import Member
    from phasevae.theory.ppca import ppca_exact_above, ppca_kl
    from phasevae.training.trainer import Trainer

    scale = torch.tensor(EIGENVALUES).sqrt()
    x = (scale * torch.randn(1024 if dry else 65536, 8, generator=torch.Generator().manual_seed(1234))).to(device())
    eigenvalues = torch.linalg.eigvalsh(x.double().T.cov(correction=0)).flip(0).tolist()
    x -= x.mean(0)
    variances = np.linspace(ppca_exact_above(eigenvalues, 4) + 0.01, 1.15, 2 if dry else 16)
    members = [Member(float(sigma2), 1.0, seed) for sigma2 in variances for seed in range(1 if dry else 8)]
    start = time.perf_counter()
    trainer = Trainer(x, members, recipe(4, (256, 128), 1024.0 if dry else 1e6, 512, True))
    trainer.run()
    trained = time.perf_counter() - start
    mean = column_means(x)
    kl = [measure_model(trainer.model.member(i), x, mean, member)["kl"] for i, member in enumerate(members)]
    error = np.array(kl) - [ppca_kl(eigenvalues, member.sigma2, 4) for member in members]
    return {
        "models": len(members),
        "steps": trainer.step,
        "backend": backend(device()),
        "train_seconds": round(trained, 2),
        "measure_seconds": round(time.perf_counter() - start - trained, 2),
        "kl_rms_nats": float(np.sqrt(np.mean(error**2))),
        "kl_largest_error_nats": float(np.abs(error).max()),
    }


def exercise() -> str:
    """Every kernel on shapes that leave blocks and warps incomplete, and some steps of training: for a sanitizer."""
    from phasevae.kernels import native
    from phasevae.sweep.settings import Member
    from phasevae.training.trainer import Trainer

    for models, rows, n in ((1, 1, 1), (3, 70, 5), (2, 33, 130)):
        for dtype in (torch.float32, torch.float64):
            mu, logvar = (torch.randn(models, rows, n, device="cuda", dtype=dtype).requires_grad_() for _ in range(2))
            keys, step = torch.arange(models, device="cuda"), torch.tensor(3, device="cuda")
            z, kl = native.reparam_kl(mu, logvar, keys, step, True)
            x = torch.zeros(1, rows, n, device="cuda", dtype=dtype)
            nll = native.gaussian_nll(x, z, torch.ones(models, device="cuda", dtype=dtype))
            torch.autograd.grad(nll.sum() + kl.sum(), (mu, logvar))
            native.reparam_eps(keys, rows, n, 3, dtype)
    cached = not os.environ.get("PYTORCH_NO_CUDA_MEMORY_CACHING")
    data = torch.randn(50, 5, device="cuda")
    for use_graph in (False, True) if cached else (False,):
        trainer = Trainer(data, [Member(0.5, 1.0, seed) for seed in (0, 1)], recipe(3, (9,), 60.0, 10, True), use_graph)
        trainer.run()
    synchronise()
    return "every kernel ran"


def run_part(name: str, dry: bool) -> Any:
    sys.path.insert(0, str(ROOT))
    if name.startswith("tier:"):
        return tier(name.removeprefix("tier:"), dry)
    return paper_sweep(dry) if name == "sweep" else exercise()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=[*(f"tier:{name}" for name in TIERS), "sweep", "exercise"])
    parser.add_argument("--dry", action="store_true", help="two steps")
    arguments = parser.parse_args()
    print(json.dumps(run_part(arguments.part, arguments.dry)))


if __name__ == "__main__":
    main()
