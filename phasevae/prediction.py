"""Will a VAE collapse on these data? The answer from their spectrum and the loss, without training."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phasevae import conventions, covariance, factor, theory
from phasevae import spectrum as spectra
from phasevae.conventions import BERNOULLI, FIXED, LEARNED, PER_FEATURE, Convention
from phasevae.covariance import Features
from phasevae.errors import InputError
from phasevae.rows import Rows, rows_of
from phasevae.spectrum import Spectrum

FULL_DIMENSION = 4096
"""Data of more features have only their leading eigenvalues computed."""
SPARE = 16
"""Eigenvalues beyond the latents that are computed then."""


@dataclass(frozen=True)
class Setting:
    """What a prediction is made from. `spectrum` is in units of the decoder: squared units of the data, of p (1 - p)
    for a Bernoulli decoder, of each feature's variance for one learned variance a feature."""

    convention: Convention
    n_latent: int
    kl_weight: float
    spectrum: Spectrum
    features: Features | None = None  # None if only the spectrum is known
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
class Warned:
    """Something by which the prediction is less than exact, or the result less than wanted."""

    code: str
    message: str


@dataclass(frozen=True)
class Prediction:
    """What training would converge to. KL in nats per sample; variances and errors in the units of `Setting.spectrum`,
    but for `mse` with learned variances, which is in squared units of the data, summed over features."""

    effective_variance: float
    critical_variance: float
    verdict: str  # collapsed | partial | active
    active_dims: int
    kl: float
    kl_per_dim: NDArray  # [n_latent], descending
    mse: float
    thresholds: list[Threshold]
    warnings: list[Warned]
    advice: list[str]
    setting: Setting

    def at(self, kl_weight: float) -> Prediction:
        """The prediction for another weight of KL."""
        return predicted(replace(self.setting, kl_weight=_checked_weight("kl_weight", kl_weight)))

    @property
    def critical_kl_weight(self) -> float:
        """The weight of KL from which on everything is collapsed."""
        return self.thresholds[0].kl_weight

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

    def to_html(self) -> str:
        """One self-contained page with figures."""
        from phasevae.report import page

        return page(self)


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

    data: samples as `rows.rows_of` takes them, or their `Spectrum` (not for losses with cross entropy or one learned
    variance a feature, which need the samples, and without the warnings that need them).
    The loss is one of: `sigma2`, the variance of a Gaussian decoder; `beta`, the KL weight beside half the squared
    error; `loss`, a name of `conventions.LOSSES`; `library`, a name of `conventions.LIBRARIES`. `kl_weight` is the
    weight of KL in it (default 1, or the library's). `sigma2` and `beta` together are the paper's objective, and
    `loss="gaussian-nll"` with `sigma2` has its variance fixed instead of learned.
    Raises InputError for unusable data or options.
    """
    convention, weight = _chosen(sigma2, beta, loss, library, kl_weight)
    if isinstance(n_latent, bool) or not isinstance(n_latent, int | np.integer) or n_latent < 1:
        raise InputError(f"n_latent: {n_latent!r}, must be a whole number, 1 or more")
    if not isinstance(data, Spectrum):
        return predicted(_measured(rows_of(data), convention, int(n_latent), weight))
    if convention.decoder in (BERNOULLI, PER_FEATURE):
        raise InputError(f"data: a spectrum, must be the samples for the loss {convention.name}")
    if data.eigenvalues.size < min(n_latent + 1, data.dimension):
        raise InputError(f"data: a spectrum of {data.eigenvalues.size} eigenvalues, must be at least {n_latent + 1}")
    return predicted(Setting(convention, int(n_latent), weight, data))


def predicted(setting: Setting) -> Prediction:
    """The prediction for a complete setting."""
    from phasevae import diagnosis

    effective, per_dim, mse = optimum(setting)
    active = int((per_dim > 0).sum())
    made = Prediction(
        effective_variance=effective,
        critical_variance=setting.spectrum.critical_variance,
        verdict="collapsed" if active == 0 else "active" if active == setting.n_latent else "partial",
        active_dims=active,
        kl=float(per_dim.sum()),
        kl_per_dim=per_dim,
        mse=mse,
        thresholds=_thresholds(setting),
        warnings=[],
        advice=[],
        setting=setting,
    )
    return replace(made, warnings=diagnosis.warnings(made), advice=diagnosis.advice(made))


def optimum(setting: Setting) -> tuple[float, NDArray, float]:
    """Effective variance, KL of each latent [n_latent] and expected squared error of a setting."""
    spectrum, n, weight = setting.spectrum, setting.n_latent, setting.kl_weight
    if setting.convention.decoder == PER_FEATURE:
        fitted = factor.fit(setting.correlation, n, weight)
        per_dim = np.zeros(n)
        per_dim[: fitted.eigenvalues.size] = 0.5 * np.log(np.maximum(fitted.eigenvalues / weight, 1))
        kept = setting.variances[setting.variances > 0]
        return weight, per_dim if fitted.bounded else np.where(per_dim > 0, np.inf, 0), float(fitted.variances @ kept)
    s = _effective_variance(setting)
    lam = spectrum.eigenvalues
    if s == 0:
        return s, np.where(np.arange(n) < lam.size, np.inf, 0.0), float(spectrum.trace - lam[:n].sum())
    beyond = max(0.0, spectrum.trace - lam.sum())  # eigenvalues that were not computed
    return s, theory.ppca_kl_per_dim(lam, s, n), float(theory.ppca_mse(lam, s, n)) + beyond


def _effective_variance(setting: Setting) -> float:
    spectrum = setting.spectrum
    if setting.convention.decoder == LEARNED:
        return theory.learned_variance(
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
            theory.learned_threshold(spectrum.eigenvalues, j, n, spectrum.trace, spectrum.dimension)
            for j in range(1, len(lam) + 1)
        ]
    elif setting.convention.decoder == PER_FEATURE:
        # In units of the learned variances the variance at which a latent dies is the weight itself.
        lam = weights = factor.thresholds(setting.correlation, n, min(setting.kl_weight, lam[-1])).tolist()
    else:
        weights = [setting.convention.kl_weight_of(value, spectrum.dimension, n) for value in lam]
    lower = [*weights[1:], 0.0]
    return [
        Threshold(j, float(value), float(weight), (float(low), float(weight)))
        for j, (value, weight, low) in enumerate(zip(lam, weights, lower, strict=True), start=1)
    ]


def _chosen(
    sigma2: float | None, beta: float | None, loss: str | None, library: str | None, kl_weight: float | None
) -> tuple[Convention, float]:
    """The convention and the weight of KL that the options mean."""
    if sum(option is not None for option in (loss, library)) + (sigma2 is not None or beta is not None) != 1 and not (
        loss == "gaussian-nll" and beta is None and library is None
    ):
        raise InputError("loss: give one of sigma2, beta, loss and library (sigma2 and beta go together)")
    if beta is not None and kl_weight is not None:
        raise InputError(f"kl_weight: {kl_weight}, must be left out beside beta, which is the weight of KL")
    if sigma2 is not None:
        convention = conventions.fixed_variance(_checked_weight("sigma2", sigma2))
    else:
        convention = conventions.named("half-sse", None) if beta is not None else conventions.named(loss, library)
    weight = beta if beta is not None else kl_weight
    key = "beta" if beta is not None else "kl_weight"
    return convention, convention.kl_weight if weight is None else _checked_weight(key, weight)


def _checked_weight(key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not 0 < value < np.inf:
        raise InputError(f"{key}: {value!r}, must be a positive number")
    return float(value)


def _measured(rows: Rows, convention: Convention, n_latent: int, kl_weight: float) -> Setting:
    """The setting with the spectrum in the decoder's units."""
    found = covariance.features(rows)
    top = None if rows.dimension <= FULL_DIMENSION else max(n_latent + SPARE, 32)
    if convention.decoder in (FIXED, LEARNED):
        measured = spectra.measure(rows, top=top, found=found)
        return Setting(convention, n_latent, kl_weight, measured.spectrum, found, measured.variances)
    if convention.decoder == BERNOULLI:
        _check_probabilities(rows, found)
        variance = found.mean * (1 - found.mean)
        scaled, in_units = _scaled(rows, found, variance)
        # The certificate is that of a Gaussian decoder.
        measured = spectra.measure(scaled, with_certificate=False, top=top, found=in_units)
        return Setting(convention, n_latent, kl_weight, measured.spectrum, found, measured.variances * variance)
    if top is not None:
        raise InputError(
            f"{rows.label}: {rows.dimension} features, must be at most {FULL_DIMENSION} for the loss {convention.name} "
            f"(keep the most variable ones?)"
        )
    variance = np.diagonal(covariance.matrix(rows, found)).copy()
    variance[found.constant] = 0
    scaled, in_units = _scaled(rows, found, variance)
    measured = spectra.measure(scaled, found=in_units)
    varies = variance > 0
    correlation = measured.covariance[np.ix_(varies, varies)]
    return Setting(convention, n_latent, kl_weight, measured.spectrum, found, variance, correlation)


def _scaled(rows: Rows, found: Features, variance: NDArray) -> tuple[Rows, Features]:
    """Rows in units of the square root of `variance` [D]; features of no variance become zero."""
    unit = np.where(variance > 0, 1 / np.sqrt(np.where(variance > 0, variance, 1)), 0.0)
    names = "origin", "shift", "low", "high"
    return rows.mapped(lambda block: block * unit), replace(found, **{n: getattr(found, n) * unit for n in names})


def _check_probabilities(rows: Rows, found: Features) -> None:
    low, high = found.low.min(), found.high.max()
    if low < 0 or high > 1:
        raise InputError(f"{rows.label}: values from {low:g} to {high:g}, must be within 0 and 1 for cross entropy")
