"""The optimum that training would converge to, and where each latent dies, for a loss and a spectrum."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from phasevae.datasets.feature_statistics import FeatureStatistics
from phasevae.prediction.losses import LEARNED, PER_FEATURE, Loss
from phasevae.spectrum.spectrum import Spectrum
from phasevae.theory import factor_analysis
from phasevae.theory.ppca import learned_threshold, learned_variance, ppca_kl_per_dim, ppca_mse


@dataclass(frozen=True)
class Setting:
    """What a prediction is made from. `spectrum` is in units of the decoder: squared units of the data, of p (1 - p)
    for a Bernoulli decoder, of each feature's variance for one learned variance a feature."""

    convention: Loss
    n_latent: int
    kl_weight: float
    spectrum: Spectrum
    features: FeatureStatistics | None = None  # None if only the spectrum is known
    variances: NDArray | None = None  # of each feature, in squared units of the data
    correlation: NDArray | None = None  # for one learned variance a feature


@dataclass(frozen=True)
class Threshold:
    """Where latent number `latents` (by descending eigenvalue) dies, and the KL weights that keep exactly so many."""

    latents: int
    variance: float
    kl_weight: float
    keeps: tuple[float, float]


@dataclass(frozen=True)
class Optimum:
    """What training would converge to.

    KL is in nats per sample. Variances and errors are in the units of `Setting.spectrum`, except that with learned
    variances `mse` is in squared units of the data. `mse` is summed over features.
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
        """The weight of KL at and above which every latent is collapsed."""
        return self.thresholds[0].kl_weight


def find_optimum(setting: Setting) -> Optimum:
    """The optimum for a complete setting."""
    effective, per_dim, mse = kl_and_error(setting)
    active = int((per_dim > 0).sum())
    return Optimum(
        setting=setting,
        effective_variance=effective,
        critical_variance=setting.spectrum.critical_variance,
        verdict="collapsed" if active == 0 else "active" if active == setting.n_latent else "partial",
        active_dims=active,
        kl=float(per_dim.sum()),
        kl_per_dim=per_dim,
        mse=mse,
        thresholds=_thresholds(setting),
    )


def kl_and_error(setting: Setting) -> tuple[float, NDArray, float]:
    """Effective variance, KL of each latent [n_latent] in nats, and expected squared error."""
    spectrum, n, weight = setting.spectrum, setting.n_latent, setting.kl_weight
    if setting.convention.decoder == PER_FEATURE:
        fitted = factor_analysis.fit(setting.correlation, n, weight)
        per_dim = np.zeros(n)
        per_dim[: fitted.eigenvalues.size] = 0.5 * np.log(np.maximum(fitted.eigenvalues / weight, 1))
        kept = setting.variances[setting.variances > 0]
        return weight, per_dim if fitted.bounded else np.where(per_dim > 0, np.inf, 0), float(fitted.variances @ kept)
    s = _effective_variance(setting)
    lam = spectrum.eigenvalues
    if s == 0:
        return s, np.where(np.arange(n) < lam.size, np.inf, 0.0), float(spectrum.trace - lam[:n].sum())
    beyond = max(0.0, spectrum.trace - lam.sum())  # eigenvalues that were not computed
    return s, ppca_kl_per_dim(lam, s, n), float(ppca_mse(lam, s, n)) + beyond


def _effective_variance(setting: Setting) -> float:
    spectrum = setting.spectrum
    if setting.convention.decoder == LEARNED:
        return learned_variance(
            spectrum.eigenvalues, setting.n_latent, setting.kl_weight, spectrum.trace, spectrum.dimension
        )
    return setting.convention.effective_variance(setting.kl_weight, spectrum.dimension, setting.n_latent)


def _thresholds(setting: Setting) -> list[Threshold]:
    """One for each latent that some KL weight keeps."""
    spectrum, n = setting.spectrum, setting.n_latent
    lam = spectrum.eigenvalues[:n]
    lam = lam[lam > 1e-12 * lam[0]]
    if setting.convention.decoder == LEARNED:
        weights = [
            learned_threshold(spectrum.eigenvalues, j, n, spectrum.trace, spectrum.dimension)
            for j in range(1, len(lam) + 1)
        ]
    elif setting.convention.decoder == PER_FEATURE:
        # In units of the learned variances the variance at which a latent dies is the weight itself.
        lam = weights = factor_analysis.thresholds(setting.correlation, n, min(setting.kl_weight, lam[-1])).tolist()
    else:
        weights = [setting.convention.kl_weight_of(value, spectrum.dimension, n) for value in lam]
    lower = [*weights[1:], 0.0]
    return [
        Threshold(j, float(value), float(weight), (float(low), float(weight)))
        for j, (value, weight, low) in enumerate(zip(lam, weights, lower, strict=True), start=1)
    ]
