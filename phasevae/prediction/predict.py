"""Will a VAE collapse on these data? The answer from their spectrum and the loss, without training."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phasevae.datasets.base import SampleStream
from phasevae.datasets.feature_statistics import FeatureStatistics, feature_statistics
from phasevae.datasets.streams import sample_stream
from phasevae.errors import InputError
from phasevae.prediction import diagnosis
from phasevae.prediction.losses import BERNOULLI, FIXED, LEARNED, PER_FEATURE, Loss, find_loss, fixed_variance_loss
from phasevae.prediction.optimum import Optimum, Setting, find_optimum
from phasevae.spectrum.moments import covariance_matrix
from phasevae.spectrum.spectrum import Spectrum, measure_spectrum

FULL_DIMENSION = 4096
"""Data of more features have only their leading eigenvalues computed."""

SPARE = 16
"""Eigenvalues beyond the latents that are computed then."""


@dataclass(frozen=True)
class Prediction(Optimum):
    """The optimum with what its reader should know besides: warnings, and advice in sentences."""

    warnings: list[diagnosis.PredictionWarning]
    advice: list[str]

    def at(self, kl_weight: float) -> Prediction:
        """The prediction for another weight of KL."""
        return prediction_of(replace(self.setting, kl_weight=_checked_weight("kl_weight", kl_weight)))

    def to_json(self) -> dict[str, Any]:
        """The keys of `phasevae predict --json`."""
        return {
            "effective_variance": self.effective_variance,
            "critical_variance": self.critical_variance,
            "verdict": self.verdict,
            "active_dims": self.active_dims,
            "kl": self.kl,
            "kl_per_dim": self.kl_per_dim,
            "mse": self.mse,
            "thresholds": [
                {"latents": t.latents, "variance": t.variance, "kl_weight": t.kl_weight, "keeps": list(t.keeps)}
                for t in self.thresholds
            ],
            "warnings": [{"code": w.code, "message": w.message} for w in self.warnings],
            "advice": self.advice,
        }


def predict(
    data: Any,
    n_latent: int,
    *,
    sigma2: float | None = None,
    beta: float | None = None,
    loss: str | None = None,
    library: str | None = None,
    kl_weight: float | None = None,
) -> Prediction:
    """Predict what a VAE with `n_latent` latents converges to on `data`, exactly as they are fed to the network.

    data: samples as `sample_stream` takes them, or their `Spectrum` (not for losses with cross entropy or one learned
    variance a feature, which need the samples, and without the warnings that need them).
    The loss is one of: `sigma2`, the variance of a Gaussian decoder; `beta`, the KL weight beside half the squared
    error; `loss`, a name of `losses.LOSSES`; `library`, a name of `losses.LIBRARIES`. `kl_weight` is the
    weight of KL in it (default 1, or the library's). `sigma2` and `beta` together are the paper's objective, and
    `loss="gaussian-nll"` with `sigma2` has its variance fixed instead of learned.
    Raises InputError for unusable data or options.
    """
    convention, weight = _chosen(sigma2, beta, loss, library, kl_weight)
    if isinstance(n_latent, bool) or not isinstance(n_latent, int | np.integer) or n_latent < 1:
        raise InputError(f"n_latent: {n_latent!r}, must be a whole number, 1 or more")
    if not isinstance(data, Spectrum):
        return prediction_of(_measured(sample_stream(data), convention, int(n_latent), weight))
    if convention.decoder in (BERNOULLI, PER_FEATURE):
        raise InputError(f"data: a spectrum, must be the samples for the loss {convention.name}")
    if data.eigenvalues.size < min(n_latent + 1, data.dimension):
        raise InputError(f"data: a spectrum of {data.eigenvalues.size} eigenvalues, must be at least {n_latent + 1}")
    return prediction_of(Setting(convention, int(n_latent), weight, data))


def prediction_of(setting: Setting) -> Prediction:
    """The prediction for a complete setting."""
    found = find_optimum(setting)
    return Prediction(**vars(found), warnings=diagnosis.warnings(found), advice=diagnosis.advice(found))


def _chosen(
    sigma2: float | None, beta: float | None, loss: str | None, library: str | None, kl_weight: float | None
) -> tuple[Loss, float]:
    """The convention and the weight of KL that the options mean."""
    if sum(option is not None for option in (loss, library)) + (sigma2 is not None or beta is not None) != 1 and not (
        loss == "gaussian-nll" and beta is None and library is None
    ):
        raise InputError("loss: give one of sigma2, beta, loss and library (sigma2 and beta go together)")
    if beta is not None and kl_weight is not None:
        raise InputError(f"kl_weight: {kl_weight}, must be left out beside beta, which is the weight of KL")
    if sigma2 is not None:
        convention = fixed_variance_loss(_checked_weight("sigma2", sigma2))
    else:
        convention = find_loss("half-sse", None) if beta is not None else find_loss(loss, library)
    weight = beta if beta is not None else kl_weight
    key = "beta" if beta is not None else "kl_weight"
    return convention, convention.kl_weight if weight is None else _checked_weight(key, weight)


def _checked_weight(key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not 0 < value < np.inf:
        raise InputError(f"{key}: {value!r}, must be a positive number")
    return float(value)


def _measured(rows: SampleStream, convention: Loss, n_latent: int, kl_weight: float) -> Setting:
    """The setting with the spectrum in the decoder's units."""
    found = feature_statistics(rows)
    top = None if rows.dimension <= FULL_DIMENSION else max(n_latent + SPARE, 32)
    if convention.decoder in (FIXED, LEARNED):
        measured = measure_spectrum(rows, top=top, found=found)
        return Setting(convention, n_latent, kl_weight, measured.spectrum, found, measured.variances)
    if convention.decoder == BERNOULLI:
        _check_probabilities(rows, found)
        variance = found.mean * (1 - found.mean)
        scaled, in_units = _scaled(rows, found, variance)
        # The variance proxy is that of a Gaussian decoder.
        measured = measure_spectrum(scaled, with_variance_proxy=False, top=top, found=in_units)
        return Setting(convention, n_latent, kl_weight, measured.spectrum, found, measured.variances * variance)
    if top is not None:
        raise InputError(
            f"{rows.label}: {rows.dimension} features, must be at most {FULL_DIMENSION} for the loss {convention.name} "
            f"(keep the most variable ones?)"
        )
    variance = np.diagonal(covariance_matrix(rows, found)).copy()
    variance[found.constant] = 0
    scaled, in_units = _scaled(rows, found, variance)
    measured = measure_spectrum(scaled, found=in_units)
    varies = variance > 0
    correlation = measured.covariance[np.ix_(varies, varies)]
    return Setting(convention, n_latent, kl_weight, measured.spectrum, found, variance, correlation)


def _scaled(rows: SampleStream, found: FeatureStatistics, variance: NDArray) -> tuple[SampleStream, FeatureStatistics]:
    """Rows in units of the square root of `variance` [D]; features of no variance become zero."""
    unit = np.where(variance > 0, 1 / np.sqrt(np.where(variance > 0, variance, 1)), 0.0)
    names = "origin", "shift", "low", "high"
    return rows.mapped(lambda block: block * unit), replace(found, **{n: getattr(found, n) * unit for n in names})


def _check_probabilities(rows: SampleStream, found: FeatureStatistics) -> None:
    low, high = found.low.min(), found.high.max()
    if low < 0 or high > 1:
        raise InputError(f"{rows.label}: values from {low:g} to {high:g}, must be within 0 and 1 for cross entropy")
