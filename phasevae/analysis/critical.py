"""Where the posterior collapses: piecewise fits of KL(beta * sigma2) with profile-likelihood intervals.

All critical variances, slopes and windows are in units of the abscissa x = beta * sigma2, on which alone the
optimum depends; with beta = 1 that is the decoder variance itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from phasevae import theory
from phasevae.analysis import forms
from phasevae.analysis.forms import Points, Profile
from phasevae.analysis.profiles import aicc, interval, minimise, slope_below
from phasevae.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("sigma2", "beta", "seed", "kl", "active_dims")
"""Columns of the sweep table that the fit reads."""

COLLAPSED_KL = 5e-3
"""A sweep whose KL stays above this many nats at every point has no collapsed point (2.5 times the error of one)."""

SD_ABSOLUTE, SD_RELATIVE = 2e-3, 1e-2
"""Weights are 1 / (SD_ABSOLUTE + SD_RELATIVE KL), the scatter of trained networks about the optimum. Intervals grow
with the misfit that is found, where that is larger."""

MAX_MODES = 12
"""More eigenvalues than this are never resolved by one curve."""

MIN_POINTS = 4
CI_METHOD = "profile likelihood: chi2(c) <= chi2_min + max(chi2_min / dof, 1) F(1, dof; 0.95), seeds pooled"
N_PARAMETERS = {"log": 3, "piecewise_quadratic": 4}


def fit(sweep: pd.DataFrame, spectrum: Mapping[str, Any] | None = None, n_latent: int | None = None) -> dict[str, Any]:
    """Fit the critical point and the slope of KL below it; returns the content of fit.json.

    `sweep` has the columns sigma2, beta, seed, kl (nats) and active_dims, one row a trained point; `spectrum` is
    the content of spectrum.json. With the spectrum and `n_latent` the cascade leaves out the points at which pPCA
    is only a bound. Without a spectrum the single-mode window starts at the cascade's own second eigenvalue.
    A transition that the points cannot locate gives ``critical_variance`` None and a ``reason``.

    Raises InputError for missing columns, undefined or non-positive values and repeated points.
    """
    points = checked_points(sweep)
    result: dict[str, Any] = {
        "critical_variance": None,
        "ci95": None,
        "ci_method": CI_METHOD,
        "model": None,
        "models": {},
        "slope_below": {"value": None, "ci95": None},
        "predicted": _predicted(spectrum),
        "window": None,
        "n_points": int(points.x.size),
        "n_seeds": int(sweep["seed"].nunique()),
        "abscissa": "beta * sigma2",
        "reason": _undetermined(points),
    }
    if result["reason"]:
        return result
    n_modes = int(min(sweep["active_dims"].max(), n_latent or np.inf, MAX_MODES))
    models = fit_models(points, spectrum, n_latent, max(1, n_modes))
    name, why = _default_model(models, spectrum)
    chosen = models[name]
    log = models["log"]
    result |= {
        "critical_variance": chosen["critical_variance"],
        "ci95": chosen["ci95"],
        "model": name,
        "model_reason": why,
        "models": models,
        "window": chosen["window"],
        "reason": chosen["reason"],
    }
    if log["parameters"] and log["parameters"]["amplitude"] > 0:
        result["slope_below"] = slope_below(points.above(log["window"][0]), log)
    return result


def fit_models(
    points: Points, spectrum: Mapping[str, Any] | None, n_latent: int | None, n_modes: int
) -> dict[str, dict[str, Any]]:
    """Fit every form in its own window: {name: {critical_variance, ci95, aicc, parameters, window, n_points, reason}}.

    The AICc of forms with different windows are not comparable.
    """
    lower = 0.0
    if spectrum is not None and n_latent is not None:
        lower = theory.ppca_exact_above(spectrum["eigenvalues"], n_latent)
    models = {"cascade": _fit_cascade(points.above(lower), n_modes, spectrum)}
    single = _single_mode_edge(spectrum, models["cascade"])
    for name, profile in (("log", forms.log_profile), ("piecewise_quadratic", forms.piecewise_quadratic_profile)):
        if single is None:
            models[name] = _left_out("no spectrum and no second eigenvalue in the cascade to place the window")
            continue
        window = points.above(single)
        models[name] = _fit_form(window, profile(window), N_PARAMETERS[name])
    return models


def checked_points(sweep: pd.DataFrame) -> Points:
    """Abscissae beta * sigma2, KL and weights of a sweep table, in ascending order; raises InputError as `fit` does."""
    for column in COLUMNS:
        if column not in sweep.columns:
            raise InputError(f"sweep: column '{column}' is missing (found: {', '.join(map(str, sweep.columns))})")
    if sweep.empty:
        raise InputError("sweep: has no rows")
    for column in ("sigma2", "beta", "kl", "active_dims"):
        values = _numbers(sweep, column)
        positive = column in ("sigma2", "beta")
        bad = ~(np.isfinite(values) & ((values > 0) | (not positive)))
        if bad.any():
            row = int(np.argmax(bad))
            wanted = "a positive number" if positive else "a finite number"
            raise InputError(f"sweep: column '{column}', row {row + 1}: {values[row]}, must be {wanted}")
    repeated = sweep.duplicated(["sigma2", "beta", "seed"])
    if repeated.any():
        row = sweep[repeated].iloc[0]
        raise InputError(
            f"sweep: sigma2={row['sigma2']}, beta={row['beta']}, seed={row['seed']:g} stands in it twice, "
            "must be one row a point"
        )
    x, kl = _numbers(sweep, "sigma2") * _numbers(sweep, "beta"), _numbers(sweep, "kl")
    order = np.argsort(x, kind="stable")
    return Points(x[order], kl[order], 1.0 / (SD_ABSOLUTE + SD_RELATIVE * np.abs(kl[order])))


def looks_gaussian(spectrum: Mapping[str, Any]) -> bool:
    """Whether no leading principal component has |skewness| or |excess kurtosis| beyond 0.1 and 4 standard errors.

    The standard errors are those of Gaussian samples, sqrt(6 / N) and sqrt(24 / N). Moments that are not
    recorded count as Gaussian.
    """
    n_samples = spectrum.get("n_samples") or np.inf
    for key, variance in (("skewness", 6.0), ("excess_kurtosis", 24.0)):
        moments = np.asarray(spectrum.get(key) or [], dtype=float)
        if np.any(np.abs(moments) > max(0.1, 4 * np.sqrt(variance / n_samples))):
            return False
    return True


def _fit_cascade(points: Points, n_modes: int, spectrum: Mapping[str, Any] | None) -> dict[str, Any]:
    """Fit the cascade of 1, 2, ... modes with the smallest AICc, giving up after two that are worse."""
    n_distinct = np.unique(points.x).size
    if n_distinct < MIN_POINTS:
        return _left_out(f"{n_distinct} values of beta * sigma2 where the pPCA curve is exact, needs {MIN_POINTS}")
    predicted = [] if spectrum is None else np.maximum(spectrum["eigenvalues"], points.x.min())
    lowest, starts, worse = np.inf, [], 0
    for m in range(1, min(n_modes, n_distinct - 3) + 1):
        guesses = [predicted[:m]] if len(predicted) >= m else []
        free = forms.cascade_start(points, m, guesses)
        criterion = aicc(free.chi2, points.x.size, m + 1)
        worse = 0 if criterion < lowest else worse + 1
        if not starts or criterion < lowest:
            lowest, starts = criterion, [free.parameters["eigenvalues"], *guesses]
        if worse == 2:
            break
    n_modes = len(starts[0])
    return _fit_form(points, forms.cascade_profile(points, n_modes, starts), n_modes + 1, n_coarse=24)


def _fit_form(points: Points, profile: Profile, n_parameters: int, n_coarse: int = 200) -> dict[str, Any]:
    """Best critical point of one form and its profile interval."""
    n, n_distinct = points.x.size, np.unique(points.x).size
    if n_distinct < n_parameters + 1:
        return _left_out(f"{n_distinct} values of beta * sigma2 in the window, needs {n_parameters + 1}")
    if points.kl.max() < theory.ACTIVE_KL:
        return _left_out(f"all collapsed in the window: KL is below {theory.ACTIVE_KL} nats")
    low, high = points.x.min(), points.x.max()
    solutions = minimise(profile, low, high, n_coarse)
    best = min(solutions.values(), key=lambda solution: solution.chi2)
    c = min(solutions, key=lambda value: solutions[value].chi2)
    if c == max(solutions):
        return _left_out(f"no point beyond the transition: the largest beta * sigma2 is {high:.6g}")
    criterion = aicc(best.chi2, n, n_parameters)
    ci95 = interval(lambda value: profile(value).chi2, solutions, best.chi2, n - n_parameters)
    return {
        "critical_variance": c,
        "ci95": ci95,
        "aicc": criterion if np.isfinite(criterion) else None,
        "parameters": best.parameters,
        "window": [float(low), float(high)],
        "n_points": int(n),
        "reason": None,
    }


def _undetermined(points: Points) -> str | None:
    """Why the points cannot hold a transition between them, or None."""
    distinct = np.unique(points.x)
    if distinct.size < MIN_POINTS:
        return f"{distinct.size} values of beta * sigma2, needs {MIN_POINTS}"
    means = [points.kl[points.x == x].mean() for x in distinct]
    if max(means) < theory.ACTIVE_KL:
        return f"all collapsed: KL is below {theory.ACTIVE_KL} nats at every point"
    if min(means) > COLLAPSED_KL:
        return f"none collapsed: KL is above {COLLAPSED_KL} nats at every point, no point is beyond the transition"
    return None


def _predicted(spectrum: Mapping[str, Any] | None) -> dict[str, float | None]:
    if spectrum is None:
        return {"critical_variance": None, "slope_below": None}
    if "eigenvalues" not in spectrum:
        raise InputError("spectrum: key 'eigenvalues' is missing")
    eigenvalues = spectrum["eigenvalues"]
    return {
        "critical_variance": theory.critical_variance(eigenvalues),
        "slope_below": theory.kl_slope_below(eigenvalues),
    }


def _single_mode_edge(spectrum: Mapping[str, Any] | None, cascade: Mapping[str, Any]) -> float | None:
    """Lower edge of the window in which one mode is active: lambda_2, measured or fitted."""
    eigenvalues = (cascade["parameters"] or {}).get("eigenvalues", []) if spectrum is None else spectrum["eigenvalues"]
    return float(eigenvalues[1]) if len(eigenvalues) > 1 else None


def _default_model(models: Mapping[str, Any], spectrum: Mapping[str, Any] | None) -> tuple[str, str]:
    """The form that speaks for the sweep, and why."""
    usable = [name for name in forms.NAMES if models[name]["critical_variance"] is not None]
    if not usable:
        return "cascade", "no form can be fitted"
    gaussian = spectrum is None or looks_gaussian(spectrum)
    if gaussian and "cascade" in usable:
        return "cascade", "the data look Gaussian" if spectrum is not None else "no spectrum is given"
    if not gaussian and "log" in usable:
        return "log", "the leading components are not Gaussian: the cascade's amplitude 1/2 is not theirs"
    return usable[0], "the form that suits the data has too few points in its window"


def _left_out(reason: str) -> dict[str, Any]:
    return {
        "critical_variance": None,
        "ci95": None,
        "aicc": None,
        "parameters": None,
        "window": None,
        "n_points": None,
        "reason": reason,
    }


def _numbers(sweep: pd.DataFrame, column: str) -> NDArray:
    try:
        return sweep[column].to_numpy(dtype=float)
    except (TypeError, ValueError):
        raise InputError(f"sweep: column '{column}' holds {sweep[column].dtype}, must be numbers") from None
