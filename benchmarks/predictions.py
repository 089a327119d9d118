"""Do networks do what `phasevae predict` says? Train plain PyTorch VAEs, and pythae's where it is installed, at 0.8 and
1.25 times the predicted critical weight of KL, and at the weights of public threads, and compare.

Losses are written here as users write them, not by phasevae's conventions. A run raises the weight of KL from 0.3 of
the critical one to its target during the first half of the training, so that it reaches it from the active side.

    python benchmarks/predictions.py                                      # docs/gallery.csv, ten minutes on one core
    python benchmarks/predictions.py --only mean-se,pythae --steps 500
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from phasevae import artifacts, predict, theory

GALLERY = Path(__file__).parents[1] / "docs" / "gallery.csv"
BELOW, ABOVE = 0.8, 1.25
ALIVE, DEAD = 0.01, 0.001
"""KL in nats per sample that a run below and above the critical weight must stay above and below."""
BATCH, RATE, HIDDEN = 128, 2e-3, 64


def kl(mu: Tensor, logvar: Tensor) -> Tensor:
    """[batch, n]."""
    return -0.5 * (1 + logvar - mu**2 - logvar.exp())


def squared(output: Tensor, x: Tensor) -> Tensor:
    """Summed over features, [batch]."""
    return F.mse_loss(output, x, reduction="none").sum(-1)


def crossed(logits: Tensor, x: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(-1)


def normal(output: Tensor, x: Tensor, log_sigma: Tensor) -> Tensor:
    """Negative log likelihood with a learned log standard deviation, of all features or one each."""
    return -torch.distributions.Normal(output, log_sigma.exp()).log_prob(x).sum(-1)


Loss = Callable[[Tensor, Tensor, Tensor, Tensor, float, Tensor], Tensor]

LOSSES: dict[str, Loss] = {
    "half-sse": lambda f, x, mu, lv, w, _: (0.5 * squared(f, x) + w * kl(mu, lv).sum(1)).mean(),
    "sse": lambda f, x, mu, lv, w, _: (squared(f, x) + w * kl(mu, lv).sum(1)).mean(),
    "mean-se": lambda f, x, mu, lv, w, _: F.mse_loss(f, x) + w * kl(mu, lv).sum(1).mean(),
    "mean-se-mean-kl": lambda f, x, mu, lv, w, _: F.mse_loss(f, x) + w * kl(mu, lv).mean(),
    "bce": lambda f, x, mu, lv, w, _: (crossed(f, x) + w * kl(mu, lv).sum(1)).mean(),
    "mean-bce": lambda f, x, mu, lv, w, _: F.binary_cross_entropy_with_logits(f, x) + w * kl(mu, lv).sum(1).mean(),
    "gaussian-nll": lambda f, x, mu, lv, w, s: (normal(f, x, s[:1]) + w * kl(mu, lv).sum(1)).mean(),
    "scvi": lambda f, x, mu, lv, w, s: (normal(f, x, s) + w * kl(mu, lv).sum(1)).mean(),
}


@dataclass(frozen=True)
class Case:
    """A loss on data, with the options of `predict` that stand for it."""

    name: str
    data: str
    n_latent: int
    loss: str
    options: dict[str, Any]
    thread: str = ""
    weights: tuple[float, ...] = field(default=())  # of the thread, beside 0.8 and 1.25 of the critical one


MEANS = "mean-se-mean-kl"
THREADS = (
    Case("kld_weight", "pixels", 8, "mean-se", {"library": "pytorch-vae"}, "AntixK/PyTorch-VAE#56", (1.0, 0.00025)),
    Case("zero KL", "binary", 8, "mean-bce", {"loss": "mean-bce"}, "YannDubs/disentangling-vae#50", (1.0,)),
    Case("world model", "pixels", 8, MEANS, {"loss": MEANS}, "AppliedDataSciencePartners/WorldModels#12", (0.1,)),
    Case("low beta", "digits", 2, "mean-se", {"library": "mlcolvar"}, "luigibonati/mlcolvar#188", (1.0, 0.001)),
    Case("how many latents", "cells", 8, "scvi", {"library": "scvi"}, "scverse/scvi-tools#730", (1.0,)),
    Case("flat KL", "pixels", 8, "sse", {"library": "beta-vae"}, "1Konny/Beta-VAE#4", (4.0,)),
    Case("mean or sum", "digits", 8, MEANS, {"loss": MEANS}, "orybkin/sigma-vae-tensorflow#2", (1.0,)),
)
CONVENTIONS = (
    *(Case(name, "digits", 4, name, {"loss": name}) for name in ("half-sse", "sse", "mean-se", "mean-se-mean-kl")),
    Case("gaussian-nll", "digits", 4, "gaussian-nll", {"loss": "gaussian-nll"}),
    Case("bce", "binary", 4, "bce", {"loss": "bce"}),
    Case("mean-bce", "binary", 4, "mean-bce", {"loss": "mean-bce"}),
    Case("scvi", "cells", 4, "scvi", {"library": "scvi"}),
    Case("pythae", "digits", 4, "pythae", {"library": "pythae"}),
    Case("pythae-bce", "binary", 4, "pythae", {"library": "pythae-bce"}),
)


def samples(name: str) -> np.ndarray:
    """digits: one scale for all pixels, mean variance 1; pixels: 0 to 1; binary: 0 or 1; cells: 24 standardised
    features of five factors, with noise of different strength."""
    from sklearn.datasets import load_digits

    x = load_digits().data / 16
    if name == "cells":
        rng = np.random.default_rng(0)
        factors, loadings = rng.normal(size=(2000, 5)), rng.normal(size=(5, 24)) * np.geomspace(1.2, 0.5, 5)[:, None]
        x = factors @ loadings + rng.normal(size=(2000, 24)) * rng.uniform(0.5, 1.5, 24)
        return ((x - x.mean(0)) / x.std(0)).astype(np.float32)
    if name == "digits":
        x = (x - x.mean(0)) / np.sqrt(x.var(0).mean())
    return (x >= 0.5 if name == "binary" else x).astype(np.float32)


class VAE(nn.Module):
    """Two tanh layers each way."""

    def __init__(self, dimension: int, n_latent: int):
        super().__init__()
        self.encoder = nn.Sequential(*_layers(dimension, 2 * n_latent))
        self.decoder = nn.Sequential(*_layers(n_latent, dimension))
        self.log_sigma = nn.Parameter(torch.zeros(dimension))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mu, logvar = self.encoder(x).chunk(2, -1)
        return self.decoder(mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)), mu, logvar


def _layers(width: int, out: int) -> Iterator[nn.Module]:
    for _ in range(2):
        yield nn.Linear(width, HIDDEN)
        yield nn.Tanh()
        width = HIDDEN
    yield nn.Linear(width, out)


def raised(done: float, weight: float, critical: float) -> float:
    """The weight of KL when the part `done` of the training is over."""
    start = min(weight, 0.3 * critical)
    return start + (weight - start) * min(1.0, 2 * done)


def trained(x: Tensor, loss: str, n_latent: int, weight: float, critical: float, steps: int) -> VAE:
    model = VAE(x.shape[1], n_latent)
    optimiser = torch.optim.Adam(model.parameters(), RATE)
    decay = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: min(1.0, 2.05 * (1 - step / steps)))
    for step in range(steps):
        batch = x[torch.randint(len(x), (BATCH,))]
        output, mu, logvar = model(batch)
        value = LOSSES[loss](output, batch, mu, logvar, raised(step / steps, weight, critical), model.log_sigma)
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        decay.step()
    return model


def trained_by_pythae(x: Tensor, case: Case, weight: float, critical: float, steps: int) -> nn.Module:
    """pythae's BetaVAE with its own trainer; its beta is raised at the start of each epoch."""
    from pythae.data.datasets import BaseDataset
    from pythae.models import BetaVAE, BetaVAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.trainers import BaseTrainer, BaseTrainerConfig
    from pythae.trainers.training_callbacks import TrainingCallback

    epochs = max(2, steps * BATCH // len(x))

    class Encoder(BaseEncoder):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(*_layers(x.shape[1], 2 * case.n_latent))

        def forward(self, x: Tensor) -> ModelOutput:
            mu, logvar = self.body(x).chunk(2, -1)
            return ModelOutput(embedding=mu, log_covariance=logvar)

    class Decoder(BaseDecoder):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(*_layers(case.n_latent, x.shape[1]))

        def forward(self, z: Tensor) -> ModelOutput:
            output = self.body(z)
            return ModelOutput(reconstruction=torch.sigmoid(output) if case.name == "pythae-bce" else output)

    class Raise(TrainingCallback):
        def on_epoch_begin(self, training_config: Any, epoch: int, **more: Any) -> None:
            more["model"].beta = raised((epoch - 1) / epochs, weight, critical)

    reconstruction = "bce" if case.name == "pythae-bce" else "mse"
    shape = BetaVAEConfig(
        input_dim=(x.shape[1],), latent_dim=case.n_latent, reconstruction_loss=reconstruction, beta=weight
    )
    model = BetaVAE(shape, Encoder(), Decoder())
    with tempfile.TemporaryDirectory() as folder:
        config = BaseTrainerConfig(
            output_dir=folder, num_epochs=epochs, per_device_train_batch_size=BATCH, learning_rate=RATE, no_cuda=True
        )
        data = BaseDataset(x, torch.zeros(len(x)))
        BaseTrainer(model, data, training_config=config, callbacks=[Raise()]).train()
    return model


@torch.no_grad()
def measured(model: nn.Module, x: Tensor) -> np.ndarray:
    """KL of each latent over all samples, descending."""
    output = model.encoder(x)
    mu, logvar = (output.embedding, output.log_covariance) if hasattr(output, "embedding") else output.chunk(2, -1)
    return kl(mu.double(), logvar.double()).mean(0).sort(descending=True).values.numpy()


def runs(case: Case, steps: int) -> Iterator[dict[str, Any]]:
    data = samples(case.data)
    x = torch.from_numpy(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        first = predict(data, case.n_latent, **case.options)
    critical = first.critical_kl_weight
    for weight in (BELOW * critical, ABOVE * critical, *case.weights):
        torch.manual_seed(0)
        found, start = first.at(weight), time.perf_counter()
        if case.loss == "pythae":
            model = trained_by_pythae(x, case, weight, critical, steps)
        else:
            model = trained(x, case.loss, case.n_latent, weight, critical, steps)
        per_dim = measured(model, x)
        total = float(per_dim.sum())
        alive = found.verdict != "collapsed"
        yield {
            "case": case.name,
            "thread": case.thread,
            "data": case.data,
            "n_latent": case.n_latent,
            "loss": case.loss,
            "critical_kl_weight": critical,
            "kl_weight": weight,
            "effective_variance": found.effective_variance,
            "critical_variance": found.critical_variance,
            "predicted_verdict": found.verdict,
            "predicted_active": found.active_dims,
            "active": int((per_dim > theory.ACTIVE_KL).sum()),
            "predicted_kl": found.kl,
            "kl": total,
            "as_predicted": total > ALIVE if alive else total < DEAD,
            "seconds": round(time.perf_counter() - start, 1),
        }


def line(row: dict[str, Any]) -> str:
    told = "ok" if row["as_predicted"] else "NOT AS PREDICTED"
    return (
        f"{row['case']:16} weight {row['kl_weight']:<10.4g} {row['predicted_verdict']:9} KL {row['kl']:<10.3g} "
        f"({row['predicted_kl']:.3g}) active {row['active']} ({row['predicted_active']}) {row['seconds']} s {told}"
    )


def markdown(rows: list[dict[str, Any]]) -> str:
    """The rows as the tables of docs/gallery.md."""
    lines = [
        "| case | weight | effective / critical variance | predicted | KL | latents |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        ratio = float(row["effective_variance"]) / float(row["critical_variance"])
        latents = f"{row['active']} ({row['predicted_active']}) of {row['n_latent']}"
        kls = f"{float(row['kl']):.3g} ({float(row['predicted_kl']):.3g})"
        cells = row["case"], f"{float(row['kl_weight']):.4g}", f"{ratio:.3g}", row["predicted_verdict"], kls, latents
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, help="CSV file to write (default: docs/gallery.csv, of all cases)")
    parser.add_argument("--only", help="names of cases, with commas between")
    parser.add_argument("--steps", type=int, default=3000)
    options = parser.parse_args()
    torch.set_num_threads(1)
    cases = [*CONVENTIONS, *THREADS]
    if options.only:
        cases = [case for case in cases if case.name in options.only.split(",")]
    rows, wrong = [], 0
    for case in cases:
        if case.loss == "pythae" and importlib.util.find_spec("pythae") is None:
            print(f"{case.name}: skipped, pythae is not installed", file=sys.stderr)
            continue
        for row in runs(case, options.steps):
            rows.append(row)
            wrong += not row["as_predicted"]
            print(line(row), flush=True)
    output = options.output or (None if options.only else GALLERY)
    if output:
        with artifacts.replacing(output) as temporary, temporary.open("w", newline="") as stream:
            table = csv.DictWriter(stream, rows[0], lineterminator="\n")
            table.writeheader()
            table.writerows(rows)
    sys.exit(f"{wrong} of {len(rows)} runs are not as predicted" if wrong else 0)


if __name__ == "__main__":
    main()
