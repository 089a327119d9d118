"""Does the analysis find in trained networks what theory says? Exponents, an abrupt collapse, its control, and beta.

    python benchmarks/transitions.py -o results/transitions                       about fifteen minutes on one core
    python benchmarks/transitions.py -o results/transitions --only exponents,beta

Each experiment is a chain of the commands of `phasevae` in a folder of its own:

exponents   eigenvalues 1 and seven times 0.25, four latents: KL ~ t, decoder amplitude ~ t^(1/2), ELBO gap ~ t^2
clusters    two clusters, the smaller of weight 0.1, one latent: a collapse of first order, which the exact optimum
            (benchmarks/two_clusters.py) has at 1.400 lambda_1; its active branch ends at 1.446
control     eigenvalues 1, 0.3, 0.2, one latent, five seeds, each judged alone: no hysteresis
beta        eigenvalues 1, 0.8, 0.6, 0.4, four latents: a sweep over sigma2 at beta = 1 and one over beta at
            sigma2 = 0.5 are one curve of beta * sigma2

A command whose output is there is not run again, and `train` keeps its points: a run that was stopped goes on, and a
folder that is deleted is made anew. Prints one row a claim, and writes them to DIR/transitions.csv.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from phasevae.analysis.exponents import EXPONENTS
from phasevae.analysis.hysteresis import measured_hysteresis
from phasevae.artifacts.files import read_json, read_table, write_table

PHASEVAE = str(Path(sys.executable).with_name("phasevae"))

SINGLE = [1.0] + [0.25] * 7
SINGLE_GRID = [0.7, 0.74, 0.78, 0.82, 0.85, 0.875, 0.9, 0.92, 0.94, 0.955, 0.97, 0.985, 1.02, 1.06]
CLUSTER_RATIOS = [0.7, 1.2, 1.32, 1.36, 1.38, 1.4, 1.42, 1.46]
CONTROL_RATIOS = [0.7, 0.85, 0.94, 1.03, 1.06, 1.1, 1.2]
BETA_GRID = [0.42, 0.5, 0.58, 0.66, 0.74, 0.82, 0.88, 0.93, 0.97, 1.02, 1.1]
"""beta * sigma2 of both sweeps of `beta`."""
FIXED = 0.5
"""sigma2 of the sweep over beta; where it is in the grid, the other sweep has the point."""

UNKNOWN = {"value": None, "ci95": [None, None]}

Row = dict[str, Any]


def run(output: Path, *command: object) -> None:
    """Run a verb of `phasevae` that writes `output`, unless that is there."""
    if not output.exists():
        subprocess.run([PHASEVAE, *map(str, command), "-o", str(output)], check=True)


def listed(values: Iterable[float]) -> str:
    return ",".join(f"{value:.10g}" for value in values)


def dataset(folder: Path, kind: str, **options: object) -> None:
    """A data set in `folder`, with its spectrum."""
    given = [word for key, value in options.items() for word in (f"--{key.replace('_', '-')}", value)]
    if not (folder / "data.json").exists():
        subprocess.run([PHASEVAE, "dataset", kind, *map(str, given), "-o", str(folder)], check=True)
    run(folder / "spectrum.json", "spectrum", folder)


def fitted(folder: Path, *sweeps: Mapping[str, object], upward: bool = False) -> dict[str, Any]:
    """Train the `sweeps` (options of `phasevae train`), gather them and fit; the content of fit.json."""
    for options in sweeps:
        given = [word for key, value in options.items() for word in (f"--{key}", str(value))]
        subprocess.run([PHASEVAE, "train", str(folder), *given, "-o", str(folder / "points")], check=True)
    sweep, dimensions, spectrum = folder / "sweep.csv", folder / "dimensions.csv", folder / "spectrum.json"
    run(sweep, "collect", folder / "points", "--dimensions", dimensions)
    more = ("--hysteresis", folder / "hysteresis.csv") if upward else ()
    run(folder / "fit.json", "fit", sweep, "--spectrum", spectrum, "--dimensions", dimensions, *more)
    return read_json(folder / "fit.json")


def exponents(folder: Path, threads: int) -> list[Row]:
    dataset(folder, "synthetic", eigenvalues=listed(SINGLE), n_samples=64_000)
    fit = fitted(
        folder, {"sigma2": listed(SINGLE_GRID), "latent": 4, "hidden": "256,128", "samples": 4e5, "threads": threads}
    )
    found = fit["exponents"]
    names = {"kl": "exponent of KL", "amplitude": "exponent of the amplitude", "gap": "exponent of the ELBO gap"}
    rows = [claim(name, found[key] or UNKNOWN, EXPONENTS[key]) for key, name in names.items()]
    return [*rows, *transition(fit), told("order", fit["order"]["value"], 2)]


def clusters(folder: Path, threads: int) -> list[Row]:
    dataset(folder, "clusters", weights="0.1,0.9")
    upward(folder, CLUSTER_RATIOS, "0,1", 8e5, threads)
    unit = read_json(folder / "spectrum.json")["critical_variance"]
    grid = listed(ratio * unit for ratio in CLUSTER_RATIOS)
    fit = fitted(
        folder,
        {"sigma2": grid, "latent": 1, "hidden": "32,32", "samples": 2e5, "threads": threads},
        upward=True,
    )
    measured = fit["hysteresis"]["measured"]
    crossing = measured["binodal"] or UNKNOWN
    lost, following = (None if edge is None else edge / unit for edge in measured["branch_lost"])
    return [
        told("order", fit["order"]["value"], 1),
        told("hysteresis", measured["hysteresis"], True),
        within("ELBO crossing / lambda_1", scaled(crossing, 1 / unit), 1.36, 1.44),
        within("branch lost / lambda_1", {"value": None, "ci95": [lost, following]}, 1.38, 1.5),
    ]


def control(folder: Path, threads: int) -> list[Row]:
    dataset(folder, "synthetic", eigenvalues="1,0.3,0.2", n_samples=20_000)
    upward(folder, CONTROL_RATIOS, "0,1,2,3,4", 3e5, threads)
    table = read_table(folder / "hysteresis.csv")
    critical = read_json(folder / "spectrum.json")["critical_variance"]
    seeds = [measured_hysteresis(rows, critical)["hysteresis"] for _, rows in table.groupby("seed")]
    return [told("seeds with hysteresis", sum(map(bool, seeds)), 0), told("seeds", len(seeds), 5)]


def beta(folder: Path, threads: int) -> list[Row]:
    dataset(folder, "synthetic", eigenvalues="1,0.8,0.6,0.4", n_samples=64_000)
    same = {"latent": 4, "hidden": "64,32", "samples": 3e5, "threads": threads}
    fit = fitted(
        folder,
        {"sigma2": listed(BETA_GRID), **same},
        {"sigma2": FIXED, "beta": listed(x / FIXED for x in BETA_GRID if x != FIXED), **same},
    )
    found = fit["beta_equivalence"]
    difference = {"value": found["sweeps"][0]["mean_difference"], "ci95": found["sweeps"][0]["ci95"]}
    return [claim("mean difference of KL (nats)", difference, 0.0), told("agrees", found["agrees"], True)]


EXPERIMENTS = {"exponents": exponents, "clusters": clusters, "control": control, "beta": beta}


def upward(folder: Path, ratios: list[float], seeds: str, samples: float, threads: int) -> None:
    """hysteresis.csv of networks with one latent."""
    settings = ("--latent", 1, "--hidden", "32,32", "--samples", samples, "--threads", threads)
    run(folder / "hysteresis.csv", "hysteresis", folder, "--ratio", listed(ratios), "--seeds", seeds, *settings)


def transition(fit: Mapping[str, Any]) -> list[Row]:
    """The critical point and the slope below it, against theory."""
    critical = {key: fit[name] for key, name in (("value", "critical_variance"), ("ci95", "ci95"))}
    return [
        claim("critical variance", critical, fit["predicted"]["critical_variance"]),
        claim("slope of KL below", fit["slope_below"], fit["predicted"]["slope_below"]),
    ]


def claim(name: str, found: Mapping[str, Any], expected: float) -> Row:
    """A number whose interval should hold the expected one; an open end holds everything on its side."""
    low, high = found["ci95"]
    known = found["value"] is not None
    holds = known and (low is None or low <= expected) and (high is None or expected <= high)
    return {"claim": name, "measured": found["value"], "low": low, "high": high, "expected": expected, "holds": holds}


def within(name: str, found: Mapping[str, Any], low: float, high: float) -> Row:
    """A number, or where only its bounds are known both of them, that should lie between `low` and `high`."""
    numbers = found["ci95"] if found["value"] is None else [found["value"]]
    holds = all(number is not None and low <= number <= high for number in numbers)
    return {
        "claim": name,
        "measured": found["value"],
        "low": found["ci95"][0],
        "high": found["ci95"][1],
        "expected": f"{low} to {high}",
        "holds": holds,
    }


def told(name: str, found: object, expected: object) -> Row:
    return {
        "claim": name,
        "measured": found,
        "low": None,
        "high": None,
        "expected": expected,
        "holds": found == expected,
    }


def scaled(found: Mapping[str, Any], factor: float) -> dict[str, Any]:
    def times(value: float | None) -> float | None:
        return None if value is None else factor * value

    return {"value": times(found["value"]), "ci95": [times(edge) for edge in found["ci95"]]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--only", default=",".join(EXPERIMENTS), help="some of: " + ", ".join(EXPERIMENTS))
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    chosen = options.only.split(",")
    if unknown := set(chosen) - set(EXPERIMENTS):
        parser.error(f"--only: {', '.join(sorted(unknown))}, must be some of {', '.join(EXPERIMENTS)}")
    rows = []
    for name in chosen:
        try:
            found = EXPERIMENTS[name](options.output / name, options.threads)
        except subprocess.CalledProcessError as error:
            sys.exit(error.returncode)  # the command has said why
        rows += [{"experiment": name, **row} for row in found]
    table = pd.DataFrame(rows)
    write_table(options.output / "transitions.csv", table)
    print(table.to_string(index=False, na_rep="", float_format="{:.4g}".format))
    sys.exit(0 if table["holds"].all() else 1)


if __name__ == "__main__":
    main()
