"""How far a finished sweep of Gaussian data is from the exact curves, seed by seed.

    python benchmarks/accuracy.py results/gaussian

Prints, for each seed and in the median: RMS and largest error of KL against pPCA at the points where pPCA is exact,
the largest error of a mean latent variance, and the fitted critical variance with its interval; last, one fit of all.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from phasevae.analysis.kl_fit.critical_point import fit_critical_point
from phasevae.artifacts.files import read_json, read_table
from phasevae.theory.ppca import ppca_exact_above, ppca_kl, ppca_latent_variance


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="results folder of one data set")
    folder = parser.parse_args().folder
    spectrum = read_json(folder / "spectrum.json", ("eigenvalues",))
    sweep = read_table(folder / "sweep.csv")
    dimensions = read_table(folder / "dimensions.csv")
    table = pd.DataFrame([seed_row(seed, rows, dimensions, spectrum) for seed, rows in sweep.groupby("seed")])
    print(table.to_string(index=False, float_format="%.5f"))
    print("median", table[["rms", "largest", "latent_variance"]].median().round(5).to_dict())
    print("all seeds", fit_words(fit_critical_point(sweep, spectrum, int(sweep["n_latent"].max())), spectrum))


def seed_row(seed: int, rows: pd.DataFrame, dimensions: pd.DataFrame, spectrum: dict) -> dict:
    """Errors and fit of one seed's sweep."""
    eigenvalues, n_latent = spectrum["eigenvalues"], int(rows["n_latent"].iloc[0])
    exact = rows[rows["beta"] * rows["sigma2"] >= ppca_exact_above(eigenvalues, n_latent)]
    x = (exact["beta"] * exact["sigma2"]).to_numpy()
    error = exact["kl"].to_numpy() - ppca_kl(eigenvalues, x, n_latent)
    worst = np.abs(error).argmax()
    variances = [latent_variance_error(point, dimensions, eigenvalues) for point in exact.itertuples()]
    fit = fit_critical_point(rows, spectrum, n_latent)
    return {
        "seed": seed,
        "points": len(exact),
        "rms": np.sqrt(np.mean(error**2)),
        "largest": np.abs(error).max(),
        "at": x[worst],
        "latent_variance": max(variances),
        "fit": fit_words(fit, spectrum),
    }


def latent_variance_error(point: tuple, dimensions: pd.DataFrame, eigenvalues: list[float]) -> float:
    """Largest error of the sorted mean latent variances of one point."""
    mine = dimensions.query("sigma2 == @point.sigma2 and beta == @point.beta and seed == @point.seed")
    expected = ppca_latent_variance(eigenvalues, point.sigma2, len(mine), point.beta)
    return float(np.abs(np.sort(mine["latent_variance"]) - np.sort(expected)).max())


def fit_words(fit: dict, spectrum: dict) -> str:
    predicted, found = spectrum["eigenvalues"][0], fit["critical_variance"]
    if found is None:
        return f"none: {fit['reason']}"
    low, high = (edge if edge is not None else np.nan for edge in fit["ci95"])
    covers = "covers" if low <= predicted <= high else "misses"
    return f"{found:.4f} [{low:.4f}, {high:.4f}] ({100 * (found / predicted - 1):+.2f} %, {covers} {predicted:.4f})"


if __name__ == "__main__":
    main()
