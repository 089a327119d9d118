"""Conditional VAEs: KL of trained networks against theory, and the thresholds of each class of the condition.

    python benchmarks/conditional.py                    # docs/research/conditional.csv, and the table in conditional.md
    python benchmarks/conditional.py --only two --samples 1e5 --seeds 0 --output quick.csv

takes about ten minutes on two cores. Networks, training and measurement are those of `phasevae train`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from shared import ROOT, make_parser, markdown_table, numbers, some_of, write_tables

from phasevae.analysis.conditions import fit_conditions
from phasevae.analysis.kl_fit.critical_point import fit_critical_point
from phasevae.artifacts.tables import read_table, write_table
from phasevae.datasets.base import Dataset
from phasevae.datasets.registry import build_dataset
from phasevae.measurement.measure import measure_model
from phasevae.measurement.tables import dimensions_table
from phasevae.prediction.score_spectrum import spectrum_of_likelihood
from phasevae.spectrum.measure import spectrum_of
from phasevae.sweeps.settings import GAUSSIAN, Member, Settings
from phasevae.theory import conditional
from phasevae.training.problem import Problem
from phasevae.training.trainer import Trainer

TABLE, PAGE = (ROOT / "docs" / "research" / name for name in ("conditional.csv", "conditional.md"))

GRID = (
    0.2,
    0.25,
    0.3,
    0.33,
    0.36,
    0.38,
    0.39,
    0.41,
    0.43,
    0.5,
    0.6,
    0.7,
    0.8,
    0.88,
    0.92,
    0.95,
    0.98,
    1.02,
    1.06,
    1.25,
)
"""Decoder variances, or weights of KL in units of the critical one."""

N_SAMPLES = 20_000


def two() -> Dataset:
    """Two classes of equal share with the largest eigenvalues 1 and 0.4 (config/conditional.yaml)."""
    spectra = ((1.0, 0.1, 0.1, 0.1), (0.4, 0.1, 0.1, 0.1))
    return build_dataset("conditional", condition_eigenvalues=spectra, n_samples=N_SAMPLES)


def three() -> Dataset:
    """Three classes of unequal share, with two eigenvalues each above the smallest decoder variance."""
    spectra = ((1.0, 0.5, 0.1, 0.1, 0.1), (0.7, 0.3, 0.1, 0.1, 0.1), (0.4, 0.3, 0.1, 0.1, 0.1))
    return build_dataset("conditional", condition_eigenvalues=spectra, weights=(0.2, 0.3, 0.5), n_samples=N_SAMPLES)


def number() -> Dataset:
    """A number that shifts the rows linearly; less the shift they have the largest eigenvalues 1 and 0.4."""
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.standard_normal((4, 4)))[0]
    dose = rng.standard_normal(N_SAMPLES)
    noise = rng.standard_normal((N_SAMPLES, 4)) * np.sqrt([1.0, 0.4, 0.1, 0.1])
    x = noise @ basis.T + np.outer(dose, [1.0, -1.0, 0.5, 0.0])
    drawn = build_dataset("synthetic", eigenvalues=[1.0] * 4, n_samples=N_SAMPLES, condition=dose)
    return replace(drawn, x=(x - x.mean(0)).astype(np.float32), reading=None)


def counts() -> Dataset:
    """Counts of ten features in two classes, with other means and another direction in each class."""
    rng = np.random.default_rng(0)
    number = np.arange(N_SAMPLES) % 2
    directions = np.linalg.qr(rng.standard_normal((10, 2)))[0].T
    log_rates = rng.uniform(2, 3, (2, 10))[number]
    latent = rng.standard_normal(N_SAMPLES) * np.array([0.5, 0.22])[number]
    x = rng.poisson(np.exp(log_rates + latent[:, None] * directions[number]))
    drawn = build_dataset("synthetic", eigenvalues=[1.0] * 10, n_samples=N_SAMPLES, condition=number)
    return replace(drawn, x=x.astype(np.float32), reading=None)


@dataclass(frozen=True)
class Case:
    """Data and the number of latents."""

    data: Callable[[], Dataset]
    n_latent: int
    sees: bool = True  # whether the encoder sees the condition
    likelihood: str = GAUSSIAN


CASES = {
    "two": Case(two, 1),
    "three": Case(three, 2),
    "number": Case(number, 2),
    "two-unseen": Case(two, 1, False),
    "counts": Case(counts, 1, likelihood="poisson"),
}


def points_of(case: Case, data: Dataset, samples: float, seeds: list[int], unit: float) -> list[dict]:
    """Train a case at every value of the grid, times the unit, with every seed; return the measured points."""
    settings = Settings(
        n_latent=case.n_latent,
        hidden=(64, 64),
        samples=int(samples),
        encoder_sees_condition=case.sees,
        likelihood=case.likelihood,
    )
    problem = Problem.of(np.asarray(data.x), settings, condition=data.condition)
    values = [unit * value for value in GRID]
    places = [(value, 1.0) if case.likelihood == GAUSSIAN else (1.0, value) for value in values]
    members = [Member(*place, seed) for place in places for seed in seeds]
    trainer = Trainer(problem, members, settings)
    trainer.run()
    points = []
    for index, member in enumerate(members):
        found = measure_model(
            trainer.model.member(index),
            problem.rows,
            member,
            with_likelihood=False,
            reconstruction=problem.reconstruction,
        )
        known = {"sigma2": member.sigma2, "beta": member.beta, "seed": member.seed}
        points.append(known | found | {"settings": settings.model_dump()})
    return points


def runs(name: str, samples: float, seeds: list[int]) -> pd.DataFrame:
    """Train a case; return its rows of the table: the curve of each seed, then the thresholds.

    Parameters
    ----------
    name : a key of CASES
    samples : training samples of each model
    seeds : seeds of the networks, the order of the rows and the noise
    """
    case, data = CASES[name], CASES[name].data()
    is_gaussian = case.likelihood == GAUSSIAN
    spectrum = spectrum_of(data) if is_gaussian else spectrum_of_likelihood(data, case.likelihood)
    # Decoder variances are those of the grid; weights of KL are in units of the critical one.
    points = points_of(case, data, samples, seeds, 1.0 if is_gaussian else spectrum.critical_variance)
    rows = []
    for seed in seeds if is_gaussian else []:  # the KL of other families is not known below the threshold
        here = [point for point in points if point["seed"] == seed]
        error = np.array([p["kl"] - float(conditional.kl(spectrum.modes, p["sigma2"], case.n_latent)) for p in here])
        rows.append({"case": name, "what": f"KL, seed {seed}", "measured": float(np.sqrt(np.mean(error**2)))})
    sweep = pd.DataFrame([{k: p[k] for k in ("sigma2", "beta", "seed", "kl", "active_dims")} for p in points])
    fit = fit_critical_point(sweep, spectrum, case.n_latent)
    rows.append(_threshold(name, "all rows", fit.critical_variance, spectrum.critical_variance))
    for each in fit_conditions(dimensions_table(points), spectrum, case.n_latent):
        for mode in each.thresholds.modes:
            rows.append(_threshold(name, f"class {each.value}, mode {mode.mode}", mode.threshold, mode.predicted))
    table = pd.DataFrame(rows).assign(samples=samples)
    print(table.to_string(index=False), flush=True)
    return table


def _threshold(case: str, what: str, measured: float | None, predicted: float) -> dict:
    return {"case": case, "what": what, "measured": measured, "predicted": predicted}


def markdown(rows: pd.DataFrame) -> str:
    """Rows as the table of docs/research/conditional.md."""
    cells = []
    for name in dict.fromkeys(rows["case"]):
        here = rows[rows["case"] == name]
        curves = here[here["predicted"].isna()]
        if len(curves):
            errors = ", ".join(f"{value:.2g}" for value in curves["measured"])
            cells.append((name, "KL, root mean square error (nats)", errors, ""))
        for row in here[here["predicted"].notna()].itertuples():
            error = f" ({100 * (row.measured / row.predicted - 1):+.2f} %)" if row.measured == row.measured else ""
            found = f"{row.measured:.4g}{error}" if error else "none"
            cells.append((name, f"threshold, {row.what}", found, f"{row.predicted:.4g}"))
    return "\n".join(markdown_table(("case", "quantity", "measured", "predicted"), cells))


def main() -> None:
    """Run the command line."""
    parser = make_parser(__doc__)
    parser.add_argument("--output", type=Path, default=TABLE, help="CSV file (default: docs/research/conditional.csv)")
    parser.add_argument("--only", type=some_of(CASES), default=list(CASES), help="names of cases, with commas between")
    parser.add_argument("--samples", type=float, default=2e5)
    parser.add_argument("--seeds", type=numbers(int), default=[0, 1, 2])
    options = parser.parse_args()
    rows = pd.DataFrame()
    if options.output.is_file():
        rows = read_table(options.output)
        rows = rows[~rows["case"].isin(options.only)]
    for name in options.only:
        rows = pd.concat([rows, runs(name, options.samples, options.seeds)], ignore_index=True)
        write_table(options.output, rows)
    if options.output == TABLE:
        write_tables(PAGE, {"cases": markdown(rows)})


if __name__ == "__main__":
    main()
