"""Does the transition depend on the networks? The critical variances that sweeps of the same data give.

    snakemake --cores all --configfile config/conv.yaml
    python benchmarks/own_networks.py results/digits_mlp results/digits_conv -o results/networks.png

Theory predicts the critical variance from the covariance of the data alone: it is the largest eigenvalue for every
encoder and decoder. The arguments are the result folders of sweeps of one data set. The script prints a row for each,
and draws the KL of all of them over sigma2. The exit code is 1 if a fitted critical variance differs from the largest
eigenvalue by more than 1.5 %, and 2 if the sweeps are of different data.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from shared import make_parser

from phasevae.artifacts.files import read_json
from phasevae.artifacts.tables import read_table
from phasevae.theory.ppca import ppca_kl

TOLERANCE = 0.015
MARKERS = "o^sDv"


def row(folder: Path) -> dict[str, Any]:
    """Return the claim about the sweep in `folder`: the fitted critical variance against the largest eigenvalue."""
    fit, spectrum = read_json(folder / "fit.json"), read_json(folder / "spectrum.json")
    value, predicted = fit["critical_variance"], spectrum["critical_variance"]
    low, high = fit["ci95"] or (None, None)
    error = None if value is None else value / predicted - 1
    return {
        "sweep": folder.name,
        "seeds": fit["n_seeds"],
        "critical_variance": value,
        "ci95_low": low,
        "ci95_high": high,
        "largest_eigenvalue": predicted,
        "error": error,
        "holds": error is not None and abs(error) <= TOLERANCE,
    }


def draw(folders: list[Path], output: Path) -> None:
    """Draw the KL of all sweeps over sigma2, with the curve of the optimal linear decoder."""
    record = read_json(folders[0] / "spectrum.json")
    critical, eigenvalues = record["critical_variance"], np.array(record["eigenvalues"])
    figure, axes = plt.subplots(figsize=(5, 3.4), layout="constrained")
    ratios: list[float] = []
    for folder, marker in zip(folders, MARKERS, strict=False):
        table = read_table(folder / "sweep.csv", "sweep")
        ratios += list(table["sigma2"] / critical)
        axes.plot(table["sigma2"] / critical, table["kl"], marker, markerfacecolor="none", label=folder.name)
    fine = np.linspace(min(ratios), max(ratios), 200)
    n_latent = int(table["n_latent"].iloc[0])
    linear = [ppca_kl(eigenvalues, ratio * critical, n_latent) for ratio in fine]
    axes.plot(fine, linear, color="black", label="linear optimum")
    axes.axvline(1, color="grey", linestyle=":", label="largest eigenvalue")
    axes.set(xlabel="decoder variance / largest eigenvalue", ylabel="KL (nats)", ylim=(-0.02, None))
    axes.legend()
    figure.savefig(output, dpi=200)
    plt.close(figure)


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("folders", type=Path, nargs="+", help="result folders, each with fit.json")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the figure")
    args = parser.parse_args()
    if len({read_json(folder / "data.json")["sha256"] for folder in args.folders}) > 1:
        parser.error(f"{', '.join(map(str, args.folders))}: are sweeps of different data, must be of the same")
    table = pd.DataFrame([row(folder) for folder in args.folders])
    print(table.to_string(index=False))
    draw(args.folders, args.output)
    sys.exit(0 if table["holds"].all() else 1)


if __name__ == "__main__":
    main()
