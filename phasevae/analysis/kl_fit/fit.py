"""Every form fitted to the points of its own window."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from phasevae.analysis.kl_fit.cascade import cascade_profile, cascade_start
from phasevae.analysis.kl_fit.forms import N_PARAMETERS, SINGLE_MODE, Profile, form_profile
from phasevae.analysis.kl_fit.profile_likelihood import aicc, minimise, profile_interval
from phasevae.analysis.sweep_table import MIN_POINTS, Points, checked_points, weighted
from phasevae.theory.ppca import ACTIVE_KL, ppca_exact_above

if TYPE_CHECKING:
    import pandas as pd


MAX_MODES = 12
"""More eigenvalues than this are never resolved by one curve."""

SURE = 0.999
"""A curve that does not beat a constant KL with this confidence shows no transition."""


def fit_models(
    points: Points,
    spectrum: Mapping[str, Any] | None,
    n_latent: int | None,
    n_modes: int,
    window: tuple[float, float] | None = None,
) -> dict[str, dict[str, Any]]:
    """Fit every form in its own window: {name: {critical_variance, ci95, aicc, weight, parameters, window, n_points,
    chi2, dof, reason}}.

    `weight` is the Akaike weight among the single-mode forms, which share their window; the cascade has none, as its
    AICc is that of other points.
    """
    cascade_points = points.above(_exact_above(spectrum, n_latent))
    models = {"cascade": _fit_cascade(cascade_points, n_modes, spectrum)}
    edge = single_mode_edge(spectrum, models["cascade"])
    for name in SINGLE_MODE:
        if window is None and edge is None:
            models[name] = _left_out("no spectrum and no second eigenvalue in the cascade to place the window")
            continue
        inside = inside_window(points, window or (edge, np.inf))
        models[name] = fit_form(inside, form_profile(name, inside), N_PARAMETERS[name])
    weighed = {name: models[name]["aicc"] for name in SINGLE_MODE if models[name]["aicc"] is not None}
    if weighed:
        likelihood = {name: np.exp((min(weighed.values()) - value) / 2) for name, value in weighed.items()}
        for name, value in likelihood.items():
            models[name]["weight"] = float(value / sum(likelihood.values()))
    return models


def weighted_points(sweep: pd.DataFrame, spectrum: Mapping[str, Any] | None, n_latent: int | None) -> Points:
    """Means over seeds with the weights that all fits use: a first cascade, good to a percent, says which points
    suffer from slow relaxation."""
    points = checked_points(sweep)
    found = _free_cascade(points.above(_exact_above(spectrum, n_latent)), most_modes(sweep, n_latent), spectrum)
    return weighted(points, found[0][0] if found else None)


def most_modes(sweep: pd.DataFrame, n_latent: int | None) -> int:
    """Most eigenvalues that the cascade may have: no more than latents that were ever active."""
    return max(1, int(min(sweep["active_dims"].max(), n_latent or np.inf, MAX_MODES)))


def _fit_cascade(points: Points, n_modes: int, spectrum: Mapping[str, Any] | None) -> dict[str, Any]:
    starts = _free_cascade(points, n_modes, spectrum)
    if not starts:
        return _left_out(f"{points.x.size} values of beta * sigma2 where the pPCA curve is exact, needs {MIN_POINTS}")
    n_modes = len(starts[0])
    return fit_form(points, cascade_profile(points, n_modes, starts), n_modes + 1, n_coarse=24)


def _free_cascade(points: Points, n_modes: int, spectrum: Mapping[str, Any] | None) -> list[list[float]]:
    """Eigenvalues of the cascade of 1, 2, ... modes with the smallest AIC (the noise level is known), giving up
    after two that are worse, and those of the spectrum as a further start; none with too few points."""
    if points.x.size < MIN_POINTS:
        return []
    predicted = [] if spectrum is None else np.maximum(spectrum["eigenvalues"], points.x.min())
    lowest, starts, worse = np.inf, [], 0
    for m in range(1, min(n_modes, points.x.size - 3) + 1):
        guesses = [predicted[:m].tolist()] if len(predicted) >= m else []
        fits = cascade_start(points, m, guesses)
        criterion = fits.chi2.min() + 2 * (m + 1)
        worse = 0 if criterion < lowest else worse + 1
        if not starts or criterion < lowest:
            lowest, starts = criterion, [fits.best()[1]["eigenvalues"], *guesses]
        if worse == 2:
            break
    return starts


def fit_form(points: Points, profile: Profile, n_parameters: int, n_coarse: int = 200) -> dict[str, Any]:
    """Best critical point of one form and its profile interval."""
    n = points.x.size
    if n < n_parameters + 1:
        return _left_out(f"{n} values of beta * sigma2 in the window, needs {n_parameters + 1}")
    if points.kl.max() < ACTIVE_KL:
        return _left_out(f"all collapsed in the window: KL is below {ACTIVE_KL} nats")
    low, high = points.x.min(), points.x.max()
    fits = minimise(profile, low, high, n_coarse)
    c, parameters = fits.best()
    if c == fits.c.max():
        return _left_out(f"no point beyond the transition: the largest beta * sigma2 is {high:.6g}")
    chi2, dof = float(fits.chi2.min()), n - n_parameters
    if not _tells(points, chi2, dof, n_parameters):
        return _left_out("a constant KL describes the points as well")
    criterion = aicc(chi2, int(points.count.sum()), n_parameters)
    return {
        "critical_variance": c,
        "ci95": profile_interval(profile, fits, dof),
        "aicc": criterion if np.isfinite(criterion) else None,
        "weight": None,
        "parameters": parameters,
        "window": [float(low), float(high)],
        "n_points": int(points.count.sum()),
        "chi2": chi2,
        "dof": dof,
        "reason": None,
    }


def _tells(points: Points, chi2: float, dof: int, n_parameters: int) -> bool:
    """Whether a fit is surely better than its floor alone, the noise level being that of its residuals or the one that
    the weights stand for, whichever is larger."""
    from scipy.stats import chi2 as distribution

    weight = points.weight**2
    floor = max(float(weight @ points.kl / weight.sum()), 0.0)
    gain = float(weight @ (points.kl - floor) ** 2) - chi2
    return gain > max(chi2 / dof, 1.0) * distribution.ppf(SURE, n_parameters - 1)


def _exact_above(spectrum: Mapping[str, Any] | None, n_latent: int | None) -> float:
    if spectrum is None or n_latent is None:
        return 0.0
    return ppca_exact_above(spectrum["eigenvalues"], n_latent)


def single_mode_edge(spectrum: Mapping[str, Any] | None, cascade: Mapping[str, Any]) -> float | None:
    """Lower edge of the window in which one mode is active: lambda_2, measured or fitted."""
    eigenvalues = (cascade["parameters"] or {}).get("eigenvalues", []) if spectrum is None else spectrum["eigenvalues"]
    return float(eigenvalues[1]) if len(eigenvalues) > 1 else None


def inside_window(points: Points, window: tuple[float, float]) -> Points:
    """The points from the window's lowest to its highest x."""
    return points.select((points.x >= window[0]) & (points.x <= window[1]))


def _left_out(reason: str) -> dict[str, Any]:
    keys = ("critical_variance", "ci95", "aicc", "weight", "parameters", "window", "n_points", "chi2", "dof")
    return dict.fromkeys(keys) | {"reason": reason}
