"""Where the posterior collapses: piecewise fits of KL(beta * sigma2) with intervals of the critical point.

All critical variances, slopes and windows are in units of the abscissa x = beta * sigma2, on which alone the
optimum depends; with beta = 1 that is the decoder variance itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from phasevae.analysis.kl_fit.bootstrap import derivative_bands, seed_bootstrap
from phasevae.analysis.kl_fit.fit import fit_models, inside_window, most_modes, single_mode_edge, weighted_points
from phasevae.analysis.kl_fit.forms import NAMES, SINGLE_MODE
from phasevae.analysis.kl_fit.profile_likelihood import slope_below
from phasevae.analysis.sweep_table import by_seed, checked_points, undetermined
from phasevae.errors import InputError
from phasevae.theory.ppca import critical_variance, kl_slope_below

if TYPE_CHECKING:
    import pandas as pd
from phasevae.spectrum.spectrum import looks_gaussian

CI_METHOD = (
    "profile likelihood over seed means: chi2(c) <= chi2_min + max(chi2_min / dof F(1, dof; 0.95), 3.84), "
    "widened to the bootstrap over seeds where that is wider"
)


def fit_critical_point(
    sweep: pd.DataFrame,
    spectrum: Mapping[str, Any] | None = None,
    n_latent: int | None = None,
    model: str | None = None,
    window: tuple[float, float] | None = None,
) -> dict[str, Any]:
    """Fit the critical point and the slope of KL below it; returns the content of fit.json.

    `sweep` has the columns sigma2, beta, seed, kl (nats) and active_dims, one row a trained point; `spectrum` is
    the content of spectrum.json. With the spectrum and `n_latent` the cascade leaves out the points at which pPCA
    is only a bound. Without a spectrum the single-mode window starts at the cascade's own second eigenvalue.
    `model` and `window` (lowest and highest x of the single-mode forms) override what the data suggest, at the
    price of ``warnings``. A transition that the points cannot locate gives ``critical_variance`` None and a
    ``reason``.

    Raises InputError for missing columns, undefined or non-positive values and repeated points, and for a `model`
    that does not exist or a `window` that is empty.
    """
    if model is not None and model not in NAMES:
        raise InputError(f"model: {model!r}, must be one of {', '.join(NAMES)}")
    points = checked_points(sweep)
    if window is not None and not np.any((points.x >= window[0]) & (points.x <= window[1])):
        raise InputError(
            f"window: {window[0]:g} to {window[1]:g} holds no point, the sweep's are at "
            f"{points.x.min():g} to {points.x.max():g}"
        )
    result: dict[str, Any] = {
        "critical_variance": None,
        "ci95": None,
        "ci_method": CI_METHOD,
        "bootstrap": None,
        "model": None,
        "models": {},
        "spread": None,
        "slope_below": {"value": None, "ci95": None},
        "slope_jump": {"value": None, "ci95": None, "predicted": None, "agrees": None},
        "derivatives": None,
        "predicted": _predicted(spectrum),
        "window": None,
        "n_points": int(points.count.sum()),
        "n_seeds": int(sweep["seed"].nunique()),
        "abscissa": "beta * sigma2",
        "warnings": [],
        "reason": undetermined(points),
    }
    if result["reason"]:
        return result
    n_modes = most_modes(sweep, n_latent)
    points = weighted_points(sweep, spectrum, n_latent)
    models = fit_models(points, spectrum, n_latent, n_modes, window)
    name, why = (model, "asked for") if model else _default_model(models, spectrum)
    chosen = models[name]
    result |= {
        "critical_variance": chosen["critical_variance"],
        "ci95": chosen["ci95"],
        "model": name,
        "model_reason": why,
        "models": models,
        "spread": _spread(models),
        "window": chosen["window"],
        "warnings": _warnings(name, models, spectrum),
        "reason": chosen["reason"],
    }
    if chosen["critical_variance"] is not None:
        inside = inside_window(points, chosen["window"])
        result["bootstrap"] = seed_bootstrap(inside, by_seed(sweep, inside.x), name, chosen)
        result["ci95"] = _hull(chosen["ci95"], result["bootstrap"]["ci95"])
        misfit = max(chosen["chi2"] / max(chosen["dof"], 1), 1.0) ** 0.5
        result["derivatives"] = derivative_bands(inside, name, chosen, misfit)
    log = models["log"]
    if log["parameters"] and log["parameters"]["amplitude"] > 0:
        result["slope_below"] = slope_below(inside_window(points, log["window"]), log)
        result["slope_jump"] = _slope_jump(result["slope_below"], result["predicted"])
    return result


def _spread(models: Mapping[str, Any]) -> dict[str, Any] | None:
    """Akaike-weighted mean and standard deviation of the critical point over the single-mode forms."""
    weighed = [models[name] for name in SINGLE_MODE if models[name]["weight"] is not None]
    if not weighed:
        return None
    c, weight = (np.array([model[key] for model in weighed]) for key in ("critical_variance", "weight"))
    mean = float(weight @ c)
    return {"mean": mean, "sd": float(np.sqrt(weight @ (c - mean) ** 2)), "range": [float(c.min()), float(c.max())]}


def _warnings(name: str, models: Mapping[str, Any], spectrum: Mapping[str, Any] | None) -> list[str]:
    """What is known to mislead in the fits that were made."""
    found = []
    edge = single_mode_edge(spectrum, models["cascade"])
    log = models["log"]
    if log["window"] and edge is not None and log["window"][0] < edge * (1 - 1e-9):
        found.append(
            f"window: begins at {log['window'][0]:.6g}, below the second eigenvalue {edge:.6g}; one hinge across "
            "several eigenvalues is drawn to a point between them"
        )
    if name == "cascade" and spectrum is not None and not looks_gaussian(spectrum):
        found.append("cascade: the leading components are not Gaussian, its amplitude 1/2 is not theirs")
    power = models["power"]["parameters"]
    if power and (models["power"]["weight"] or 0) > 10 * (log["weight"] or 0) and power["exponent"] > 1.5:
        found.append(
            f"power: exponent {power['exponent']:.2f} is favoured; a power above 1 is what several hinges look like"
        )
    return found


def _predicted(spectrum: Mapping[str, Any] | None) -> dict[str, float | None]:
    if spectrum is None:
        return {"critical_variance": None, "slope_below": None}
    if "eigenvalues" not in spectrum:
        raise InputError("spectrum: key 'eigenvalues' is missing")
    eigenvalues = spectrum["eigenvalues"]
    return {
        "critical_variance": critical_variance(eigenvalues),
        "slope_below": kl_slope_below(eigenvalues),
    }


def _slope_jump(slope: Mapping[str, Any], predicted: Mapping[str, Any]) -> dict[str, Any]:
    """The jump of dKL/dx upwards through the transition: minus the slope below, as that above is zero."""
    jump = None if predicted["slope_below"] is None else -predicted["slope_below"]
    low, high = (None if edge is None else -edge for edge in reversed(slope["ci95"]))
    agrees = None if jump is None else bool((low is None or low <= jump) and (high is None or jump <= high))
    return {"value": -slope["value"], "ci95": [low, high], "predicted": jump, "agrees": agrees}


def _default_model(models: Mapping[str, Any], spectrum: Mapping[str, Any] | None) -> tuple[str, str]:
    """The form that speaks for the sweep, and why."""
    usable = [name for name in NAMES if models[name]["critical_variance"] is not None]
    if not usable:
        return "cascade", "no form can be fitted"
    gaussian = spectrum is None or looks_gaussian(spectrum)
    if gaussian and "cascade" in usable:
        return "cascade", "the data look Gaussian" if spectrum is not None else "no spectrum is given"
    if not gaussian and "log" in usable:
        return "log", "the leading components are not Gaussian: the cascade's amplitude 1/2 is not theirs"
    return usable[0], "the form that suits the data has too few points in its window"


def _hull(profile: list[float | None], bootstrap: list[float] | None) -> list[float | None]:
    """The wider of the two intervals on each side; an open side stays open."""
    if bootstrap is None:
        return profile
    low, high = profile
    return [None if low is None else min(low, bootstrap[0]), None if high is None else max(high, bootstrap[1])]
