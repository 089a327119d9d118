"""Sweeps over the KL weight for other likelihoods than the Gaussian one: fitted and predicted critical weight.

Each family is trained on data with one clear leading mode: one ensemble over a grid of weights around the largest
eigenvalue of its whitened scores. A single-mode form of the fit gives the critical weight. Six
minutes on one core.

    python benchmarks/likelihood_sweeps.py                   # docs/research/likelihoods.csv, and the table of the page
    python benchmarks/likelihood_sweeps.py poisson -o x.csv  # some families
"""

from __future__ import annotations

import argparse
import warnings
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from shared import ROOT, markdown_table, write_tables

from phasevae.analysis.kl_fit.critical_point import fit_critical_point
from phasevae.datasets.base import Dataset
from phasevae.datasets.reading import RawSamples, ReadingWarning
from phasevae.datasets.registry import build_dataset
from phasevae.datasets.standardize import standardized
from phasevae.measurement.measure import measure_model
from phasevae.prediction.score_spectrum import spectrum_of_likelihood
from phasevae.sweeps.settings import Member, Settings
from phasevae.training.problem import Problem
from phasevae.training.trainer import Trainer

TABLE, PAGE = (ROOT / "docs" / "research" / name for name in ("likelihoods.csv", "likelihoods.md"))

RATIOS = (0.7, 0.8, 0.88, 0.92, 0.95, 0.98, 1.02, 1.06, 1.12)
FINE = (0.7, 0.78, 0.85, 0.9, 0.93, 0.96, 0.98, 1.02, 1.05, 1.09, 1.15)
CLOSE = (0.8, 0.86, 0.9, 0.93, 0.96, 0.98, 1.02, 1.06, 1.12)
N_LATENT = 2


@dataclass(frozen=True)
class Case:
    """A family with its data: the kind of data set, or classes."""

    likelihood: str
    kind: str
    data: dict[str, Any]
    options: dict[str, Any] = field(default_factory=dict)
    samples: int = 200_000
    ratios: tuple[float, ...] = RATIOS
    form: str = "log"

    @property
    def dataset(self) -> Dataset:
        if self.kind == "classes":
            return standardized(RawSamples(classes(), "classes"), "none")
        return build_dataset(self.kind, **self.data)


COUNTS = {"n_samples": 20_000}
GAUSSIAN = {"eigenvalues": [4.0, 1.5, 1.0, 1.0, 1.0, 1.0], "n_samples": 20_000}
CASES = (
    Case("bernoulli", "digits", {"binarize": 8, "standardize": "none"}, samples=400_000, ratios=FINE),
    Case("poisson", "counts", COUNTS, samples=400_000, ratios=FINE),
    Case("negative-binomial", "counts", COUNTS | {"dispersion": 20.0}, samples=300_000),
    Case("multinomial", "counts", COUNTS),
    Case("categorical", "classes", {}),
    Case("laplace", "synthetic", GAUSSIAN, form="power"),
    Case("student-t", "synthetic", GAUSSIAN, samples=400_000, ratios=CLOSE),
)


def classes(n: int = 20_000, positions: int = 8) -> np.ndarray:
    """Three classes at each position, the thirds of a Gaussian that shares 0.33 of its variance with one factor."""
    rng = np.random.default_rng(0)
    latent = 0.7 * rng.standard_normal((n, 1)) * np.resize([1, -1], positions) + rng.standard_normal((n, positions))
    return ((latent > -0.6).astype(np.float32) + (latent > 0.6)).astype(np.float32)


def run(case: Case, seed: int) -> tuple[dict[str, Any], pd.DataFrame]:
    """Train and fit one case; return a row of the table and the sweep."""
    data = case.dataset
    spectrum = spectrum_of_likelihood(data, case.likelihood, case.options)
    predicted = spectrum.critical_variance
    settings = Settings(
        n_latent=N_LATENT,
        hidden=(64,),
        samples=case.samples,
        likelihood=case.likelihood,
        likelihood_options=case.options,
    )
    problem = Problem.of(data.x, settings)
    trainer = Trainer(problem, [Member(1.0, predicted * ratio, seed) for ratio in case.ratios], settings)
    trainer.run()
    rows = []
    for index, member in enumerate(trainer.members):
        model = trainer.model.member(index)
        numbers = measure_model(model, problem.rows, member, None, False, problem.reconstruction)
        rows.append(asdict(member) | {key: numbers[key] for key in ("kl", "active_dims", "reconstruction", "elbo_gap")})
    sweep = pd.DataFrame(rows)
    fit = fit_critical_point(sweep, spectrum, N_LATENT, case.form)
    low, high = fit.ci95 or (None, None)
    row = {
        "likelihood": case.likelihood,
        "data": case.kind,
        "n_samples": len(data.x),
        "dimension": data.x.shape[1],
        "seed": seed,
        "predicted": predicted,
        "second": float(spectrum.eigenvalues[1]),
        "form": case.form,
        "fitted": fit.critical_variance,
        "low": low,
        "high": high,
        "error_percent": fit.critical_variance and 100 * (fit.critical_variance / predicted - 1),
        "samples": settings.samples,
    }
    return row, sweep


def page_table(table: pd.DataFrame) -> str:
    """Return the table of the page in Markdown."""
    header = ("likelihood", "data", "predicted", "second eigenvalue", "form", "fitted", "95 %", "difference", "samples")
    rows = [
        (
            f"`{row.likelihood}`",
            row.data,
            f"{row.predicted:.3f}",
            f"{row.second:.3f}",
            row.form,
            f"{row.fitted:.3f}",
            f"{row.low:.3f} to {row.high:.3f}",
            f"{row.error_percent:+.1f} %",
            f"{row.samples:,}",
        )
        for row in table.itertuples()
    ]
    return "\n".join(markdown_table(header, rows))


def main() -> None:
    """Run the cases and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", help="families; all by default")
    parser.add_argument("-o", "--output", type=Path, default=TABLE, help="table to write")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    warnings.simplefilter("ignore", ReadingWarning)
    table = []
    for case in CASES:
        for seed in range(arguments.seeds if not arguments.cases or case.likelihood in arguments.cases else 0):
            row, sweep = run(case, seed)
            table.append(row)
            print(sweep.assign(ratio=sweep["beta"] / row["predicted"]).round(4).to_string(), flush=True)
            print(pd.DataFrame([row]).to_string(index=False), flush=True)
            pd.DataFrame(table).round(4).to_csv(arguments.output, index=False)
    if arguments.output == TABLE:
        write_tables(PAGE, {"sweeps": page_table(pd.DataFrame(table))})


if __name__ == "__main__":
    main()
