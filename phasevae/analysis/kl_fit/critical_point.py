"""Where the posterior collapses: piecewise fits of KL(beta * sigma2) with intervals of the critical point.

All critical variances, slopes and windows are in units of the abscissa x = beta * sigma2, on which alone the
optimum depends; with beta = 1 that is the decoder variance itself, and with sigma2 = 1 the weight of KL.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from phasevae.analysis.grid_advice import Known, open_interval, points_wanted, undetermined
from phasevae.analysis.kl_fit.bootstrap import Derivatives, SeedBootstrap, derivative_bands, seed_bootstrap
from phasevae.analysis.kl_fit.fit import (
    FormFit,
    check_window,
    fit_models,
    inside_window,
    most_modes,
    second_eigenvalue,
    weighted_points,
)
from phasevae.analysis.kl_fit.forms import NAMES, SINGLE_MODE
from phasevae.analysis.kl_fit.profile_likelihood import slope_below
from phasevae.analysis.records import Estimate, FittedVariance, Interval
from phasevae.analysis.sweep_table import (
    BETA_SIGMA2,
    SweptQuantity,
    abscissa_name,
    kl_by_seed,
    spectrum_of_sweep,
    sweep_points,
)
from phasevae.errors import no_such_choice
from phasevae.spectrum.spectrum import Spectrum, looks_gaussian
from phasevae.sweeps.settings import GAUSSIAN
from phasevae.theory.conditional import kl_slope_below

if TYPE_CHECKING:
    import pandas as pd

CI_METHOD = (
    "profile likelihood over seed means: chi2(c) <= chi2_min + max(chi2_min / dof F(1, dof; 0.95), 3.84), "
    "widened to the bootstrap over seeds where that is wider"
)


@dataclass(frozen=True)
class Spread:
    """Critical points of the single-mode forms: Akaike-weighted mean and standard deviation, lowest and highest."""

    mean: float
    sd: float
    range: list[float]


@dataclass(frozen=True)
class SlopeJump(Estimate):
    """The jump of dKL/dx upwards through the transition, and whether its interval holds the predicted jump."""

    predicted: float | None = None
    agrees: bool | None = None


@dataclass(frozen=True)
class Predicted:
    """What the spectrum of the data predicts (Eq. 26); None without a spectrum.

    Where the encoder does not see the condition of the data, the critical variance of an encoder that sees it is an
    upper bound, `unaware_variance`, the threshold of a linear encoder, is a lower one, and no slope is predicted.
    """

    critical_variance: float | None = None
    slope_below: float | None = None
    unaware_variance: float | None = None
    is_upper_bound: bool = False  # of critical_variance


@dataclass(frozen=True, kw_only=True)
class CriticalPoint(FittedVariance):
    """The fitted critical variance of a sweep, None with the `reason` where no form can be fitted."""

    critical_variance: float | None = None
    ci95: Interval | None = None
    ci_method: str = CI_METHOD
    bootstrap: SeedBootstrap | None = None
    model: str | None = None  # the form that gives the critical variance
    models: dict[str, FormFit] = field(default_factory=dict)
    spread: Spread | None = None
    slope_below: Estimate = field(default_factory=Estimate)  # free amplitude, single-mode window
    slope_jump: SlopeJump = field(default_factory=SlopeJump)
    derivatives: Derivatives | None = None
    predicted: Predicted = field(default_factory=Predicted)
    window: list[float] | None = None
    n_points: int  # trained models
    n_seeds: int
    abscissa: str = BETA_SIGMA2
    swept: SweptQuantity | None = None  # what was varied; None in a file of an earlier version
    likelihood: str = GAUSSIAN
    warnings: list[str] = field(default_factory=list)
    reason: str | None = None
    advice: str | None = None  # which points to add or window to choose, if that would determine a critical variance
    model_reason: str | None = None

    @property
    def varied(self) -> SweptQuantity:
        """The quantity in which text gives an abscissa of the sweep."""
        return self.swept or SweptQuantity(self.abscissa)


def fit_critical_point(
    sweep: pd.DataFrame,
    spectrum: Spectrum | None = None,
    n_latent: int | None = None,
    model: str | None = None,
    window: tuple[float, float] | None = None,
    swept: SweptQuantity | None = None,
) -> CriticalPoint:
    """Fit the critical point and the slope of KL below it.

    Parameters
    ----------
    sweep
        Table with the columns sigma2, beta, seed, kl (nats) and active_dims, one row per trained model.
    spectrum
        Spectrum of the data; without it the single-mode window starts at the cascade's own second eigenvalue.
    n_latent
        Number of latents; with the spectrum, leaves out of the cascade the points where pPCA is only a bound.
    model
        Form that gives the critical variance, instead of the form that suits the data.
    window
        Lowest and highest x of the single-mode forms, instead of the window that suits the data.
    swept
        The quantity that was varied, for the advice; by default the column that varies.

    Raises
    ------
    InputError
        For an unknown `model`, and for a `window` that is none or holds no point.
    """
    if model is not None and model not in NAMES:
        raise no_such_choice("model", model, NAMES)
    spectrum, points = spectrum_of_sweep(spectrum, sweep), sweep_points(sweep, swept)
    if window is not None:
        check_window(window, points, abscissa_name(sweep))
    reason, advice = undetermined(Known(points, spectrum)) or (None, None)
    result = replace(not_fitted(sweep, reason, spectrum, advice), swept=points.swept)
    if result.reason:
        return result
    n_modes = most_modes(sweep, n_latent)
    points = weighted_points(sweep, spectrum, n_latent, swept)
    models = fit_models(points, spectrum, n_latent, n_modes, window)
    name, why = (model, "asked for") if model else _default_model(models, spectrum)
    chosen = models[name]
    result = replace(
        result,
        critical_variance=chosen.critical_variance,
        ci95=chosen.ci95,
        model=name,
        models=models,
        spread=_spread(models),
        window=chosen.window,
        warnings=_warnings(name, models, spectrum, window, result.abscissa),
        reason=chosen.reason,
        advice=chosen.advice,
        model_reason=why,
    )
    if chosen.critical_variance is not None:
        inside = inside_window(points, chosen.window)
        bootstrap = seed_bootstrap(inside, kl_by_seed(sweep, inside.x), name, chosen)
        misfit = max(chosen.chi2 / max(chosen.dof, 1), 1.0) ** 0.5
        derivatives = derivative_bands(inside, name, chosen, misfit)
        ci95 = _hull(chosen.ci95, bootstrap.ci95)
        result = replace(result, ci95=ci95, bootstrap=bootstrap, derivatives=derivatives)
        if None in ci95:
            advice = points_wanted(Known(points, spectrum, has_window=window is not None), inside)
            result = replace(result, advice=advice)
        if result.is_open:
            result = replace(result, warnings=[open_interval(advice), *result.warnings])
    log = models["log"]
    if log.parameters and log.parameters["amplitude"] > 0:
        slope = slope_below(inside_window(points, log.window), log.parameters, log.ci95)
        result = replace(result, slope_below=slope, slope_jump=_slope_jump(slope, result.predicted))
    return result


def not_fitted(
    sweep: pd.DataFrame, reason: str | None, spectrum: Spectrum | None = None, advice: str | None = None
) -> CriticalPoint:
    """Return what is known of a sweep without a fit.

    Parameters
    ----------
    sweep
        Sweep table.
    reason
        Why no fit is made.
    spectrum
        Spectrum of the data, for the prediction.
    advice
        What would give a fit.
    """
    return CriticalPoint(
        predicted=_predicted(spectrum),
        n_points=len(sweep),
        n_seeds=int(sweep["seed"].nunique()),
        abscissa=abscissa_name(sweep),
        likelihood=sweep["likelihood"].iloc[0] if "likelihood" in sweep else GAUSSIAN,
        reason=reason,
        advice=advice,
    )


def _spread(models: Mapping[str, FormFit]) -> Spread | None:
    fits = [models[name] for name in SINGLE_MODE if models[name].weight is not None]
    if not fits:
        return None
    c, weight = np.array([fit.critical_variance for fit in fits]), np.array([fit.weight for fit in fits])
    mean = float(weight @ c)
    return Spread(mean, float(np.sqrt(weight @ (c - mean) ** 2)), [float(c.min()), float(c.max())])


def _warnings(
    name: str,
    models: Mapping[str, FormFit],
    spectrum: Spectrum | None,
    window: tuple[float, float] | None,
    abscissa: str,
) -> list[str]:
    """What is known to mislead in the fits."""
    warnings = []
    if name == "cascade" and window is not None:
        warnings.append(
            "window: has no effect on the cascade, whose fit gives the critical variance; choose a form with one mode, "
            'such as model="log" (--model log)'
        )
    edge = second_eigenvalue(spectrum, models["cascade"])
    log, power = models["log"], models["power"]
    if log.window and edge is not None and log.window[0] < edge * (1 - 1e-9):
        warnings.append(
            f"window: begins at {abscissa} = {log.window[0]:.6g}, below the second eigenvalue {edge:.6g}; one hinge "
            "across several eigenvalues is drawn to a point between them"
        )
    if name == "cascade" and spectrum is not None and not looks_gaussian(spectrum):
        warnings.append("cascade: the leading components are not Gaussian, its amplitude 1/2 is not theirs")
    exponent = (power.parameters or {}).get("exponent", 0.0)
    if (power.weight or 0) > 10 * (log.weight or 0) and exponent > 1.5 and not _has_kinks(spectrum):
        warnings.append(f"power: exponent {exponent:.2f} is favoured; a power above 1 is what several hinges look like")
    return warnings


def _predicted(spectrum: Spectrum | None) -> Predicted:
    if spectrum is None:
        return Predicted()
    if spectrum.is_bound:
        return Predicted(spectrum.critical_variance, unaware_variance=spectrum.unaware_variance, is_upper_bound=True)
    return Predicted(spectrum.critical_variance, kl_slope_below(spectrum.modes))


def _slope_jump(slope: Estimate, predicted: Predicted) -> SlopeJump:
    """Minus the slope below, as the slope above is zero."""
    jump = None if predicted.slope_below is None else -predicted.slope_below
    low, high = (None if edge is None else -edge for edge in reversed(slope.ci95))
    agrees = None if jump is None else bool((low is None or low <= jump) and (high is None or jump <= high))
    return SlopeJump(-slope.value, [low, high], jump, agrees)


def _default_model(models: Mapping[str, FormFit], spectrum: Spectrum | None) -> tuple[str, str]:
    """The form that gives the critical variance, and why."""
    usable = [name for name in NAMES if models[name].critical_variance is not None]
    if not usable:
        # Of data with classes there is no cascade, so it has no advice either.
        has_classes = spectrum is not None and spectrum.conditions
        return "log" if has_classes else "cascade", "no form can be fitted"
    if spectrum is not None and (spectrum.conditions or spectrum.is_bound) and "log" in usable:
        why = "the data have classes: the amplitude of a class is half its share, not the cascade's 1/2"
        return "log", "the encoder does not see the condition: amplitudes are not known" if spectrum.is_bound else why
    if _has_kinks(spectrum) and "power" in usable:
        return "power", "absolute errors: KL vanishes with about the square of the distance"
    gaussian = spectrum is None or looks_gaussian(spectrum)
    if gaussian and "cascade" in usable:
        return "cascade", "the data look Gaussian" if spectrum is not None else "no spectrum is given"
    if not gaussian and "log" in usable:
        return "log", "the leading components are not Gaussian: the cascade's amplitude 1/2 is not theirs"
    return usable[0], "the form that suits the data has too few points in its window"


def _has_kinks(spectrum: Spectrum | None) -> bool:
    """Whether the reconstruction term is an absolute error, whose mean is smooth in the data's density alone."""
    return spectrum is not None and spectrum.likelihood is not None and spectrum.likelihood.name == "laplace"


def _hull(profile: Interval, bootstrap: Interval | None) -> Interval:
    """The wider of the two intervals on each side; an open side stays open."""
    if bootstrap is None:
        return profile
    low, high = profile
    return [None if low is None else min(low, bootstrap[0]), None if high is None else max(high, bootstrap[1])]
