"""Data far from zero: does a VAE reach the predicted KL as the data are, and with the advice of `not-centred`?

    python benchmarks/uncentred.py                    # docs/research/uncentred.csv, and its table in uncentred.md
    python benchmarks/uncentred.py --reach            # the second table of the page, seed 0 alone
    python benchmarks/uncentred.py --own --steps 400  # the third: `phasevae.training` on data as they are, and centred
    python benchmarks/uncentred.py --only pixels --steps 200 --seeds 0 --output quick.csv

takes about ten minutes on two cores. The network and its training are those of `own_loss_vae.py`, with tanh and without
its standardised input. In the first half of a training the weight of KL rises to its target.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from gallery_data import pixels
from gallery_vae import crossed, kl, measured, squared
from numpy.typing import NDArray
from own_loss_vae import UserLoss, trained
from scipy.ndimage import zoom
from shared import ROOT, make_parser, markdown_table, numbers, some_of, write_tables
from torch import Tensor, nn

from phasevae import predict
from phasevae.artifacts.tables import read_table, write_table
from phasevae.prediction.optimum import Optimum
from phasevae.rows import Rows
from phasevae.sweeps.settings import Member, Settings
from phasevae.theory.ppca import gaussian_kl
from phasevae.training.trainer import Trainer

TABLE, PAGE = (ROOT / "docs" / "research" / name for name in ("uncentred.csv", "uncentred.md"))

LATENTS, FEATURES, ROWS = 8, 3000, 2000


def wide(features: int = FEATURES, offset: float = 0.3, scale: float = 1.0) -> NDArray:
    """Features of eight factors and noise, of standard deviation 0.3, all around `offset`; everything times `scale`."""
    rng = np.random.default_rng(0)
    factors = rng.normal(size=(ROWS, LATENTS)) @ rng.normal(size=(LATENTS, features))
    return scale * (offset + 0.1 * (factors + rng.normal(size=(ROWS, features))))


SETS = ((300, 0.03, 10), (300, 0.1, 1), (100, 0.3, 1), (300, 0.3, 1), (300, 0.1, 10), (30, 1, 1), (30, 3, 1))
"""Arguments of `wide` on both sides of where `predict` warns."""


def enlarged() -> NDArray:
    """Handwritten digits of 28 x 28 pixels, 0 or 1."""
    return np.stack([zoom(image, 3.5, order=1) for image in pixels().reshape(-1, 8, 8)]).reshape(-1, 784) >= 0.5


def half_squares(output: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    """Half the squared error and KL."""
    return (0.5 * squared(output, x) + kl(mu, logvar).sum(1)).mean()


def cross_entropy(logits: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    """Cross entropy and KL."""
    return (crossed(logits, x) + kl(mu, logvar).sum(1)).mean()


@dataclass(frozen=True)
class Case:
    """Data, the loss as `predict` and a user write it, and the weight of KL in units of the critical one."""

    data: Callable[[], NDArray]
    name: str
    loss: UserLoss
    ratio: float
    outputs: Callable[[Tensor], Tensor]  # of the decoder, from its mean

    def samples(self) -> NDArray:
        """The data, float32 [N, D]."""
        return self.data().astype(np.float32)


CASES = {
    "wide": Case(wide, "half-sse", half_squares, 0.057, lambda mean: mean),
    "pixels": Case(enlarged, "bce", cross_entropy, 0.5, lambda mean: torch.logit(mean.clamp(1e-3, 1 - 1e-3))),
}


class Centred(nn.Module):
    """Subtract the mean of the data."""

    def __init__(self, x: Tensor):
        super().__init__()
        self.register_buffer("mean", x.mean(0))

    def forward(self, x: Tensor) -> Tensor:
        return x - self.mean


@dataclass(frozen=True)
class Training:
    """What is done about the mean of the data, the first weight of KL in units of the critical one, and the rate."""

    centre_input: bool
    decoder_at_mean: bool
    start: float
    rate: float


TRAININGS = {
    "as the data are, from 0.3": Training(False, False, 0.3, 2e-3),
    "from 0.1, rate 5e-4": Training(False, False, 0.1, 5e-4),
    "decoder bias at the mean, from 0.1": Training(False, True, 0.1, 2e-3),
    "encoder centred, from 0.1": Training(True, False, 0.1, 2e-3),
    "both, from 0.3": Training(True, True, 0.3, 2e-3),
    "both, from 0.1": Training(True, True, 0.1, 2e-3),
    "both, from 0.1, rate 5e-4": Training(True, True, 0.1, 5e-4),
}


def prediction_of(case: Case) -> Optimum:
    """Return the prediction for a case at its weight of KL."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        prediction = predict(case.samples(), LATENTS, loss=case.name)
    return prediction.at(case.ratio * prediction.critical_kl_weight)


def kl_of_run(case: Case, predicted: Optimum, training: Training, steps: int, seed: int) -> float:
    """Train a case in one way; return its KL in nats.

    Parameters
    ----------
    case, predicted : the case and its prediction
    training : what is done about the mean
    steps, seed : number of training steps; seed of the network, the batches and the noise
    """
    x = torch.from_numpy(case.samples())
    mean = case.outputs(x.mean(0))
    model = trained(
        x,
        case.loss,
        LATENTS,
        predicted.setting.kl_weight,
        predicted.critical_kl_weight,
        steps,
        seed,
        constant=mean if training.decoder_at_mean else torch.zeros_like(mean),
        activation=nn.Tanh,
        first=Centred if training.centre_input else lambda _: nn.Identity(),
        start=training.start,
        rate=training.rate,
    )
    return float(measured(model, x).sum())


def runs(name: str, steps: int, seeds: list[int]) -> Iterator[dict[str, Any]]:
    """Train a case in every way; yield the rows of the table and print them.

    Parameters
    ----------
    name : a key of CASES
    steps : number of training steps
    seeds : seeds of the networks, the batches and the noise
    """
    case, predicted = CASES[name], prediction_of(CASES[name])
    for how, training in TRAININGS.items():
        for seed in seeds:
            start = time.perf_counter()
            found = kl_of_run(case, predicted, training, steps, seed)
            print(f"{name:8}{how:38}{seed}  KL {found:.3g}  {time.perf_counter() - start:.0f} s", flush=True)
            yield {
                "case": name,
                "training": how,
                "seed": seed,
                "kl": found,
                "predicted_kl": predicted.kl,
                "steps": steps,
            }


def reach_markdown(steps: int) -> str:
    """Train sets on both sides of where `predict` warns, as they are and centred; return their table."""
    cells = []
    for features, offset, scale in SETS:
        case = replace(CASES["wide"], data=partial(wide, features, offset, scale))
        predicted, x = prediction_of(case), case.samples()
        mean = x.mean(0)
        reach = np.abs(mean).sum() * np.linalg.norm(mean) / np.sqrt(x.var(0).sum())
        ways = (Training(False, False, 0.1, 2e-3), Training(True, True, 0.1, 2e-3))
        kl_of = [f"{kl_of_run(case, predicted, way, steps, 0):.2g}" for way in ways]
        cells.append((f"{features}", f"{offset / 0.3:.2g}", f"{scale}", f"{reach:.0f}", *kl_of, f"{predicted.kl:.2g}"))
        print(*cells[-1], sep="  ", flush=True)
    header = (
        "features",
        "mean / standard deviation",
        "scale",
        "left side",
        "KL as they are",
        "KL centred",
        "predicted",
    )
    return "\n".join(markdown_table(header, cells))


def own_markdown(steps: int) -> str:
    """Train wide sets as `phasevae train` does, but as they are, and centred; return the table of KL in nats."""
    cells = []
    settings = Settings(n_latent=LATENTS, hidden=(64, 32), samples=128.0 * steps, batch=128)
    for offset in (0.0, 0.3, 1.0):
        case = replace(CASES["wide"], data=partial(wide, 300, offset))
        predicted, samples = prediction_of(case), case.samples()
        kl_of = []
        for x in (torch.from_numpy(samples), Rows.of(samples).x):
            trainer = Trainer(x, [Member(predicted.effective_variance, 1.0, 0)], settings)
            trainer.run()
            mu, logvar = (part.double() for part in trainer.model.encode(x[None]))
            kl_of.append(f"{float(gaussian_kl(mu, logvar, torch.expm1).mean(1).sum()):.2g}")
        cells.append((f"{offset / 0.3:.2g}", *kl_of, f"{predicted.kl:.2g}"))
        print(*cells[-1], sep="  ", flush=True)
    header = ("mean / standard deviation", "KL as they are", "KL centred", "predicted")
    return "\n".join(markdown_table(header, cells))


def markdown(rows: pd.DataFrame) -> str:
    """Rows as the table of docs/research/uncentred.md: KL of each seed."""
    heads = {name: f"{name} ({rows.loc[rows['case'] == name, 'predicted_kl'].iloc[0]:.3g} predicted)" for name in CASES}
    cells = []
    for how in TRAININGS:
        here = rows[rows["training"] == how]
        kl_of = [", ".join(f"{kl:.2g}" for kl in here.loc[here["case"] == name, "kl"]) for name in CASES]
        cells.append((how, *kl_of))
    return "\n".join(markdown_table(("training", *heads.values()), cells))


def main() -> None:
    """Run the command line."""
    parser = make_parser(__doc__)
    parser.add_argument("--output", type=Path, default=TABLE, help="CSV file (default: docs/research/uncentred.csv)")
    parser.add_argument("--only", type=some_of(CASES), default=list(CASES), help="names of cases, with commas between")
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--seeds", type=numbers(int), default=[0, 1, 2])
    parser.add_argument("--reach", action="store_true", help="train the sets of the second table instead")
    parser.add_argument("--own", action="store_true", help="train with phasevae instead: the third table")
    options = parser.parse_args()
    if options.reach:
        write_tables(PAGE, {"reach": reach_markdown(options.steps)})
        return
    if options.own:
        write_tables(PAGE, {"own": own_markdown(options.steps)})
        return
    rows = pd.DataFrame()
    if options.output.is_file():
        rows = read_table(options.output)
        rows = rows[~rows["case"].isin(options.only)]
    for name in options.only:
        for row in runs(name, options.steps, options.seeds):
            rows = pd.concat([rows, pd.DataFrame([row])], ignore_index=True)
            write_table(options.output, rows)
    if options.output == TABLE and set(rows["case"]) == set(CASES):
        write_tables(PAGE, {"trainings": markdown(rows)})


if __name__ == "__main__":
    main()
