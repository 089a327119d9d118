"""Predict from the spectrum of the data and the loss whether a VAE will collapse, without training it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phasevae.datasets.base import SampleStream
from phasevae.datasets.feature_statistics import FeatureStatistics, feature_statistics
from phasevae.datasets.streams import sample_stream
from phasevae.errors import InputError
from phasevae.prediction import advice, diagnosis
from phasevae.prediction.losses import BERNOULLI, FIXED, LEARNED, PER_FEATURE, Loss, find_loss, fixed_variance_loss
from phasevae.prediction.optimum import Optimum, Setting, find_optimum
from phasevae.spectrum.moments import covariance_matrix
from phasevae.spectrum.spectrum import Spectrum, measure_spectrum

FULL_DIMENSION = 4096
"""For data with more features only the leading eigenvalues are computed."""

SPARE = 16
"""Eigenvalues that are then computed beyond the number of latents."""


@dataclass(frozen=True)
class Prediction(Optimum):
    """The optimum, explained: a headline with the verdict and what to change, warnings, and further advice."""

    headline: str
    warnings: list[diagnosis.PredictionWarning]
    advice: list[str]  # one sentence or two each, without the headline

    def at(self, kl_weight: float) -> Prediction:
        """Return the prediction for another weight of KL."""
        return prediction_of(replace(self.setting, kl_weight=_checked_weight("kl_weight", kl_weight)))

    def to_json(self) -> dict[str, Any]:
        """Return the keys of `phasevae predict --json`."""
        return {
            "headline": self.headline,
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
            "warnings": [{"code": warning.code, "message": warning.message} for warning in self.warnings],
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
    """Predict what a VAE converges to, without training it.

    Give exactly one description of the loss: `sigma2`, `beta`, `loss` or `library`. Two pairs are allowed: `sigma2` and
    `beta` together are the paper's objective, and `loss="gaussian-nll"` with `sigma2` has a fixed variance instead of a
    learned one.

    Parameters
    ----------
    data : samples [N, D], or Spectrum
        Exactly as they are fed to the network: an array, a table, a path, or anything else that `sample_stream` takes.
        A spectrum is not enough for cross entropy and for one learned variance per feature, and the warnings about
        single features are missing with it.
    n_latent : int
        Number of latents.
    sigma2 : float, optional
        Variance of a Gaussian decoder, in squared units of the data.
    beta : float, optional
        Weight of KL in a loss with half the squared error.
    loss : str, optional
        A name in `losses.LOSSES`.
    library : str, optional
        A name in `losses.LIBRARIES`.
    kl_weight : float, optional
        Weight of KL in the loss; 1 by default, or the default of the library. Not together with `beta`.

    Returns
    -------
    Prediction

    Raises
    ------
    InputError
        For data or options that cannot be used.
    """
    chosen, weight = _chosen_loss(sigma2, beta, loss, library, kl_weight)
    if isinstance(n_latent, bool) or not isinstance(n_latent, int | np.integer) or n_latent < 1:
        raise InputError(f"n_latent: {n_latent!r}, must be a whole number, 1 or more")
    if not isinstance(data, Spectrum):
        return prediction_of(_measured(sample_stream(data), chosen, int(n_latent), weight))
    if chosen.decoder in (BERNOULLI, PER_FEATURE):
        raise InputError(f"data: a spectrum, must be the samples for the loss {chosen.name}")
    if data.eigenvalues.size < min(n_latent + 1, data.dimension):
        raise InputError(f"data: a spectrum of {data.eigenvalues.size} eigenvalues, must be at least {n_latent + 1}")
    return prediction_of(Setting(chosen, int(n_latent), weight, data))


def prediction_of(setting: Setting) -> Prediction:
    """Return the prediction for a complete setting."""
    optimum = find_optimum(setting)
    return Prediction(
        **vars(optimum),
        headline=advice.headline(optimum),
        warnings=diagnosis.warnings(optimum),
        advice=advice.advice(optimum),
    )


def _chosen_loss(
    sigma2: float | None, beta: float | None, loss: str | None, library: str | None, kl_weight: float | None
) -> tuple[Loss, float]:
    """Return the loss and the weight of KL that the options describe."""
    if sum(option is not None for option in (loss, library)) + (sigma2 is not None or beta is not None) != 1 and not (
        loss == "gaussian-nll" and beta is None and library is None
    ):
        raise InputError("loss: give one of sigma2, beta, loss and library (sigma2 and beta go together)")
    if beta is not None and kl_weight is not None:
        raise InputError(f"kl_weight: {kl_weight}, must be left out together with beta, which is the weight of KL")
    if sigma2 is not None:
        chosen = fixed_variance_loss(_checked_weight("sigma2", sigma2))
    else:
        chosen = find_loss("half-sse", None) if beta is not None else find_loss(loss, library)
    weight = beta if beta is not None else kl_weight
    key = "beta" if beta is not None else "kl_weight"
    return chosen, chosen.kl_weight if weight is None else _checked_weight(key, weight)


def _checked_weight(key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not 0 < value < np.inf:
        raise InputError(f"{key}: {value!r}, must be a positive number")
    return float(value)


def _measured(rows: SampleStream, loss: Loss, n_latent: int, kl_weight: float) -> Setting:
    """Return the setting with the spectrum in the decoder's units."""
    features = feature_statistics(rows)
    top = None if rows.dimension <= FULL_DIMENSION else max(n_latent + SPARE, 32)
    if loss.decoder in (FIXED, LEARNED):
        measured = measure_spectrum(rows, top=top, features=features)
        return Setting(loss, n_latent, kl_weight, measured.spectrum, features, measured.variances)
    if loss.decoder == BERNOULLI:
        _check_probabilities(rows, features)
        variance = features.mean * (1 - features.mean)
        scaled, in_units = _scaled(rows, features, variance)
        # The variance proxy is that of a Gaussian decoder.
        measured = measure_spectrum(scaled, with_variance_proxy=False, top=top, features=in_units)
        return Setting(loss, n_latent, kl_weight, measured.spectrum, features, measured.variances * variance)
    if top is not None:
        raise InputError(
            f"{rows.label}: {rows.dimension} features, must be at most {FULL_DIMENSION} for the loss {loss.name} "
            f"(keep the most variable features?)"
        )
    variance = np.diagonal(covariance_matrix(rows, features)).copy()
    variance[features.constant] = 0
    scaled, in_units = _scaled(rows, features, variance)
    measured = measure_spectrum(scaled, features=in_units)
    varies = variance > 0
    correlation = measured.covariance[np.ix_(varies, varies)]
    return Setting(loss, n_latent, kl_weight, measured.spectrum, features, variance, correlation)


def _scaled(
    rows: SampleStream, features: FeatureStatistics, variance: NDArray
) -> tuple[SampleStream, FeatureStatistics]:
    """Return rows and statistics in units of the square root of `variance` [D]; features without variance become 0."""
    unit = np.where(variance > 0, 1 / np.sqrt(np.where(variance > 0, variance, 1)), 0.0)
    scaled = {name: getattr(features, name) * unit for name in ("origin", "shift", "low", "high")}
    return rows.mapped(lambda block: block * unit), replace(features, **scaled)


def _check_probabilities(rows: SampleStream, features: FeatureStatistics) -> None:
    low, high = features.low.min(), features.high.max()
    if low < 0 or high > 1:
        raise InputError(f"{rows.label}: values from {low:g} to {high:g}, must be within 0 and 1 for cross entropy")
