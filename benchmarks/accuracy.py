"""How far is a finished sweep of Gaussian data from the exact curves, seed by seed?

    python benchmarks/accuracy.py results/gaussian

takes some seconds and writes no file. It prints, for each seed and as the median: RMS and largest error of KL against
probabilistic PCA (pPCA) at the points where pPCA is exact, the largest error of a mean latent variance, and the fitted
critical variance with its interval; then the fit of all seeds together.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from shared import make_parser

from phasevae.analysis.kl_fit.critical_point import CriticalPoint, fit_critical_point
from phasevae.artifacts.tables import read_table
from phasevae.spectrum.spectrum import Spectrum
from phasevae.spectrum.spectrum_files import read_spectrum
from phasevae.theory.ppca import ppca_exact_above, ppca_kl, ppca_latent_variance


def main() -> None:
    """Run the command line."""
    parser = make_parser(__doc__)
    parser.add_argument("folder", type=Path, help="results folder of one data set")
    folder = parser.parse_args().folder
    spectrum = read_spectrum(folder / "spectrum.json")
    sweep = read_table(folder / "sweep.csv")
    dimensions = read_table(folder / "dimensions.csv")
    table = pd.DataFrame([seed_row(seed, rows, dimensions, spectrum) for seed, rows in sweep.groupby("seed")])
    print(table.to_string(index=False, float_format="%.5f"))
    print("median", table[["rms", "largest", "latent_variance"]].median().round(5).to_dict())
    print("all seeds", fit_text(fit_critical_point(sweep, spectrum, int(sweep["n_latent"].max())), spectrum))


def seed_row(seed: int, rows: pd.DataFrame, dimensions: pd.DataFrame, spectrum: Spectrum) -> dict:
    """Compare the sweep of one seed with theory.

    Parameters
    ----------
    seed : the seed
    rows : its rows of sweep.csv
    dimensions : content of dimensions.csv
    spectrum : spectrum of the data

    Returns
    -------
    dict : errors in nats (KL) and of latent variances, the x = beta * sigma2 of the largest error, and the fit as text
    """
    eigenvalues, n_latent = spectrum.eigenvalues, int(rows["n_latent"].iloc[0])
    exact = rows[rows["beta"] * rows["sigma2"] >= ppca_exact_above(eigenvalues, n_latent)]
    x = (exact["beta"] * exact["sigma2"]).to_numpy()
    error = np.abs(exact["kl"].to_numpy() - ppca_kl(eigenvalues, x, n_latent))
    return {
        "seed": seed,
        "points": len(exact),
        "rms": np.sqrt(np.mean(error**2)),
        "largest": error.max(),
        "at": x[error.argmax()],
        "latent_variance": max(latent_variance_error(point, dimensions, spectrum) for point in exact.itertuples()),
        "fit": fit_text(fit_critical_point(rows, spectrum, n_latent), spectrum),
    }


def latent_variance_error(point: NamedTuple, dimensions: pd.DataFrame, spectrum: Spectrum) -> float:
    """Largest error of the sorted mean latent variances of a point of sweep.csv."""
    rows = dimensions.query("sigma2 == @point.sigma2 and beta == @point.beta and seed == @point.seed")
    expected = ppca_latent_variance(spectrum.eigenvalues, point.sigma2, len(rows), point.beta)
    return float(np.abs(np.sort(rows["latent_variance"]) - np.sort(expected)).max())


def fit_text(fit: CriticalPoint, spectrum: Spectrum) -> str:
    """The critical variance, its interval, and how both compare with the prediction."""
    predicted, critical = spectrum.critical_variance, fit.critical_variance
    if critical is None:
        return f"none: {fit.reason}"
    low, high = (edge if edge is not None else np.nan for edge in fit.ci95)
    covers = "covers" if low <= predicted <= high else "misses"
    deviation = 100 * (critical / predicted - 1)
    return f"{critical:.4f} [{low:.4f}, {high:.4f}] ({deviation:+.2f} %, {covers} {predicted:.4f})"


if __name__ == "__main__":
    main()
