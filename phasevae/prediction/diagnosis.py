"""What a prediction's reader should know besides the numbers: warnings with codes, and what to change."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from phasevae.prediction.losses import BERNOULLI, FIXED, LEARNED, PER_FEATURE
from phasevae.prediction.optimum import Optimum, Setting, kl_and_error
from phasevae.spectrum.variance_proxy import COEXISTENCE_RATIO
from phasevae.theory.ppca import learned_threshold, learned_variance, ppca_active_dims

if TYPE_CHECKING:
    from phasevae.datasets.feature_statistics import FeatureStatistics


MEAN_VARIANCE = 0.5, 2.0
"""Standardised features have a mean variance near 1."""

SCALES = 10.0
"""No feature on a common scale has a standard deviation this many times the median one."""

SKEWNESS, EXCESS_KURTOSIS = 0.5, 2.0
"""Beyond these along the first component the closed forms of Gaussian data are rough, and the transition may be of
first order (docs/theory.md)."""

RELATIVE_ERROR = 0.05
FEW_SAMPLES = 50
"""Fewer tell no kurtosis (that of two samples is always -2): their error is at least that of Gaussian data."""

BINARY_SHARE = 0.99
BYTES = 127, 255
"""Largest values of pixels as they are stored."""


@dataclass(frozen=True)
class PredictionWarning:
    """Something by which the prediction is less than exact, or the result less than wanted."""

    code: str
    message: str


def warnings(optimum: Optimum) -> list[PredictionWarning]:
    """All that apply, in the order of `CHECKS`."""
    found = ((code, check(optimum)) for code, check in CHECKS.items())
    return [PredictionWarning(code, message) for code, message in found if message is not None]


def advice(optimum: Optimum) -> list[str]:
    """What the numbers mean for this loss, and what to change, in sentences."""
    lines = [_convention_line(optimum), _verdict_line(optimum), *_remedies(optimum), _learned_line(optimum)]
    return [line for line in lines if line]


def _not_standardised(optimum: Optimum) -> str | None:
    setting = optimum.setting
    if setting.variances is None or setting.convention.decoder != FIXED:
        return None
    varying = setting.variances[setting.variances > 0]
    mean, ratio = float(varying.mean()), float(np.sqrt(varying.max() / np.median(varying)))
    if ratio > SCALES:
        return (
            f"one feature has {ratio:.3g} times the standard deviation of the median one: the largest features decide "
            f"alone which latents live; scale the features unless their units are meant to count"
        )
    if not MEAN_VARIANCE[0] <= mean <= MEAN_VARIANCE[1]:
        return (
            f"the features' mean variance is {mean:.3g}, not near 1: a decoder variance or KL weight chosen for "
            f"standardised data stands for {1 / mean:.3g} times as much here{_bytes(setting.features)}"
        )
    return None


def _bytes(features: FeatureStatistics) -> str:
    """A word on data that look like pixels which training divides by 255."""
    low, high = features.low.min(), features.high.max()
    told = f" (values from {low:g} to {high:g}: is that how they are fed, or divided by 255?)"
    return told if low >= 0 and BYTES[0] < high <= BYTES[1] else ""


def _constant_features(optimum: Optimum) -> str | None:
    features = optimum.setting.features
    if features is None or not (constant := int(features.constant.sum())):
        return None
    return (
        f"{constant} of {features.low.size} features are constant: no latent can carry them, but a loss averaged over "
        f"features counts them"
    )


def _non_gaussian(optimum: Optimum) -> str | None:
    spectrum = optimum.setting.spectrum
    skewness, kurtosis = float(spectrum.skewness[0]), float(spectrum.excess_kurtosis[0])
    gaussian = abs(skewness) <= SKEWNESS and kurtosis <= EXCESS_KURTOSIS
    known = math.isfinite(skewness) and math.isfinite(kurtosis)
    if gaussian or not known or optimum.setting.convention.decoder == BERNOULLI:
        return None
    return (
        f"the first component has skewness {skewness:.2f} and excess kurtosis {kurtosis:.2f}: the collapsed state "
        f"still loses its stability at the predicted value, but KL and error below it are those of Gaussian data"
    )


def _first_order(optimum: Optimum) -> str | None:
    spectrum = optimum.setting.spectrum
    if spectrum.variance_proxy is None or not spectrum.variance_proxy > COEXISTENCE_RATIO * spectrum.critical_variance:
        return None
    return (
        f"an active state may survive up to an effective variance of {spectrum.variance_proxy:.4g}, "
        f"{spectrum.variance_proxy / spectrum.critical_variance:.3g} times the predicted critical one: collapse may "
        f"come later than predicted and all at once"
    )


def _few_latents(optimum: Optimum) -> str | None:
    """Directions above the effective variance that no latent carries."""
    setting = optimum.setting
    lam, n = setting.spectrum.eigenvalues, setting.n_latent
    above = int((lam > optimum.effective_variance).sum())
    if above <= n or optimum.active_dims < n:
        return None
    known = "at least " if above == lam.size < setting.spectrum.dimension else ""
    return (
        f"{known}{above} directions of the data exceed the effective variance, with {n} latents to carry them: a "
        f"nonlinear decoder can use more information than predicted"
    )


def _sampling_error(optimum: Optimum) -> str | None:
    spectrum = optimum.setting.spectrum
    error, critical = float(spectrum.standard_errors[0]), optimum.critical_variance
    if spectrum.n_samples < FEW_SAMPLES:
        error = max(error, critical * math.sqrt(2 / spectrum.n_samples))
    close = abs(optimum.effective_variance - critical) < 2 * error
    if not error > RELATIVE_ERROR * critical and not close:
        return None
    reason = "and the effective variance is within two of it" if close else f"{100 * error / critical:.0f} % of it"
    return (
        f"{spectrum.n_samples} samples give the largest eigenvalue {critical:.4g} a standard error of {error:.2g}, "
        f"{reason}: other samples of the same source may collapse elsewhere"
    )


def _not_binary(optimum: Optimum) -> str | None:
    setting = optimum.setting
    if setting.convention.decoder != BERNOULLI or setting.features.share_binary >= BINARY_SHARE:
        return None
    return (
        f"{100 * (1 - setting.features.share_binary):.0f} % of the values are neither 0 nor 1: cross entropy gives "
        f"them the noise p (1 - p) of binary ones, more than they have, so that latents die at smaller KL weights"
    )


def _unbounded(optimum: Optimum) -> str | None:
    if math.isfinite(optimum.kl):
        return None
    return (
        "with this many latents the learned variance can shrink to zero: the likelihood has no bound, and KL grows "
        "until training stops or a lower limit of the variance holds"
    )


CHECKS: dict[str, Callable[[Optimum], str | None]] = {
    "not-standardised": _not_standardised,
    "constant-features": _constant_features,
    "non-gaussian": _non_gaussian,
    "first-order": _first_order,
    "few-latents": _few_latents,
    "sampling-error": _sampling_error,
    "not-binary": _not_binary,
    "unbounded": _unbounded,
}
"""By code, what gives the message of a warning where it applies."""


def _convention_line(optimum: Optimum) -> str:
    """How the loss comes to its effective variance."""
    setting = optimum.setting
    convention, d, n, w = setting.convention, setting.spectrum.dimension, setting.n_latent, setting.kl_weight
    value = f"{optimum.effective_variance:.4g}"
    ratio = f"{optimum.effective_variance / optimum.critical_variance:.3g} x the critical one"
    averaged = f" averages over {d} features and" if convention.mean_over_features else ""
    if convention.decoder == BERNOULLI:
        unit = "in units of the Bernoulli variance p (1 - p)"
        order = "KL and error are to second order about collapse"
        return f"Your loss{averaged} has the effective variance {value} {unit}, {ratio}; {order}."
    if convention.decoder == LEARNED:
        settled = f"{optimum.effective_variance / w:.4g}"
        return (
            f"The learned variance settles at {settled}, with the KL weight an effective variance of {value}, {ratio}."
        )
    if convention.decoder == PER_FEATURE:
        return (
            f"Each feature learns its variance; in its unit the effective variance is the KL weight, {value}, {ratio}."
        )
    if convention.mean_over_features:
        over = f"over {d} features" + (f" and KL over {n} latents" if convention.mean_over_latents else "")
        return f"Your loss averages {over}: the KL weight {w:g} is an effective variance of {value}, {ratio}."
    return f"The effective variance is {value}, {ratio}."


def _verdict_line(optimum: Optimum) -> str:
    n, k = optimum.setting.n_latent, optimum.active_dims
    if optimum.verdict == "collapsed":
        return "Every latent collapses: the decoder will give the mean of the data whatever the latents are."
    kl = optimum.kl
    amount = f", {kl:.3g} nats ({kl / math.log(2):.3g} bits) in all" if math.isfinite(kl) else ""
    return f"{'All' if k == n else k} of {n} latents carry information{amount}."


def _remedies(optimum: Optimum) -> list[str]:
    thresholds, weight = optimum.thresholds, optimum.setting.kl_weight
    kept = len(thresholds)
    lines = []
    if optimum.verdict == "collapsed":
        lines.append(f"A KL weight below {thresholds[0].kl_weight:.4g} keeps one latent ({weight:g} now).")
    if optimum.active_dims < kept:
        lines.append(f"A KL weight below {thresholds[-1].kl_weight:.4g} keeps {'all ' if kept > 1 else ''}{kept}.")
    if optimum.setting.n_latent > kept:
        lines.append(f"Only {kept} directions of the data vary: more latents than that cannot live.")
    if optimum.verdict == "partial" and optimum.active_dims < kept:
        lines.append(f"With this loss {optimum.active_dims} latents would do as well as {optimum.setting.n_latent}.")
    if optimum.verdict == "active" and math.isfinite(optimum.kl):
        first, last = f"{thresholds[-1].kl_weight:.4g}", f"{thresholds[0].kl_weight:.4g}"
        lines.append(f"The first latent dies at a KL weight of {first}, the last at {last}.")
    if optimum.verdict == "collapsed" and optimum.setting.convention.mean_over_features:
        lines.append(_summed_line(optimum.setting))
    if optimum.verdict == "collapsed":
        lines.append("Annealing does not help by itself: the KL weight at its end decides.")
    return lines


def _summed_line(setting: Setting) -> str:
    """What sums instead of averages would do at the same weight."""
    summed = replace(setting.convention, mean_over_features=False, mean_over_latents=False)
    effective, per_dim, _ = kl_and_error(replace(setting, convention=summed))
    both = ", and KL over latents," if setting.convention.mean_over_latents else ""
    return (
        f"Or sum the reconstruction loss over features{both} instead of averaging: the KL weight {setting.kl_weight:g} "
        f"is then an effective variance of {effective:.4g} and keeps {int((per_dim > 0).sum())} of {setting.n_latent}."
    )


def _learned_line(optimum: Optimum) -> str:
    """What a learned decoder variance would do to the same data."""
    setting: Setting = optimum.setting
    if setting.convention.decoder != FIXED:
        return ""
    spectrum, n = setting.spectrum, setting.n_latent
    args = spectrum.trace, spectrum.dimension
    critical = learned_threshold(spectrum.eigenvalues, 1, n, *args)
    s = learned_variance(spectrum.eigenvalues, n, 1.0, *args)
    if s == 0:
        return "A learned decoder variance would shrink to zero with this many latents: its likelihood has no bound."
    k = int(ppca_active_dims(spectrum.eigenvalues, s, n))
    return (
        f"A learned decoder variance (KL weight 1) would settle at {s:.4g} with {k} of {n} latents active, as the KL "
        f"weight {setting.convention.kl_weight_of(s, spectrum.dimension, n):.4g} does in your loss; it would collapse "
        f"from a KL weight of {critical:.4g}."
    )
