"""Fits of every form of KL(x), each to the points of its own window."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from phasevae.analysis.grid_advice import Known, points_wanted, wanted_above, wanted_beyond
from phasevae.analysis.kl_fit.cascade import cascade_profile, cascade_start
from phasevae.analysis.kl_fit.forms import N_PARAMETERS, SINGLE_MODE, Profile, form_profile
from phasevae.analysis.kl_fit.profile_likelihood import aicc, minimise, profile_interval
from phasevae.analysis.records import Interval
from phasevae.analysis.sweep_table import COLLAPSED_KL, MIN_POINTS, Points, SweptQuantity, sweep_points, weighted
from phasevae.errors import InputError
from phasevae.theory.conditional import exact_above, thresholds
from phasevae.theory.ppca import ACTIVE_KL

if TYPE_CHECKING:
    import pandas as pd

    from phasevae.spectrum.spectrum import Spectrum


MAX_MODES = 12
"""One curve never resolves more eigenvalues than this."""

SURE = 0.999
"""A curve shows a transition if it describes the points better than a constant KL with this confidence."""


@dataclass(frozen=True)
class FormFit:
    """One form fitted to the points of its window; all None, with the `reason`, if that is not possible."""

    critical_variance: float | None = None  # as beta * sigma2
    ci95: Interval | None = None
    aicc: float | None = None
    weight: float | None = None  # Akaike weight among the single-mode forms, which share their window
    parameters: dict[str, Any] | None = None  # by the names of `kl_fit.forms`
    window: list[float] | None = None  # lowest and highest x
    n_points: int | None = None  # trained models
    chi2: float | None = None
    dof: int | None = None
    reason: str | None = None
    advice: str | None = None  # which points to add or window to choose, if that would help


def fit_models(
    points: Points,
    spectrum: Spectrum | None,
    n_latent: int | None,
    n_modes: int,
    window: tuple[float, float] | None = None,
) -> dict[str, FormFit]:
    """Fit every form in its own window.

    Parameters
    ----------
    points
        Means over seeds, weighted.
    spectrum
        Spectrum of the data, which places the windows; without it the fitted cascade does.
    n_latent
        Number of latents; with the spectrum, leaves out of the cascade the points where pPCA is only a bound.
    n_modes
        Most eigenvalues of the cascade.
    window
        Lowest and highest x of the single-mode forms, instead of the automatic window.

    Returns
    -------
    dict
        Fits by the names of the forms. The cascade has no Akaike weight, as its AICc is that of other points.
    """
    if spectrum is not None and spectrum.conditions:
        models = {"cascade": FormFit(reason="the data have classes, whose modes have other amplitudes than 1/2")}
    else:
        models = {"cascade": _fit_cascade(Known(points, spectrum), _exact_above(spectrum, n_latent), n_modes)}
    known = Known(points, spectrum, has_window=window is not None)
    edge = second_eigenvalue(spectrum, models["cascade"])
    for name in SINGLE_MODE:
        if window is None and edge is None:
            models[name] = FormFit(reason="no spectrum and no second eigenvalue in the cascade to place the window")
            continue
        inside = inside_window(points, window or (edge, np.inf))
        if window is not None and inside.kl.min() > COLLAPSED_KL:
            reason = f"none collapsed in the window: KL is above {COLLAPSED_KL} nats at every point"
            models[name] = FormFit(reason=reason, advice=points_wanted(known, inside))
            continue
        models[name] = fit_form(inside, form_profile(name, inside), N_PARAMETERS[name], known=known)
    criteria = {name: models[name].aicc for name in SINGLE_MODE if models[name].aicc is not None}
    likelihood = {name: np.exp((min(criteria.values()) - value) / 2) for name, value in criteria.items()}
    for name, value in likelihood.items():
        models[name] = replace(models[name], weight=float(value / sum(likelihood.values())))
    return models


def weighted_points(
    sweep: pd.DataFrame, spectrum: Spectrum | None, n_latent: int | None, swept: SweptQuantity | None = None
) -> Points:
    """Return means over seeds with the weights that all fits use.

    A first cascade, good to a percent, says which points suffer from slow relaxation.

    Parameters
    ----------
    sweep
        Sweep table.
    spectrum
        Spectrum of the data, if known.
    n_latent
        Number of latents, if known.
    swept
        See `fit_critical_point`.
    """
    points = sweep_points(sweep, swept)
    if spectrum is not None and spectrum.conditions:
        return weighted(points, spectrum.critical_variance)
    starts = _free_cascade(points.above(_exact_above(spectrum, n_latent)), most_modes(sweep, n_latent), spectrum)
    return weighted(points, starts[0][0] if starts else None)


def most_modes(sweep: pd.DataFrame, n_latent: int | None) -> int:
    """Return the most eigenvalues that the cascade may have: no more than latents that were ever active."""
    return max(1, int(min(sweep["active_dims"].max(), n_latent or np.inf, MAX_MODES)))


def _fit_cascade(known: Known, lowest: float, n_modes: int) -> FormFit:
    """Fit the cascade to the points from the lowest abscissa where the pPCA curve is exact."""
    points = known.points.above(lowest)
    starts = _free_cascade(points, n_modes, known.spectrum)
    if not starts:
        few = points.swept.counted(points.x.size)
        reason = f"{few} where the pPCA curve is exact, needs {MIN_POINTS}"
        return FormFit(reason=reason, advice=wanted_above(known, lowest))
    n_modes = len(starts[0])
    return fit_form(points, cascade_profile(points, n_modes, starts), n_modes + 1, n_coarse=24, known=known)


def _free_cascade(points: Points, n_modes: int, spectrum: Spectrum | None) -> list[list[float]]:
    """Eigenvalues of the cascade of 1, 2, ... modes with the smallest AIC (the noise level is known), giving up
    after two that are worse, and those of the spectrum as a further start; none with too few points."""
    if points.x.size < MIN_POINTS:
        return []
    predicted = [] if spectrum is None or spectrum.is_bound else np.maximum(spectrum.eigenvalues, points.x.min())
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


def fit_form(
    points: Points, profile: Profile, n_parameters: int, n_coarse: int = 200, known: Known | None = None
) -> FormFit:
    """Fit the critical point of one form, with its profile-likelihood interval.

    Parameters
    ----------
    points
        Points of the form's window.
    profile
        Best fits of the form's other parameters at given critical points.
    n_parameters
        Number of parameters, the critical point included.
    n_coarse
        Critical points on the first grid of the search.
    known
        What advice rests on; by default the points alone.
    """
    n, known = points.x.size, known or Known(points)
    if n < n_parameters + 1:
        reason = f"{points.swept.counted(n)} in the window, needs {n_parameters + 1}"
        return FormFit(reason=reason, advice=points_wanted(known, points))
    if points.kl.max() < ACTIVE_KL:
        reason = f"all collapsed in the window: KL is below {ACTIVE_KL} nats"
        return FormFit(reason=reason, advice=points_wanted(known, points))
    low, high = points.x.min(), points.x.max()
    fits = minimise(profile, low, high, n_coarse)
    c, parameters = fits.best()
    if c == fits.c.max():
        reason = f"the best fit has its transition at the largest {points.swept.name}"
        return FormFit(reason=reason, advice=wanted_beyond(known, points))
    chi2, dof = float(fits.chi2.min()), n - n_parameters
    if not _beats_constant(points, chi2, dof, n_parameters):
        return FormFit(reason="a constant KL describes the points as well", advice=points_wanted(known, points))
    criterion = aicc(chi2, int(points.count.sum()), n_parameters)
    return FormFit(
        critical_variance=c,
        ci95=profile_interval(profile, fits, dof),
        aicc=criterion if np.isfinite(criterion) else None,
        parameters=parameters,
        window=[float(low), float(high)],
        n_points=int(points.count.sum()),
        chi2=chi2,
        dof=dof,
    )


def _beats_constant(points: Points, chi2: float, dof: int, n_parameters: int) -> bool:
    """Whether a fit is surely better than its floor alone, at the noise level of its residuals or of the weights,
    whichever is larger."""
    from scipy.stats import chi2 as distribution

    weight = points.weight**2
    floor = max(float(weight @ points.kl / weight.sum()), 0.0)
    gain = float(weight @ (points.kl - floor) ** 2) - chi2
    return gain > max(chi2 / dof, 1.0) * distribution.ppf(SURE, n_parameters - 1)


def _exact_above(spectrum: Spectrum | None, n_latent: int | None) -> float:
    unknown = spectrum is None or spectrum.is_bound or n_latent is None
    return 0.0 if unknown else exact_above(spectrum.modes, n_latent)


def second_eigenvalue(spectrum: Spectrum | None, cascade: FormFit) -> float | None:
    """Return the x below which a second mode is active: the second threshold of the spectrum, of all classes, else that
    of the fitted cascade.

    If the encoder does not see the condition it is at most the least critical point, that of a linear encoder.
    """
    if spectrum is not None and (spectrum.conditions or spectrum.is_bound):
        eigenvalues = thresholds(spectrum.modes, spectrum.dimension)
    else:
        eigenvalues = (cascade.parameters or {}).get("eigenvalues", []) if spectrum is None else spectrum.eigenvalues
    if len(eigenvalues) < 2:
        return None
    is_bound = spectrum is not None and spectrum.is_bound and spectrum.unaware_variance is not None
    return float(min(eigenvalues[1], spectrum.unaware_variance) if is_bound else eigenvalues[1])


def check_window(window: Any, points: Points, abscissa: str) -> None:
    """Raise InputError for a window that is no pair of ascending numbers, or that holds no point.

    Parameters
    ----------
    window : anything
    points : Points
    abscissa : str
        What messages call x.
    """
    x = points.x
    try:
        low, high = map(float, window)
    except (TypeError, ValueError, OverflowError):
        low = high = math.nan
    if isinstance(window, str | dict) or not low < high:
        raise InputError(f"window: {window!r}, must be two numbers, the lowest and the highest {abscissa}")
    if not np.any((x >= low) & (x <= high)):
        raise InputError(
            f"window: {low:g} to {high:g} holds no point, the sweep's are at {abscissa} = {x.min():g} to {x.max():g}"
        )


def inside_window(points: Points, window: tuple[float, float] | list[float]) -> Points:
    """Return the points from the window's lowest to its highest x."""
    return points.select((points.x >= window[0]) & (points.x <= window[1]))
