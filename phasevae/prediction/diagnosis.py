"""Warnings: why a prediction may be less than exact, and why training may not give what the user expects."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from phasevae.prediction.few_rows import outlier
from phasevae.prediction.losses import BERNOULLI, FIXED, OWN, SCORES
from phasevae.prediction.optimum import Optimum, PredictionWarning, Setting
from phasevae.prediction.rough_kl import rough_kl
from phasevae.spectrum.sampling_bias import bias_warning
from phasevae.spectrum.spectrum import gaussian_scatter
from phasevae.spectrum.variance_proxy import COEXISTENCE_RATIO
from phasevae.theory.limited_encoder import FREE
from phasevae.theory.ppca import is_active
from phasevae.wording import counted

if TYPE_CHECKING:
    from phasevae.datasets.feature_statistics import FeatureStatistics
    from phasevae.spectrum.spectrum import Spectrum

MEAN_VARIANCE = 0.5, 2.0
"""Standardised features have a mean variance near 1."""

SCALES = 10.0
"""No feature on a common scale has a standard deviation this many times the median one."""

ROUGH_SKEWNESS, ROUGH_EXCESS_KURTOSIS = 0.5, 2.0
"""Beyond these along the first component the closed forms of Gaussian data are rough, and the transition may be of
first order (docs/theory/collapse.md)."""

RELATIVE_ERROR = 0.05
"""Standard error of the largest eigenvalue, relative to it, from which on it counts as uncertain."""

BINARY_SHARE = 0.99
"""Values count as binary when this part of them is 0 or 1."""

FAR_FROM_ZERO = 50.0
"""A step of Adam at rate r moves each unit of the first layer by up to r |m|_1 in all samples alike, m the mean. At
|m|_1 |m|_2 / sqrt(trace) = 30 trainings lost a tenth of KL, from 90 on a fifth and more (docs/research/uncentred.md).
"""

MEAN_ERRORS = 2.0
"""The mean of centred data has about the norm of its standard error, sqrt(trace / N), and not this many times it."""

OF_COUNTS = ("categorical", "multinomial", "negative-binomial", "poisson", "zinb")
"""Families of likelihoods of symbols and counts, which encoders see embedded, as logarithms or as shares."""

FIRST_WEIGHT = 0.1
"""Weight of KL, in units of the critical one, at which a training should start."""

BYTES = 127, 255
"""The largest value of pixels that are stored as bytes is between these."""


def warnings(optimum: Optimum) -> list[PredictionWarning]:
    """Return all that apply: about the samples, those of the measurement, then the others in the order of `CHECKS`."""
    messages = ((code, check(optimum)) for code, check in CHECKS.items())
    found = [PredictionWarning(code, message) for code, message in messages if message is not None]
    reading = optimum.setting.reading
    concerns = {} if reading is None else reading.concerns()
    return [*(PredictionWarning(*concern) for concern in concerns.items()), *optimum.setting.notes, *found]


def closed_forms_are_rough(spectrum: Spectrum) -> bool:
    """Whether the first component is so far from Gaussian that KL and error of Gaussian data are rough for it.

    It must be so beyond the scatter of the moments of Gaussian samples, which alone `spectrum.looks_gaussian` asks for.
    Unknown moments (NaN) do not count as rough.
    """
    skewness, kurtosis = float(spectrum.skewness[0]), float(spectrum.excess_kurtosis[0])
    if not (math.isfinite(skewness) and math.isfinite(kurtosis)):
        return False
    of_skewness, of_kurtosis = gaussian_scatter(spectrum.n_samples)
    return abs(skewness) > max(ROUGH_SKEWNESS, of_skewness) or kurtosis > max(ROUGH_EXCESS_KURTOSIS, of_kurtosis)


def _conditional(optimum: Optimum) -> str | None:
    conditions = optimum.setting.loss.conditions
    if not conditions:
        return None
    return (
        f"the networks of this loss can be given {conditions} as well: the prediction is for a model without them; "
        f"with them the decoder knows more, and latents usually die at smaller KL weights (an estimate: use each "
        f"sample less the mean of its condition as data)"
    )


def _kinks(optimum: Optimum) -> str | None:
    setting = optimum.setting
    if not setting.kinked:
        return None
    if setting.kink_range is None:
        return "the loss has kinks and couples outputs: its best constant output and the critical weight are rough"
    low, high = optimum.undecided
    if low == high:
        return None
    first, last = (f"{weight:.3g}" for weight in optimum.critical_kl_weight_range)
    return (
        f"the loss has kinks, and the critical weight depends on how far the outputs of a network spread: from "
        f"{first} to {last}, which is {low:.3g} to {high:.3g} times the predicted one; within this range the criterion "
        f"does not decide; collapse may be abrupt, and an active state may live above it (compare trainings that start "
        f"alive with trainings that start collapsed)"
    )


def _not_standardised(optimum: Optimum) -> str | None:
    setting = optimum.setting
    if setting.variances is None or setting.loss.decoder != FIXED:
        return None
    varying = setting.variances[setting.variances > 0]
    mean, ratio = float(varying.mean()), float(np.sqrt(varying.max() / np.median(varying)))
    if ratio > SCALES:
        return (
            f"one feature has {ratio:.3g} times the standard deviation of the median feature: the largest features "
            f"alone decide which latents live; scale the features unless their units are meant to count"
        )
    if setting.loss.name != OWN and not MEAN_VARIANCE[0] <= mean <= MEAN_VARIANCE[1]:
        return (
            f"the features' mean variance is {mean:.3g}, not near 1: a decoder variance or KL weight chosen for "
            f"standardised data is {1 / mean:.3g} times as strong here{_bytes(setting.features)}"
        )
    return None


def _bytes(features: FeatureStatistics) -> str:
    """Ask about data that look like pixels which training divides by 255."""
    low, high = features.low.min(), features.high.max()
    question = f" (values from {low:g} to {high:g}: is this how they are fed to the network, or divided by 255?)"
    return question if low >= 0 and BYTES[0] < high <= BYTES[1] else ""


def _not_centred(optimum: Optimum) -> str | None:
    setting = optimum.setting
    features = setting.features
    if features is None or setting.loss.family in OF_COUNTS:
        return None
    mean = features.mean
    norm, spread = float(np.linalg.norm(mean)), math.sqrt(_total_variance(setting))
    if not norm / spread * float(np.abs(mean).sum()) > FAR_FROM_ZERO:
        return None
    if norm < MEAN_ERRORS * spread / math.sqrt(features.n_samples):
        return None
    start = FIRST_WEIGHT * optimum.critical_kl_weight
    bias = {BERNOULLI: "the logits of the mean", SCORES: "its best constant output"}.get(
        setting.loss.decoder, "the mean"
    )
    return (
        f"the mean of the data has a norm of {norm:.3g}, and samples are {spread:.3g} from it, in {mean.size} "
        f"features: a step of training moves all samples alike, hidden layers saturate, and latents may die that the "
        f"optimum keeps; centre what the encoder sees, start the decoder's last bias at {bias}, and start the KL "
        f"weight at {start:.2g} ({FIRST_WEIGHT:g} of the critical one) or less; a lower learning rate is not enough"
    )


def _total_variance(setting: Setting) -> float:
    """Sum of the variances of the features, or the most that it can be with their least and largest values."""
    features = setting.features
    if setting.variances is not None:
        return float(setting.variances.sum())
    return float(((features.high - features.mean) * (features.mean - features.low)).sum())


def _constant_features(optimum: Optimum) -> str | None:
    features = optimum.setting.features
    # Scores have a note of their own, on outputs.
    of_scores = optimum.setting.loss.name == OWN and optimum.setting.loss.decoder == SCORES
    if features is None or of_scores or not (constant := int(features.constant.sum())):
        return None
    are = "is" if constant == 1 else "are"
    return (
        f"{constant} of {counted(features.low.size, 'feature')} {are} constant: no latent can carry them, but a loss "
        f"averaged over features counts them"
    )


def _non_gaussian(optimum: Optimum) -> str | None:
    spectrum = optimum.setting.spectrum
    if not closed_forms_are_rough(spectrum) or optimum.setting.loss.decoder == BERNOULLI:
        return None
    if optimum.setting.loss.decoder == SCORES:
        return (
            f"the first component of the scores has skewness {spectrum.skewness[0]:.2f} and excess kurtosis "
            f"{spectrum.excess_kurtosis[0]:.2f}: a latent that marks few samples with large scores may survive "
            f"somewhat above the critical weight, which is where the collapsed state becomes stable"
        )
    return (
        f"the first component has skewness {spectrum.skewness[0]:.2f} and excess kurtosis "
        f"{spectrum.excess_kurtosis[0]:.2f}: the collapsed state still loses its stability at the predicted value, but "
        f"the KL and error predicted below it are those of Gaussian data"
    )


def _first_order(optimum: Optimum) -> str | None:
    spectrum = optimum.setting.spectrum
    if (
        optimum.setting.limits != FREE
        or spectrum.variance_proxy is None
        or not spectrum.variance_proxy > COEXISTENCE_RATIO * spectrum.critical_variance
    ):
        return None
    return (
        f"an active state may survive up to an effective variance of {spectrum.variance_proxy:.4g}, "
        f"{spectrum.variance_proxy / spectrum.critical_variance:.3g} times the predicted critical one: collapse may "
        f"come later than predicted, and all at once"
    )


def _few_latents(optimum: Optimum) -> str | None:
    """Directions above the effective variance that no latent carries."""
    setting = optimum.setting
    lam, n = setting.spectrum.eigenvalues * setting.limits.threshold_factor, setting.n_latent
    above = int(is_active(lam, optimum.effective_variance).sum())
    if above <= n or optimum.active_dims < n:
        return None
    at_least = "at least " if above == lam.size < setting.spectrum.dimension else ""
    return (
        f"{at_least}{above} directions of the data exceed the effective variance, with {counted(n, 'latent')} to carry "
        f"them: a nonlinear decoder can use more information than predicted"
    )


def _sampling_error(optimum: Optimum) -> str | None:
    spectrum = optimum.setting.spectrum
    error = float(spectrum.standard_errors[0]) * optimum.setting.threshold_factor
    critical = optimum.critical_variance
    close = abs(optimum.effective_variance - critical) < 2 * error
    if not error > RELATIVE_ERROR * critical and not close:
        return None
    near = "and the effective variance is within two standard errors of it"
    reason = near if close else f"{100 * error / critical:.0f} % of it"
    return (
        f"{spectrum.n_samples} samples give the largest eigenvalue {critical:.4g} a standard error of {error:.2g}, "
        f"{reason}: with other samples of the same source the critical value may differ"
    )


def _sampling_bias(optimum: Optimum) -> str | None:
    return bias_warning(optimum.setting.spectrum, optimum.setting.threshold_factor)


def _not_binary(optimum: Optimum) -> str | None:
    setting = optimum.setting
    if setting.loss.decoder != BERNOULLI or setting.features is None or setting.features.share_binary >= BINARY_SHARE:
        return None
    return (
        f"{100 * (1 - setting.features.share_binary):.0f} % of the values are neither 0 nor 1: cross entropy "
        f"assumes the noise p (1 - p) of binary values, more than these have, so that latents die at smaller KL weights"
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
    "not-centred": _not_centred,
    "constant-features": _constant_features,
    "outlier": outlier,
    "non-gaussian": _non_gaussian,
    "rough-kl": rough_kl,
    "kinks": _kinks,
    "conditional": _conditional,
    "first-order": _first_order,
    "few-latents": _few_latents,
    "sampling-error": _sampling_error,
    "sampling-bias": _sampling_bias,
    "not-binary": _not_binary,
    "unbounded": _unbounded,
}
"""For each code, the function that returns the message where the warning applies."""

NOTES = (
    "constant-outputs",
    "duplicates",
    "encoder-input",
    "kl-term",
    "rounding",
    "schedule",
    "spectrum",
    "trainable-loss",
)
"""Codes of the warnings that come with the samples (`Reading.concerns`), the measurement of a loss or a schedule."""
