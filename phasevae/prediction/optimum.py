"""The optimum that training converges to, and the KL weight at which each latent dies, for a loss and a spectrum."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from phasevae.datasets.feature_statistics import FeatureStatistics
from phasevae.datasets.reading import Reading
from phasevae.likelihoods.kinks import LARGEST_SPREAD
from phasevae.prediction.kl_term import USUAL_KL, KlTerm, kl_and_error_of_modes, thresholds_of_modes
from phasevae.prediction.losses import LEARNED, PER_FEATURE, Loss
from phasevae.spectrum.spectrum import Spectrum
from phasevae.theory import factor_analysis
from phasevae.theory.inputs import leading_eigenvalues
from phasevae.theory.learned_variance import learned_threshold, learned_variance
from phasevae.theory.limited_encoder import FREE, EncoderLimits
from phasevae.theory.ppca import NO_VARIANCE, effective_variance, is_active
from phasevae.wording import counted, plain, with_error


@dataclass(frozen=True)
class PredictionWarning:
    """A reason why the prediction is less than exact, or the result less than expected."""

    code: str
    message: str


@dataclass(frozen=True)
class Setting:
    """The loss, the model and the data of a prediction.

    `spectrum` is in units of the decoder: squared units of the data; relative to p (1 - p) for a Bernoulli decoder;
    relative to each feature's variance for one learned variance per feature; for other losses the spectrum is that of
    the scores in units of the curvature, and its eigenvalues are weights of KL.
    """

    loss: Loss
    n_latent: int
    kl_weight: float
    spectrum: Spectrum
    features: FeatureStatistics | None = field(default=None, repr=False)  # None if only the spectrum is known
    variances: NDArray | None = field(default=None, repr=False)  # [D] of the features, in squared units of the data
    correlation: NDArray | None = field(
        default=None, repr=False
    )  # [D, D] of the features that vary, for one learned variance per feature
    collapsed_loss: float | None = None  # reconstruction loss of the best constant output, in the units of the loss
    n_features: int | None = None  # of the data, where the spectrum is that of another number of scores
    kinked: bool = False  # whether the curvature is a finite difference
    kink_range: tuple[float, float] | None = None  # critical weights over its widths, relative to the predicted one
    limits: EncoderLimits = FREE
    kl_term: KlTerm = USUAL_KL
    reading: Reading | None = None  # what was read; None in a spectrum of an older version
    notes: tuple[PredictionWarning, ...] = ()  # warnings from the measurement of the data

    @property
    def threshold_factor(self) -> float:
        """The effective variance at which the last latent dies, in units of the largest eigenvalue."""
        return self.limits.threshold_factor / float(self.kl_term.weights(self.n_latent)[0])

    @property
    def weights(self) -> tuple[float, float]:
        """Weights of the summed error and of the summed KL."""
        return self.loss.weights(self.kl_weight, self.spectrum.dimension, self.n_latent)


@dataclass(frozen=True)
class Threshold:
    """Where a latent dies. Latents are numbered from 1 by descending eigenvalue."""

    latents: int  # the number of this latent, and of those that live just below the threshold
    variance: float  # effective variance at which it dies
    kl_weight: float  # KL weight at which it dies
    keeps: tuple[float, float]  # KL weights that keep exactly this many latents


@dataclass(frozen=True, repr=False)
class Optimum:
    """The state that training converges to.

    KL is in nats per sample, that of Gaussian data with the same eigenvalues. Where a few samples carry a component of
    an active latent (`phasevae.prediction.few_rows`), such as an outlier, it is far too much and no estimate: JSON has
    None then. Variances and errors are in the units of `Setting.spectrum`. With one learned variance per
    feature, however, `mse` is in squared units of the data. `mse` is summed over features.
    """

    setting: Setting
    effective_variance: float
    critical_variance: float
    verdict: str  # collapsed | partial | active
    active_dims: int
    kl: float
    kl_per_dim: NDArray  # [n_latent], descending
    mse: float
    thresholds: list[Threshold]

    @property
    def critical_kl_weight(self) -> float:
        """The KL weight at and above which every latent is collapsed."""
        return self.thresholds[0].kl_weight

    @property
    def critical_kl_weight_range(self) -> tuple[float, float] | None:
        """The critical KL weights over all widths of a loss with kinks; None for other losses."""
        factors = self.setting.kink_range
        return None if factors is None else tuple(factor * self.critical_kl_weight for factor in factors)

    @property
    def undecided(self) -> tuple[float, float]:
        """The factors of the critical weights between which the criterion does not decide; 1 and 1 if it decides."""
        low, high = self.setting.kink_range or (1.0, 1.0)
        return (low, high) if high > LARGEST_SPREAD * low else (1.0, 1.0)

    @property
    def active_range(self) -> tuple[int, int]:
        """The fewest and the most latents that live, where the criterion does not decide."""
        low, high = self.undecided
        if low == high:
            return self.active_dims, self.active_dims
        weights = np.array([threshold.kl_weight for threshold in self.thresholds])
        return int((self.setting.kl_weight < low * weights).sum()), int((self.setting.kl_weight < high * weights).sum())

    @property
    def relative_errors(self) -> NDArray:
        """Standard errors of the thresholds, relative to them; NaN where they are not known."""
        spectrum, n = self.setting.spectrum, len(self.thresholds)
        known = spectrum.standard_errors[:n] / spectrum.eigenvalues[:n]
        return np.append(known, np.full(n - known.size, np.nan))

    def __repr__(self) -> str:
        critical = with_error(self.critical_kl_weight, self.relative_errors[0] * self.critical_kl_weight)
        return (
            f"<{type(self).__name__}: {self.active_dims} of {counted(self.setting.n_latent, 'latent')} active, "
            f"KL {plain(self.kl)} nats, critical KL weight {critical}>"
        )


def find_optimum(setting: Setting) -> Optimum:
    """Return the optimum for a complete setting."""
    effective, per_dim, mse = kl_and_error(setting)
    active = int((per_dim > 0).sum())
    return Optimum(
        setting=setting,
        effective_variance=effective,
        critical_variance=setting.spectrum.critical_variance * setting.threshold_factor,
        verdict="collapsed" if active == 0 else "active" if active == setting.n_latent else "partial",
        active_dims=active,
        kl=float(per_dim.sum()),
        kl_per_dim=per_dim,
        mse=mse,
        thresholds=_thresholds(setting),
    )


def kl_and_error(setting: Setting) -> tuple[float, NDArray, float]:
    """Return the effective variance, the KL of each latent [n_latent] in nats, and the expected squared error."""
    spectrum, n = setting.spectrum, setting.n_latent
    if setting.loss.decoder == PER_FEATURE:
        weight = setting.weights[1]
        factors = factor_analysis.fit(setting.correlation, n, weight)
        lam, per_dim = factors.eigenvalues, np.zeros(n)
        per_dim[: lam.size] = np.where(is_active(lam, weight), 0.5 * np.log(lam / weight), 0)
        varying = setting.variances[setting.variances > 0]
        per_dim = per_dim if factors.bounded else np.where(per_dim > 0, np.inf, 0)
        return weight, per_dim, float(factors.variances @ varying)
    s = _effective_variance(setting)
    lam = spectrum.eigenvalues
    if s == 0:
        return s, np.where(np.arange(n) < lam.size, np.inf, 0.0), float(spectrum.trace - lam[:n].sum())
    kl, error = kl_and_error_of_modes(leading_eigenvalues(lam, n), s, setting.limits, setting.kl_term)
    return s, kl, float(error.sum() + max(0.0, spectrum.trace - lam[:n].sum()))


def _effective_variance(setting: Setting) -> float:
    spectrum = setting.spectrum
    if setting.loss.decoder == LEARNED:
        return learned_variance(
            spectrum.eigenvalues, setting.n_latent, setting.weights[1], spectrum.trace, spectrum.dimension
        )
    return effective_variance(*setting.weights)


def _thresholds(setting: Setting) -> list[Threshold]:
    """Return the threshold of each latent that some KL weight keeps."""
    spectrum, n = setting.spectrum, setting.n_latent
    lam = spectrum.eigenvalues[:n]
    lam = lam[lam > NO_VARIANCE * lam[0]]
    if setting.loss.decoder == LEARNED:
        weights = [
            learned_threshold(spectrum.eigenvalues, j, n, spectrum.trace, spectrum.dimension) / setting.loss.kl_unit
            for j in range(1, len(lam) + 1)
        ]
    elif setting.loss.decoder == PER_FEATURE:
        # In units of the learned variances the variance at which a latent dies is the weight itself.
        lam = factor_analysis.thresholds(setting.correlation, n, min(setting.weights[1], lam[-1])).tolist()
        weights = [value / setting.loss.kl_unit for value in lam]
    else:
        lam = thresholds_of_modes(lam, setting.limits, setting.kl_term)
        weights = [setting.loss.kl_weight_of(value, spectrum.dimension, n) for value in lam]
    lower = [*weights[1:], 0.0]
    return [
        Threshold(j, float(value), float(weight), (float(low), float(weight)))
        for j, (value, weight, low) in enumerate(zip(lam, weights, lower, strict=True), start=1)
    ]
