"""Two-level hierarchies: where do the levels collapse, predicted and trained?

    python benchmarks/hierarchies.py                   prints the tables of docs/research/hierarchies.md and writes them
    python benchmarks/hierarchies.py --only fixed --samples 5e4 --seeds 0 --output quick.csv

takes about a quarter of an hour on one core. The data are 20,000 Gaussian samples of eigenvalues 4, 2, 1 and 0.5, and
two clusters. Fixed posterior variance: five boundaries of the top level and three of level 1, each crossed by seven
weights; a hinge in the logarithm of the weight is fitted to the KL of the level. Learned: the top level on both sides
of equal weights.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.optimize import least_squares
from shared import ROOT, make_parser, markdown_table, numbers, some_of, write_tables

from phasevae.artifacts.tables import write_table
from phasevae.measurement.hierarchy import measure_hierarchy
from phasevae.model import LOGVAR_RANGE
from phasevae.sweeps.config_keys import HierarchySection
from phasevae.sweeps.settings import Member, Settings
from phasevae.theory.hierarchical import Hierarchy, critical_beta, critical_beta_top, hierarchy_optimum
from phasevae.training.problem import Problem
from phasevae.training.trainer import Trainer

PAGE = ROOT / "docs" / "research" / "hierarchies.md"

EIGENVALUES = (4.0, 2.0, 1.0, 0.5)
ROWS = 20_000
RATIOS = (0.7, 0.8, 0.88, 0.95, 1.05, 1.15, 1.3)
"""Weights of a level in units of its critical one."""


@dataclass(frozen=True)
class Boundary:
    """A boundary of the phase diagram for a fixed posterior variance, at one weight of the other level."""

    level: int
    variance: float
    other: float

    @property
    def critical(self) -> float:
        """The predicted critical weight of the level."""
        unit = Hierarchy(1, 1, 1.0, posterior_variance=self.variance)
        if self.level == 1:
            return float(critical_beta(unit, EIGENVALUES[0], self.other))
        return float(critical_beta_top(unit, EIGENVALUES[0], self.other))

    def members(self, seeds: list[int]) -> Iterator[tuple[float, Member]]:
        """The models that cross the boundary, each with its weight in units of the critical one."""
        for ratio in RATIOS:
            weight = ratio * self.critical
            beta, beta_top = (weight, self.other) if self.level == 1 else (self.other, weight)
            for seed in seeds:
                yield ratio, Member(1.0, beta, seed, beta_top)


BOUNDARIES = (
    Boundary(2, 0.1, 0.3),
    Boundary(2, 0.1, 1.0),
    Boundary(2, 0.1, 4.0),
    Boundary(2, 0.5, 1.0),
    Boundary(2, 0.5, 16.0),
    Boundary(1, 0.1, 8.0),
    Boundary(1, 0.5, 8.0),
    Boundary(1, 1.0, 8.0),
)


def gaussian() -> NDArray:
    """Gaussian samples whose covariance has exactly the eigenvalues."""
    x = np.random.default_rng(0).normal(size=(ROWS, len(EIGENVALUES)))
    x -= x.mean(0)
    return np.linalg.solve(np.linalg.cholesky(x.T @ x / ROWS), x.T).T * np.sqrt(EIGENVALUES)


def clusters(weight: float = 0.5, noise: float = 0.1) -> NDArray:
    """Two clusters around -1 and 1 in the first of four directions; `weight` is the share of one of them."""
    rng = np.random.default_rng(0)
    x = noise * rng.normal(size=(ROWS, len(EIGENVALUES)))
    x[:, 0] += np.where(rng.random(ROWS) < weight, 1.0, -1.0)
    return x - x.mean(0)


def trained(x: NDArray, members: list[Member], settings: Settings) -> list[dict[str, Any]]:
    """Train an ensemble and return its measured numbers."""
    problem = Problem.of(x.astype(np.float32), settings)
    trainer = Trainer(problem, members, settings)
    trainer.run()
    return [
        measure_hierarchy(
            trainer.model.member(i), problem.rows, member, problem.held_out, problem.reconstruction, False
        )
        for i, member in enumerate(members)
    ]


def hinge(ratio: NDArray, kl: NDArray) -> tuple[float, float]:
    """Fit slope * [ln(edge / ratio)]_+ to the KL of a level; return the edge and its standard error.

    Parameters
    ----------
    ratio : array [n]
        Weights in units of the critical one.
    kl : array [n]
        In nats.
    """
    log = np.log(ratio)
    fit = least_squares(lambda p: p[1] * np.maximum(0, p[0] - log) - kl, (0.0, 0.5))
    covariance = np.linalg.pinv(fit.jac.T @ fit.jac) * 2 * fit.cost / (len(kl) - 2)
    edge = math.exp(fit.x[0])
    return edge, edge * math.sqrt(covariance[0, 0])


def level_kl(numbers: dict[str, Any], level: int) -> float:
    """What a level tells, in nats: KL of the top level, information of level 1, which rotations of z1 do not change."""
    if level == 2:
        return numbers["top"]["kl"]
    noise = float(np.mean(numbers["latent_variance"]))
    return 0.5 * float(np.log1p(np.linalg.eigvalsh(numbers["mean_covariance"]) / noise).sum())


def recipe(samples: float, variance: float | None, n_latent: int = 2, n_top: int = 2) -> Settings:
    """The settings of a training."""
    levels = HierarchySection(n_top=n_top, posterior_variance="learned" if variance is None else variance)
    return Settings(n_latent=n_latent, hidden=(64, 32), samples=int(samples), hierarchy=levels)


def fixed_rows(samples: float, seeds: list[int]) -> Iterator[dict[str, Any]]:
    """Train across each boundary of fixed posterior variances."""
    x = gaussian()
    for boundary in BOUNDARIES:
        ratios, members = zip(*boundary.members(seeds), strict=True)
        measured = trained(x, list(members), recipe(samples, boundary.variance))
        kl = np.array([level_kl(numbers, boundary.level) for numbers in measured])
        edge, error = hinge(np.array(ratios), kl)
        print(
            f"{boundary}: critical {boundary.critical:.4g}, measured / predicted {edge:.4f} +- {error:.4f}", flush=True
        )
        for ratio, member, value in zip(ratios, members, kl, strict=True):
            yield {
                "data": "gaussian",
                "posterior_variance": boundary.variance,
                "level": boundary.level,
                "other_weight": boundary.other,
                "critical": boundary.critical,
                "ratio": ratio,
                "seed": member.seed,
                "kl": value,
                "edge": edge,
                "edge_error": error,
            }


def learned_rows(samples: float, seeds: list[int]) -> Iterator[dict[str, Any]]:
    """Train with learned posterior variances on both sides of equal weights."""
    sets = (("gaussian", gaussian(), 1.0, 2), ("clusters", clusters(), 0.05, 1))
    for name, x, sigma2, n_latent in sets:
        members = [
            Member(sigma2, 1.0, seed, beta_top) for beta_top in (0.5, 0.9, 1.0, 1.1, 1.25, 1.5) for seed in seeds
        ]
        measured = trained(x, members, recipe(samples, None, n_latent, n_latent))
        for member, point in zip(members, measured, strict=True):
            print(name, member, f"KL of the top level {point['top']['kl']:.4f}", flush=True)
            yield {
                "data": name,
                "posterior_variance": math.nan,
                "level": 2,
                "other_weight": 1.0,
                "critical": 1.0,
                "ratio": member.beta_top,
                "seed": member.seed,
                "kl": point["top"]["kl"],
                "information": float(point["kl_per_dim"].sum()),
                "variance": float((point["mean_variance"] + point["latent_variance"]).max()),
                "elbo_gap": point["elbo_gap"],
            }


def fixed_table(table: pd.DataFrame) -> str:
    """Markdown: predicted and measured boundaries."""
    rows = []
    for (level, variance, other), part in table.groupby(["level", "posterior_variance", "other_weight"], sort=False):
        first = part.iloc[0]
        weights = (f"{first.critical:.4g}", f"{first.edge * first.critical:.4g}")
        name = "top" if level == 2 else "1"
        deviation = f"{100 * (first.edge - 1):+.1f} ± {100 * first.edge_error:.1f}"
        rows.append((name, f"{variance:g}", f"{other:g}", *weights, deviation))
    header = ("level", "posterior variance", "weight of the other level", "predicted", "measured", "difference (%)")
    return "\n".join(markdown_table(header, rows))


def learned_table(table: pd.DataFrame) -> str:
    """Markdown: what the levels hold with learned posterior variances."""
    rows = []
    for (name, ratio), part in table.groupby(["data", "ratio"], sort=False):
        columns = ("kl", "information", "variance", "elbo_gap")
        rows.append((name, f"{ratio:g}", *(", ".join(f"{value:.3g}" for value in part[column]) for column in columns)))
    header = (
        "data",
        "weight of the top level / that of level 1",
        "KL of the top level",
        "information of level 1",
        "variance of z1",
        "ELBO above the collapsed state",
    )
    return "\n".join(markdown_table(header, rows))


def at_the_clamp() -> str:
    """What the clamp of the log variance makes of Gaussian data at half the weight, in a sentence."""
    h = Hierarchy(2, 2, 1.0, 1.0, 0.5, largest_variance=math.exp(LOGVAR_RANGE[1]))
    optimum = hierarchy_optimum(EIGENVALUES, h)
    return f"at the clamp: variance of z1 {optimum.variance.max():.4g}, KL of the top level {optimum.top_kl.sum():.4g}"


PARTS = {"fixed": (fixed_rows, fixed_table), "learned": (learned_rows, learned_table)}


def main() -> None:
    """Run the command line."""
    parser = make_parser(__doc__)
    parser.add_argument("--only", type=some_of(PARTS), default=list(PARTS), help="parts, with commas between")
    parser.add_argument("--samples", type=float, default=2e5, help="training samples of a model")
    parser.add_argument("--seeds", type=numbers(int), default=[0, 1], help="seeds, with commas between")
    parser.add_argument("--output", type=Path, help="write a row for each model here, instead of the page's tables")
    options = parser.parse_args()
    torch.set_num_threads(1)
    tables = {name: pd.DataFrame(PARTS[name][0](options.samples, options.seeds)) for name in options.only}
    print(at_the_clamp())
    if options.output:
        write_table(options.output, pd.concat(tables.values(), ignore_index=True))
        return
    written = {name: PARTS[name][1](table) for name, table in tables.items()}
    print(*written.values(), sep="\n\n")
    write_tables(PAGE, written)


if __name__ == "__main__":
    main()
