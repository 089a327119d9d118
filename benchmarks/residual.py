"""Does the residual spectrum say which latent dies next? Closed forms, the protocol of the paper, and brute force.

    python benchmarks/residual.py gaussian        edges of trained models against max(lambda_{k+1}, s^2 / lambda_k)
    python benchmarks/residual.py mixture         the mixture of arXiv:2610.11257, also by power iteration
    python benchmarks/residual.py brute-force     dead latents perturbed and trained on, 20 cases
    python benchmarks/residual.py curvature       second differences of the loss along the modes, predicted and measured
    python benchmarks/residual.py seconds         seconds a point beside those of the training, 60,000 rows of 64

Each prints a Markdown table; -o DIR also writes it as CSV. Each takes about a minute on one core.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from residual_power import extrapolated_spectrum
from shared import make_parser, markdown_table

from phasevae.datasets.store import load_dataset
from phasevae.datasets.synthetic import mixture, synthetic
from phasevae.measurement.measure import measure_model
from phasevae.measurement.residual import measure_residual, residual_numbers
from phasevae.measurement.stability import measure_stability
from phasevae.rows import Rows
from phasevae.spectrum.measure import compute_spectrum
from phasevae.sweeps.config_keys import NetworkSection, TrainingSection
from phasevae.sweeps.settings import Member, Settings
from phasevae.theory.ppca import ACTIVE_KL, gaussian_kl
from phasevae.theory.residual import ppca_residual_edge
from phasevae.trained import TrainedVAE
from phasevae.training.problem import Problem
from phasevae.training.trainer import Trainer

GAUSSIAN = (0.68, 0.71, 0.75, 0.78, 0.80, 0.83, 0.86, 0.89, 0.92, 0.95, 0.98, 1.02)
MIXTURE = (0.65, 0.70, 0.75, 0.80, 0.84, 0.88, 0.93, 0.98, 1.02, 1.05)
CHECKED = (0.75, 0.84, 0.93, 1.02)
"""Decoder variances of the mixture at which the paper names a branch, with 3, 2, 1 and 0 active latents."""

SEEDS = 3

SEPARATED = (1.0, 0.6, 0.36, 0.216, 0.13, 0.078)
MIDDLES = (1.25, *((SEPARATED[k] * SEPARATED[k - 1]) ** 0.5 for k in range(1, 4)))
"""Decoder variances in the middle of the branches with 0 to 3 of 4 latents active."""

ENTRIES = {"uu": (0, 0), "uv": (0, 1), "vv": (1, 1)}
"""Of a block: decoder, coupling, encoder."""

RATIOS = (0.85, 1.15)
"""Of the edge: below it a dead latent comes back, above it stays dead."""

HIDDEN = 64, 32
KICK = 1.0
"""Standard deviation of what is added to the weights of a dead latent, relative to those of its layer."""


def settings_of(samples: float, n_latent: int = 4, hidden: tuple[int, ...] = HIDDEN) -> Settings:
    """The settings of config.yaml with other networks and another budget."""
    network = NetworkSection(n_latent=n_latent, hidden=hidden)
    return Settings(**{**TrainingSection().model_dump(), **network.model_dump(), "samples": int(samples)})


def trained(rows: Rows, members: list[Member], settings: Settings, start: torch.Tensor | None = None) -> Trainer:
    """Train an ensemble, from the parameters of other models if they are given."""
    trainer = Trainer(Problem.of(rows.x, settings), members, settings)
    if start is not None:
        trainer.model.parameters.copy_(start)
    trainer.run()
    return trainer


def kl_per_dim(trainer: Trainer, index: int, rows: Rows) -> np.ndarray:
    """The KL of each latent of one model over all rows, in nats."""
    total = 0.0
    for _, batch in rows.blocks(2048):
        mu, logvar = (part[0].double() for part in trainer.model.member(index).encode(batch.inputs))
        total = total + gaussian_kl(mu, logvar, torch.expm1).sum(0)
    return (total / len(rows)).numpy()


def point(trainer: Trainer, index: int, rows: Rows, member: Member) -> dict[str, Any]:
    """The residual spectrum of one model, as in point.json, and its active latents."""
    kl = kl_per_dim(trainer, index, rows)
    return residual_numbers(trainer.model.member(index), rows, member, kl, None) | {"active": kl > ACTIVE_KL}


def gaussian(samples: float) -> pd.DataFrame:
    """Edges of trained models on the paper's set, three seeds."""
    data = synthetic(n_samples=256_000)
    rows, eigenvalues = Rows.of(data.x), compute_spectrum(data, with_variance_proxy=False).eigenvalues
    members = [Member(sigma2, 1.0, seed) for sigma2 in GAUSSIAN for seed in range(SEEDS)]
    trainer = trained(rows, members, settings_of(samples))
    table = []
    for index, member in enumerate(members):
        numbers, theory = point(trainer, index, rows, member), float(ppca_residual_edge(eigenvalues, member.sigma2, 4))
        edge = numbers["residual_edge"]
        table.append(
            {
                "sigma2": member.sigma2,
                "seed": member.seed,
                "active": int(numbers["active"].sum()),
                "edge": edge,
                "standard_error": numbers["residual_edge_standard_error"],
                "theory": theory,
                "error_percent": 100 * (edge / theory - 1),
                "margin": numbers["residual_margin"],
                "decoder_gap": numbers["residual_decoder_gap"],
            }
        )
    return pd.DataFrame(table)


def mixed(samples: float) -> pd.DataFrame:
    """Edges on the mixture, three seeds, by the Galerkin form; those of the first seed by power iteration as well."""
    data = mixture(n_samples=256_000)
    rows = Rows.of(data.x)
    members = [Member(sigma2, 1.0, seed) for sigma2 in MIXTURE for seed in range(SEEDS)]
    trainer = trained(rows, members, settings_of(samples))
    table = []
    for index, member in enumerate(members):
        numbers = point(trainer, index, rows, member)
        row = {"sigma2": member.sigma2, "seed": member.seed, "active": int(numbers["active"].sum())}
        row |= {"edge": numbers["residual_edge"], "standard_error": numbers["residual_edge_standard_error"]}
        row |= {"margin": numbers["residual_margin"]}
        if member.sigma2 in CHECKED and member.seed == 0:
            active, cells = np.flatnonzero(numbers["active"]), ((1024, 2048), (256, 512))
            power = extrapolated_spectrum(trainer.model.member(index), rows, member, active, *cells, repeats=8)
            row |= {"power": power.eigenvalues[0], "power_error": power.standard_errors[0]}
            row |= {"largest_cell": power.largest_cell[0]}
        table.append(row)
    return pd.DataFrame(table)


def kicked(trainer: Trainer, index: int, dead: np.ndarray, seed: int) -> torch.Tensor:
    """Parameters of a model with noise on the weights that belong to its dead latents."""
    architecture, parameters = trainer.model.architecture, trainer.model.parameters[index].clone()
    generator = torch.Generator().manual_seed(seed)
    last = f"encoder.{len(architecture.hidden)}"
    for name, axis, numbers in ((last, 1, dead), ("decoder.0", 0, dead)):
        fan_in, fan_out, offset = architecture.layers[name]
        weight = parameters[offset : offset + fan_in * fan_out].view(fan_in, fan_out)
        noise = KICK * weight.square().mean().sqrt() * torch.randn(weight.shape, generator=generator)
        chosen = torch.zeros(weight.shape[axis])
        chosen[torch.from_numpy(numbers)] = 1.0
        weight += noise * (chosen if axis else chosen[:, None])
    return parameters


def brute_force(samples: float) -> pd.DataFrame:
    """Dead latents of converged models, perturbed and trained on at a weight below and above the edge."""
    settings = settings_of(samples)
    table = []
    for name, kind in (("gaussian", synthetic), ("mixture", mixture)):
        rows = Rows.of(kind(eigenvalues=list(SEPARATED), n_samples=64_000).x)
        members = [Member(float(s), 1.0, 0) for s in MIDDLES] + [Member(float(MIDDLES[1]), 1.0, 1)]
        first = trained(rows, members, settings)
        cases, starts, after = [], [], []
        for index, member in enumerate(members):
            numbers = point(first, index, rows, member)
            edge, dead = numbers["residual_edge"], np.flatnonzero(~numbers["active"])
            for ratio in RATIOS:
                cases.append((member, int(numbers["active"].sum()), edge, ratio))
                starts.append(kicked(first, index, dead, seed=len(cases)))
                after.append(Member(ratio * edge, 1.0, 100 + index))
        second = trained(rows, after, settings.with_changes(schedule="scratch"), torch.stack(starts))
        for index, (member, before, edge, ratio) in enumerate(cases):
            now = int((kl_per_dim(second, index, rows) > ACTIVE_KL).sum())
            table.append(
                {
                    "data": name,
                    "sigma2": member.sigma2,
                    "active": before,
                    "edge": edge,
                    "trained_on_at": after[index].sigma2,
                    "active_after": now,
                    "predicted": "comes back" if ratio < 1 else "stays dead",
                    "right": (now > before) == (ratio < 1),
                }
            )
    return pd.DataFrame(table)


def curvature(samples: float) -> pd.DataFrame:
    """Measured and predicted curvature along the residual modes of trained models with 0 to 3 of 4 latents active."""
    table = []
    for name, kind in (("gaussian", synthetic), ("mixture", mixture)):
        rows = Rows.of(kind(eigenvalues=list(SEPARATED), n_samples=64_000).x)
        members = [Member(float(s), 1.0, 0) for s in MIDDLES]
        trainer = trained(rows, members, settings_of(samples))
        for index, member in enumerate(members):
            metadata = {"sigma2": member.sigma2, "beta": member.beta}
            model = TrainedVAE(trainer.model.member(index), torch.zeros(rows.n_features), metadata)
            dead = np.flatnonzero(kl_per_dim(trainer, index, rows) <= ACTIVE_KL)
            found = measure_stability(model, rows.x.numpy(), latents=dead[:1].tolist())
            for block in found["blocks"]:
                measured, predicted = np.array(block["measured"]), np.array(block["predicted"])
                table.append(
                    {
                        "data": name,
                        "sigma2": member.sigma2,
                        "active": len(found["active"]),
                        "mode": block["mode"],
                        "channel": block["channel"],
                        **{key: measured[at] for key, at in ENTRIES.items()},
                        **{f"{key}_predicted": predicted[at] for key, at in ENTRIES.items()},
                        "soft_mode": block["soft_mode"],
                        "soft_mode_predicted": block["predicted_soft_mode"],
                    }
                )
    return pd.DataFrame(table)


def seconds(samples: float, data: Path | None = None) -> pd.DataFrame:
    """Seconds of the residual spectrum and of a training of a million samples, for images of 8 x 8 or saved data."""
    values = 24.0 * np.arange(1, 65) ** -1.3
    made = synthetic(eigenvalues=values.tolist(), n_samples=60_000) if data is None else load_dataset(data)
    rows = Rows.of(made.x)
    settings, table = settings_of(samples, 16, (256, 128)), []
    member = Member(1.0, 1.0, 0)
    start = time.process_time()
    trainer = trained(rows, [member], settings)
    training = (time.process_time() - start) * 1e6 / samples
    model = trainer.model.member(0)
    for name, call in (
        ("ELBO and log likelihood", lambda: measure_model(model, rows, member)),
        ("residual spectrum", lambda: measure_residual(model, rows, member, range(8))),
    ):
        start = time.process_time()
        call()
        spent = time.process_time() - start
        table.append({"part": name, "seconds": spent, "of_the_training_percent": 100 * spent / training})
    return pd.DataFrame([{"part": "training, 1e6 samples", "seconds": training}, *table])


PARTS = {
    "gaussian": (gaussian, 3e5),
    "mixture": (mixed, 1e6),
    "brute-force": (brute_force, 4e5),
    "curvature": (curvature, 4e5),
    "seconds": (seconds, 2e4),
}
"""The function of each part, and the samples that each model is trained with."""


def main() -> None:
    """Run the command line."""
    parser = make_parser(__doc__)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--samples", type=float, help="samples that each model is trained with")
    parser.add_argument("--data", type=Path, help="folder of `phasevae dataset`, for seconds")
    parser.add_argument("-o", "--output", type=Path, help="folder for the table as CSV")
    arguments = parser.parse_args()
    measure, samples = PARTS[arguments.part]
    given = {} if arguments.data is None else {"data": arguments.data}
    table = measure(arguments.samples or samples, **given)
    cells = table.map(lambda cell: f"{cell:.4g}" if isinstance(cell, float) else str(cell)).to_numpy()
    print("\n".join(markdown_table(list(table.columns), cells)))
    if arguments.output is not None:
        arguments.output.mkdir(parents=True, exist_ok=True)
        table.to_csv(arguments.output / f"{arguments.part}.csv", index=False, float_format="%.6g")


if __name__ == "__main__":
    main()
