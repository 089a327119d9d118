"""Each latent's own threshold, whatever basis the network has chosen, and how many latents are active.

Rotating two active latents costs almost nothing when their eigenvalues are close, so the posterior variance of one
latent may miss sigma2 / lambda_j. The eigenvalues e_j of Cov_x mu(x) do not rotate: at the optimum of Gaussian data
e_j = 1 - x / lambda_j, so that -1/2 ln(1 - e_j) = [1/2 ln(lambda_j / x)]_+ is the KL of mode j, with its hinge at
lambda_j.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from phasevae.analysis.kl_fit.cascade import cascade_profile
from phasevae.analysis.kl_fit.fit import fit_form
from phasevae.analysis.kl_fit.forms import N_PARAMETERS, form_profile
from phasevae.analysis.sweep_table import (
    SD_ABSOLUTE,
    SD_CRITICAL,
    SD_RELATIVE,
    Points,
    abscissa,
    check_table,
    column_values,
    weighted,
)
from phasevae.spectrum.spectrum import looks_gaussian
from phasevae.theory.ppca import ppca_active_dims, ppca_exact_above

if TYPE_CHECKING:
    import pandas as pd


COLUMNS = ("sigma2", "beta", "seed", "latent", "mean_eigenvalue")
DEPTH = 0.5
"""A threshold is fitted to points down to this part of the place where it is seen, and to all above."""

_LARGEST = 1 - 1e-9


def mode_kl(dimensions: pd.DataFrame) -> tuple[NDArray, NDArray]:
    """(x [n], KL of each mode [n, n_latent] in nats), seeds averaged, modes by size.

    `dimensions` is the content of dimensions.csv. Raises InputError when it has no `mean_eigenvalue`.
    """
    check_table(dimensions, COLUMNS, "dimensions", rows=("latent",))
    kl = -0.5 * np.log1p(-np.clip(column_values(dimensions, "mean_eigenvalue"), 0.0, _LARGEST))
    x = abscissa(dimensions)
    table = dimensions.assign(x=x, kl=kl)
    table["mode"] = table.groupby(["sigma2", "beta", "seed"])["kl"].rank(ascending=False, method="first").astype(int)
    means = table.pivot_table(index="x", columns="mode", values="kl")
    return means.index.to_numpy(), means.to_numpy()


def fit_thresholds(
    dimensions: pd.DataFrame, spectrum: Mapping[str, Any] | None = None, n_latent: int | None = None
) -> dict[str, Any]:
    """Threshold of each mode with its 95 % interval, and the staircase of active dimensions.

    Returns {modes: [{mode, threshold, ci95, predicted, relative_error, n_points, reason}], staircase: {x, active,
    predicted}, reason}. A mode is active above SD_CRITICAL nats, what slow relaxation may leave of it; one that
    collapses nowhere on the grid, or is never active, has no threshold and a reason.
    """
    if "mean_eigenvalue" not in dimensions:
        reason = "dimensions: column 'mean_eigenvalue' is missing; collect the points again"
        return {"modes": [], "staircase": None, "reason": reason}
    x, kl = mode_kl(dimensions)
    eigenvalues = None if spectrum is None else np.asarray(spectrum["eigenvalues"], dtype=float)
    gaussian = spectrum is None or looks_gaussian(spectrum)
    lower = 0.0 if eigenvalues is None else ppca_exact_above(eigenvalues, n_latent or kl.shape[1])
    exact = x >= lower
    found = []
    for j in range(kl.shape[1]):
        predicted = None if eigenvalues is None or j >= eigenvalues.size else float(eigenvalues[j])
        found.append({"mode": j + 1, **_threshold(x[exact], kl[exact, j], gaussian), "predicted": predicted})
        value = found[-1]["threshold"]
        found[-1]["relative_error"] = None if value is None or not predicted else value / predicted - 1
    active = (kl > SD_CRITICAL).sum(1)
    steps = None
    if eigenvalues is not None:
        steps = ppca_active_dims(eigenvalues, x, n_latent or kl.shape[1]).tolist()
    staircase = {"x": x.tolist(), "active": active.tolist(), "predicted": steps}
    return {"modes": found, "staircase": staircase, "reason": None}


def _threshold(x: NDArray, kl: NDArray, gaussian: bool) -> dict[str, Any]:
    """Hinge of one mode's KL: with the amplitude 1/2 of Gaussian data, or with a free one."""
    none = {"threshold": None, "ci95": None, "amplitude": None, "n_points": 0}
    active = x[kl > SD_CRITICAL]
    if not active.size:
        return none | {"reason": "never active where theory is exact"}
    if active.max() == x.max():
        return none | {"reason": "active at every beta * sigma2"}
    near = x >= DEPTH * active.max()
    # As if of one seed: what seeds have in common, a mode that has not quite settled, is the larger part of the error.
    ones = np.ones(near.sum(), int)
    points = weighted(Points(x[near], kl[near], ones, ones), _seen(x[near], kl[near]))
    if gaussian:
        fitted = fit_form(points, cascade_profile(points, 1, [[active.max()]]), 2)
    else:
        fitted = fit_form(points, form_profile("log", points), N_PARAMETERS["log"])
    return {
        "threshold": fitted["critical_variance"],
        "ci95": fitted["ci95"],
        "amplitude": 0.5 if gaussian else (fitted["parameters"] or {}).get("amplitude"),
        "n_points": int(near.sum()),
        "reason": fitted["reason"],
    }


def _seen(x: NDArray, kl: NDArray) -> float:
    """Rough threshold: the median of x exp(2 KL) where KL is above its error."""
    above = kl > 2 * (SD_ABSOLUTE + SD_RELATIVE * kl)
    return float(np.median((x * np.exp(2 * kl))[above])) if above.any() else float(x.max())
