"""Does the analysis measure in trained networks what theory says? Exponents, an abrupt collapse, its control, and beta.

    python benchmarks/transitions.py -o results/transitions                       about fifteen minutes on one core
    python benchmarks/transitions.py -o results/transitions --only beta           about three minutes

Each experiment is a chain of `phasevae` commands in a folder of its own, DIR/NAME:

exponents   eigenvalues 1 and seven times 0.25, four latents: KL ~ t, decoder amplitude ~ t^(1/2), ELBO gap ~ t^2
clusters    two clusters, the smaller of weight 0.1, one latent: a collapse of first order, at 1.400 lambda_1 for the
            exact optimum (benchmarks/two_clusters.py); the active branch ends at 1.446 lambda_1
control     eigenvalues 1, 0.3, 0.2, one latent, five seeds, each judged alone: no hysteresis
beta        eigenvalues 1, 0.8, 0.6, 0.4, four latents: a sweep over sigma2 at beta = 1 and a sweep over beta at
            sigma2 = 0.5 give the same curve of beta * sigma2

A command whose output exists is not run again, and `train` keeps its points: the same command continues a run that was
stopped, and makes a folder that was deleted again. It prints one row per claim and writes them to DIR/transitions.csv.
The exit code is 1 if a claim does not hold.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from shared import make_parser, some_of

from phasevae.analysis.exponents import EXPONENTS
from phasevae.analysis.hysteresis import measured_hysteresis
from phasevae.artifacts.files import read_json
from phasevae.artifacts.tables import read_table, write_table

PHASEVAE = str(Path(sys.executable).with_name("phasevae"))

SINGLE = [1.0] + [0.25] * 7
SINGLE_GRID = [0.7, 0.74, 0.78, 0.82, 0.85, 0.875, 0.9, 0.92, 0.94, 0.955, 0.97, 0.985, 1.02, 1.06]
CLUSTER_RATIOS = [0.7, 1.2, 1.32, 1.36, 1.38, 1.4, 1.42, 1.46]
CONTROL_RATIOS = [0.7, 0.85, 0.94, 1.03, 1.06, 1.1, 1.2]
BETA_GRID = [0.42, 0.5, 0.58, 0.66, 0.74, 0.82, 0.88, 0.93, 0.97, 1.02, 1.1]
"""beta * sigma2 of both sweeps of `beta`."""
FIXED = 0.5
"""sigma2 of the sweep over beta. It is a point of the other sweep as well, which trains it."""

UNKNOWN = {"value": None, "ci95": [None, None]}

Row = dict[str, Any]


def run(output: Path, *command: object) -> None:
    """Run a verb of `phasevae` that writes `output`, unless it exists."""
    if not output.exists():
        subprocess.run([PHASEVAE, *map(str, command), "-o", str(output)], check=True)


def listed(values: Iterable[float]) -> str:
    """Numbers with commas between."""
    return ",".join(f"{value:.10g}" for value in values)


def flags(options: Mapping[str, object]) -> list[str]:
    """Options of a command: n_samples=10 is --n-samples 10."""
    return [word for key, value in options.items() for word in (f"--{key.replace('_', '-')}", str(value))]


def dataset(folder: Path, kind: str, **options: object) -> None:
    """Make a data set in `folder`, and its spectrum."""
    if not (folder / "data.json").exists():
        subprocess.run([PHASEVAE, "dataset", kind, *flags(options), "-o", str(folder)], check=True)
    run(folder / "spectrum.json", "spectrum", folder)


def fitted(folder: Path, *sweeps: Mapping[str, object], upward: bool = False) -> dict[str, Any]:
    """Train sweeps, collect them and fit; return the content of fit.json.

    Parameters
    ----------
    folder : folder of the data set
    *sweeps : options of `phasevae train`
    upward : whether hysteresis.csv exists
    """
    for options in sweeps:
        subprocess.run([PHASEVAE, "train", str(folder), *flags(options), "-o", str(folder / "points")], check=True)
    sweep, dimensions, spectrum = folder / "sweep.csv", folder / "dimensions.csv", folder / "spectrum.json"
    run(sweep, "collect", folder / "points", "--dimensions", dimensions)
    more = ("--hysteresis", folder / "hysteresis.csv") if upward else ()
    run(folder / "fit.json", "fit", sweep, "--spectrum", spectrum, "--dimensions", dimensions, *more)
    return read_json(folder / "fit.json")


def train_upward(folder: Path, ratios: list[float], seeds: str, samples: float, threads: int) -> None:
    """Make hysteresis.csv of networks with one latent; `ratios`: decoder variances in units of lambda_1."""
    settings = {"latent": 1, "hidden": "32,32", "samples": samples, "threads": threads}
    options = {"ratio": listed(ratios), "seeds": seeds, **settings}
    run(folder / "hysteresis.csv", "hysteresis", folder, *flags(options))


def exponents(folder: Path, threads: int) -> list[Row]:
    """Claims of a single mode: exponents, critical variance, slope and order."""
    dataset(folder, "synthetic", eigenvalues=listed(SINGLE), n_samples=64_000)
    fit = fitted(
        folder, {"sigma2": listed(SINGLE_GRID), "latent": 4, "hidden": "256,128", "samples": 4e5, "threads": threads}
    )
    measured, predicted = fit["exponents"], fit["predicted"]
    names = {"kl": "exponent of KL", "amplitude": "exponent of the amplitude", "gap": "exponent of the ELBO gap"}
    critical = {"value": fit["critical_variance"], "ci95": fit["ci95"]}
    return [
        *(holds_expected(name, measured[key] or UNKNOWN, EXPONENTS[key]) for key, name in names.items()),
        holds_expected("critical variance", critical, predicted["critical_variance"]),
        holds_expected("slope of KL below", fit["slope_below"], predicted["slope_below"]),
        equals("order", fit["order"]["value"], 2),
    ]


def clusters(folder: Path, threads: int) -> list[Row]:
    """Claims of two clusters: a transition of first order with hysteresis."""
    dataset(folder, "clusters", weights="0.1,0.9")
    train_upward(folder, CLUSTER_RATIOS, "0,1", 8e5, threads)
    unit = read_json(folder / "spectrum.json")["critical_variance"]
    grid = listed(ratio * unit for ratio in CLUSTER_RATIOS)
    settings = {"latent": 1, "hidden": "32,32", "samples": 2e5, "threads": threads}
    fit = fitted(folder, {"sigma2": grid, **settings}, upward=True)
    measured = fit["hysteresis"]["measured"]
    crossing = scaled(measured["binodal"] or UNKNOWN, 1 / unit)
    lost = scaled({"value": None, "ci95": measured["branch_lost"]}, 1 / unit)
    return [
        equals("order", fit["order"]["value"], 1),
        equals("hysteresis", measured["hysteresis"], True),
        lies_within("ELBO crossing / lambda_1", crossing, 1.36, 1.44),
        lies_within("branch lost / lambda_1", lost, 1.38, 1.5),
    ]


def control(folder: Path, threads: int) -> list[Row]:
    """Claims of a Gaussian control: no seed has hysteresis."""
    dataset(folder, "synthetic", eigenvalues="1,0.3,0.2", n_samples=20_000)
    train_upward(folder, CONTROL_RATIOS, "0,1,2,3,4", 3e5, threads)
    table = read_table(folder / "hysteresis.csv")
    critical = read_json(folder / "spectrum.json")["critical_variance"]
    seeds = [measured_hysteresis(rows, critical).hysteresis for _, rows in table.groupby("seed")]
    return [equals("seeds with hysteresis", sum(map(bool, seeds)), 0), equals("seeds", len(seeds), 5)]


def beta(folder: Path, threads: int) -> list[Row]:
    """Claims of a sweep over beta: it gives the curve of a sweep over sigma2."""
    dataset(folder, "synthetic", eigenvalues="1,0.8,0.6,0.4", n_samples=64_000)
    same = {"latent": 4, "hidden": "64,32", "samples": 3e5, "threads": threads}
    fit = fitted(
        folder,
        {"sigma2": listed(BETA_GRID), **same},
        {"sigma2": FIXED, "beta": listed(x / FIXED for x in BETA_GRID if x != FIXED), **same},
    )
    comparison = fit["beta_equivalence"]
    difference = UNKNOWN
    for sweep in comparison["sweeps"][:1]:
        difference = {"value": sweep["mean_difference"], "ci95": sweep["ci95"]}
    return [
        holds_expected("mean difference of KL (nats)", difference, 0.0),
        equals("agrees", comparison["agrees"], True),
    ]


EXPERIMENTS = {"exponents": exponents, "clusters": clusters, "control": control, "beta": beta}


def claim(name: str, measured: Mapping[str, Any], expected: object, holds: bool) -> Row:
    """A row of the table, of a measured {value, ci95}."""
    low, high = measured["ci95"]
    return {
        "claim": name,
        "measured": measured["value"],
        "low": low,
        "high": high,
        "expected": expected,
        "holds": holds,
    }


def holds_expected(name: str, measured: Mapping[str, Any], expected: float) -> Row:
    """Claim that the interval of a number holds the expected number; an open end holds everything on its side."""
    low, high = measured["ci95"]
    known = measured["value"] is not None
    holds = known and (low is None or low <= expected) and (high is None or expected <= high)
    return claim(name, measured, expected, holds)


def lies_within(name: str, measured: Mapping[str, Any], low: float, high: float) -> Row:
    """Claim that a number, or both its bounds if only these are known, lies between `low` and `high`."""
    numbers = measured["ci95"] if measured["value"] is None else [measured["value"]]
    holds = all(number is not None and low <= number <= high for number in numbers)
    return claim(name, measured, f"{low} to {high}", holds)


def equals(name: str, measured: object, expected: object) -> Row:
    """Claim that two values are equal."""
    return claim(name, {**UNKNOWN, "value": measured}, expected, measured == expected)


def scaled(measured: Mapping[str, Any], factor: float) -> dict[str, Any]:
    """A {value, ci95} in other units."""
    value, *edges = (None if x is None else factor * x for x in (measured["value"], *measured["ci95"]))
    return {"value": value, "ci95": edges}


def main() -> None:
    """Run the command line."""
    parser = make_parser(__doc__)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR")
    names = ",".join(EXPERIMENTS)
    parser.add_argument("--only", type=some_of(EXPERIMENTS), default=names, help=f"some of: {names}")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    rows: list[Row] = []
    for name in options.only:
        try:
            claims = EXPERIMENTS[name](options.output / name, options.threads)
        except subprocess.CalledProcessError as error:
            sys.exit(error.returncode)  # the command has printed the reason
        rows += [{"experiment": name, **row} for row in claims]
    table = pd.DataFrame(rows)
    write_table(options.output / "transitions.csv", table)
    print(table.to_string(index=False, na_rep="", float_format="{:.4g}".format))
    sys.exit(0 if table["holds"].all() else 1)


if __name__ == "__main__":
    main()
