"""Does the transition depend on the networks? A convolutional VAE and the MLP on the same images.

    python benchmarks/own_networks.py -o results/own_networks --only digits            about half an hour on one core
    python benchmarks/own_networks.py -o results/own_networks --images cifar.tar.xz    twice as long

Theory predicts the critical variance from the covariance of the data alone: it is the largest eigenvalue for every
encoder and decoder. Each experiment is a chain of `phasevae` commands in a folder of its own, DIR/DATA/NETWORK:

digits   scikit-learn's 1,797 digits of 8 x 8 pixels
images   the images of --images, such as CIFAR-10, grey and resized to 16 x 16 pixels

The networks are those of config/conv_vae.py and the MLP of the default widths. A command whose output exists is not run
again, and `train` keeps its points: the same command continues a run that was stopped. It prints one row per network,
writes them to DIR/own_networks.csv, and draws both curves in DIR/DATA/kl.png. The exit code is 1 if a fitted critical
variance differs from the largest eigenvalue by more than 1.5 %.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from shared import make_parser, some_of
from transitions import PHASEVAE, dataset, listed, run

from phasevae.artifacts.files import read_json
from phasevae.artifacts.tables import read_table, write_table
from phasevae.theory.ppca import ppca_kl

ROOT = Path(__file__).parents[1]
RATIOS = [0.7, 0.8, 0.86, 0.9, 0.94, 0.97, 1.03, 1.1]
"""Decoder variances of the sweeps, in units of the largest eigenvalue."""

NETWORKS = {"conv": ["--network", f"{ROOT / 'config' / 'conv_vae.py'}:build"], "mlp": []}
ANNEAL_FROM, ANNEAL_FRACTION = 0.1, 0.3
"""Convolutions leave the collapsed state, next to which they are initialised, later than an MLP. They need a beginning
deeper on the active side."""

DATA = ("digits", "images")
TOLERANCE = 0.015
LATENTS = 4


def fitted(folder: Path, network: str, samples: float, rate: float, seeds: str) -> dict[str, Any]:
    """Train the sweep of a network on the data set in `folder`, and fit it; return the content of fit.json."""
    own = folder / network
    spectrum = folder / "spectrum.json"
    grid = [ratio * read_json(spectrum)["critical_variance"] for ratio in RATIOS]
    training = ["--latent", LATENTS, "--samples", samples, "--learning-rate", rate, "--seeds", seeds, "--threads", 1]
    training += ["--anneal-from", ANNEAL_FROM, "--anneal-fraction", ANNEAL_FRACTION]
    if not (own / "sweep.csv").exists():
        command = [PHASEVAE, "train", folder, "--spectrum", spectrum, "--sigma2", listed(grid), *training]
        subprocess.run([*map(str, command), *NETWORKS[network], "-o", str(own)], check=True)
    tables = ["--dimensions", own / "dimensions.csv"]
    run(own / "sweep.csv", "collect", own, *tables)
    run(own / "fit.json", "fit", own / "sweep.csv", "--spectrum", spectrum, *tables)
    return read_json(own / "fit.json")


def row(data: str, network: str, folder: Path, fit: dict[str, Any]) -> dict[str, Any]:
    """The claim about a network: the fitted critical variance against the largest eigenvalue."""
    predicted = read_json(folder / "spectrum.json")["critical_variance"]
    low, high = fit["ci95"] or (None, None)
    value = fit["critical_variance"]
    error = None if value is None else value / predicted - 1
    return {
        "data": data,
        "network": network,
        "critical_variance": value,
        "ci95_low": low,
        "ci95_high": high,
        "largest_eigenvalue": predicted,
        "error": error,
        "holds": error is not None and abs(error) <= TOLERANCE,
    }


def draw(folder: Path) -> None:
    """Draw the KL of both networks over sigma2, with the curve of the optimal linear decoder, in kl.png."""
    record = read_json(folder / "spectrum.json")
    critical, eigenvalues = record["critical_variance"], np.array(record["eigenvalues"])
    figure, axes = plt.subplots(figsize=(5, 3.4), layout="constrained")
    fine = np.linspace(min(RATIOS), max(RATIOS), 200)
    axes.plot(fine, [ppca_kl(eigenvalues, s * critical, LATENTS) for s in fine], color="black", label="linear optimum")
    axes.axvline(1, color="grey", linestyle=":", label="largest eigenvalue")
    for network, marker in (("mlp", "o"), ("conv", "^")):
        table = read_table(folder / network / "sweep.csv", "sweep")
        axes.plot(table["sigma2"] / critical, table["kl"], marker, markerfacecolor="none", label=network)
    axes.set(xlabel="decoder variance / largest eigenvalue", ylabel="KL (nats)", ylim=(-0.02, None))
    axes.legend()
    figure.savefig(folder / "kl.png", dpi=150)
    plt.close(figure)


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of all files")
    parser.add_argument("--images", type=Path, help="folder or archive of images for the second data set")
    parser.add_argument("--only", type=some_of(DATA), default=list(DATA), help="some of: digits,images")
    parser.add_argument("--samples", type=float, default=4e5, help="training samples of a model")
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--seeds", default="0,1,2")
    args = parser.parse_args()
    rows = []
    for data in args.only:
        folder = args.output / data
        if data == "digits":
            dataset(folder, "digits")
        elif args.images is None:
            continue
        elif not (folder / "data.json").exists():
            command = ["dataset", "images", args.images, "--size", 16, "--grey", "--standardize", "global"]
            subprocess.run([PHASEVAE, *map(str, command), "-o", str(folder)], check=True)
        run(folder / "spectrum.json", "spectrum", folder)
        for network in NETWORKS:
            fit = fitted(folder, network, args.samples, args.learning_rate, args.seeds)
            rows.append(row(data, network, folder, fit))
        draw(folder)
    table = pd.DataFrame(rows)
    write_table(args.output / "own_networks.csv", table)
    print(table.to_string(index=False))
    sys.exit(0 if table["holds"].all() else 1)


if __name__ == "__main__":
    main()
