"""Predict from the spectrum of the data and the loss whether a VAE will collapse, without training it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from phasevae.datasets.samples import given_options, read_samples
from phasevae.errors import InputError
from phasevae.prediction import advice, diagnosis
from phasevae.prediction.conditional import (
    ConditionalPrediction,
    conditional_prediction,
    has_condition,
    parts_of,
)
from phasevae.prediction.explained import Explained
from phasevae.prediction.few_rows import few_rows_of_kl
from phasevae.prediction.losses import PER_FEATURE, Loss
from phasevae.prediction.measured import Model, check_limits, setting_of_function, setting_of_loss
from phasevae.prediction.optimum import PredictionWarning, Setting, find_optimum, kl_and_error
from phasevae.prediction.options import (
    at_least_zero,
    chosen_loss,
    encoder_limits,
    positive,
    scheduled_weight,
    whole_number,
)
from phasevae.prediction.schedules import KlSchedule
from phasevae.prediction.text import as_text
from phasevae.spectrum.spectrum import Spectrum
from phasevae.spectrum.spectrum_files import read_spectrum
from phasevae.wording import plain

NO_SAMPLES = (
    "from a spectrum, without the samples: warnings about single features (constant ones, different scales) are missing"
)

_BISECTIONS = 200
_LARGEST_WEIGHT = 1e12
_LEAST_WEIGHT = 1e-12
"""Of the critical weight, or of the present one where none is critical. Below it the variance of the decoder's noise
is less than the rounding of the outputs in single precision, whose square is about 1e-14 of the data's variance.
"""
_CLOSE = 1e-8


@dataclass(frozen=True, repr=False)
class Prediction(Explained):
    """A prediction. `print` shows what `phasevae predict` prints."""

    def __str__(self) -> str:
        return as_text(self)

    def at(self, kl_weight: float) -> Prediction:
        """Return the prediction for another weight of KL."""
        return prediction_of(replace(self.setting, kl_weight=positive("kl_weight", kl_weight)))

    def kl_weight_for(self, kl: float) -> float:
        """Return the weight of KL at which the optimum has a KL of this many nats per sample.

        Raises InputError for a KL that no weight of KL gives, with the least or the most that one gives, and where KL
        is not known.
        """
        wanted = positive("target_kl", kl)
        high = min(self.critical_kl_weight, _LARGEST_WEIGHT * self.setting.kl_weight)
        least = max(self.setting.kl_term.least_kl, _kl_at(self.setting, 2 * high))
        if wanted <= least:  # free bits, or a capacity
            raise InputError(f"target_kl: {kl:g} nats, must be more than the {least:.4g} that every KL weight leaves")
        critical = self.critical_kl_weight
        low, lowest = high, _LEAST_WEIGHT * (critical if math.isfinite(critical) else self.setting.kl_weight)
        while _kl_at(self.setting, low) < wanted:
            if low == lowest:
                reason = f"more takes a KL weight below {plain(low, 2)}, which is lost in single precision"
                raise _too_much(kl, _kl_at(self.setting, low), reason)
            low = max(0.5 * low, lowest)
        for _ in range(_BISECTIONS):
            middle = (low * high) ** 0.5
            low, high = (middle, high) if _kl_at(self.setting, middle) >= wanted else (low, middle)
        # With a learned variance KL can jump to infinity at some weight.
        if not math.isclose(_kl_at(self.setting, low), wanted, rel_tol=_CLOSE, abs_tol=_CLOSE):
            most = _kl_at(self.setting, high)
            if not _CLOSE < most < math.inf:
                raise InputError(f"target_kl: {kl:g} nats, must be left out, as every KL here is 0 or has no bound")
            raise _too_much(kl, most)
        if (few := few_rows_of_kl(self.at(low))) is not None:
            raise InputError(
                f"target_kl: {kl:g} nats, must be left out, as the KL of latent {few.component} is not known: it "
                f"carries {few} alone; predict without them if they are not meant"
            )
        return float(low)

    def to_json(self) -> dict[str, Any]:
        """Return the keys of `phasevae predict --json`. A KL that is not known is None."""
        few = few_rows_of_kl(self)
        kl_per_dim = self.kl_per_dim.tolist()
        if few is not None:
            kl_per_dim[few.component - 1] = None
        return {
            "read": None if self.reading is None else self.reading.to_json(),
            "headline": self.headline,
            "effective_variance": self.effective_variance,
            "critical_variance": self.critical_variance,
            "critical_kl_weight": self.critical_kl_weight,
            "critical_kl_weight_range": self.critical_kl_weight_range,
            "verdict": self.verdict,
            "active_dims": self.active_dims,
            "kl": self.kl if few is None else None,
            "kl_per_dim": kl_per_dim,
            "mse": self.mse,
            "log": vars(self.log) if few is None else dict.fromkeys(vars(self.log)),
            "collapsed_log": vars(self.collapsed_log),
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
    loss: str | Callable[..., Any] | None = None,
    library: str | None = None,
    loss_options: Mapping[str, Any] | None = None,
    kl_weight: float | None = None,
    kl_schedule: str | KlSchedule | None = None,
    training_length: float | None = None,
    input_shape: tuple[int, ...] | None = None,
    output_shape: tuple[int, ...] | list[tuple[int, ...]] | None = None,
    target: Any = None,
    batch_size: int | None = None,
    posterior_std: float | None = None,
    least_logvar: float | None = None,
    noise_scale: float = 1.0,
    input_noise: float = 0.0,
    input_mask: float = 0.0,
    key: str | None = None,
    size: int | None = None,
    grey: bool | None = None,
    standardize: str | None = None,
    skip_damaged: bool = False,
    drop: str | int | list[str | int] | None = None,
    header: bool | None = None,
    condition: Any = None,
    condition_kind: str | None = None,
) -> Prediction | ConditionalPrediction:
    """Predict what a VAE converges to, without training it.

    Give exactly one description of the loss: `sigma2`, `beta`, `loss` or `library`. Two pairs are allowed: `sigma2` and
    `beta` together are the paper's objective, and `loss="gaussian-nll"` with `sigma2` has a fixed variance instead of a
    learned one.

    Parameters
    ----------
    data : samples [N, ...], or Spectrum
        Exactly as they are fed to the network: an array, a table, a path, or anything else that
        `phasevae.datasets.samples.read_samples` takes. Files are used as they are stored, pixels divided by 255. A
        spectrum, or the path of a spectrum.json, is enough for a squared error only, and the warnings about single
        features are missing with it.
    n_latent : int
        Number of latents.
    sigma2 : float, optional
        Variance of a Gaussian decoder, in squared units of the data.
    beta : float, optional
        Weight of KL in a loss with half the squared error.
    loss : str or callable, optional
        A name in `losses.LOSS_NAMES`, or your own PyTorch function `loss(recon, x, mu, logvar)` that returns a scalar.
        It is differentiated: any reductions, any reconstruction loss. Weights of KL are then factors of its KL term,
        and 1 is the loss as you wrote it.
    library : str, optional
        A name in `libraries.LIBRARIES`.
    loss_options : mapping, optional
        Options of the likelihood, the fields of its class in `phasevae.likelihoods`, such as
        ``{"size_factors": "total"}`` of the negative binomial.
    kl_weight : float, optional
        Weight of KL in the loss; 1 by default, or the default of the library. Not together with `beta`.
    kl_schedule : str, optional
        Instead of `kl_weight`: ``linear:START,END,LENGTH``, ``cosine:...`` or ``cyclic:START,END,PERIOD[,RISE]``. The
        weight at the end of the training decides.
    training_length : float, optional
        Length of the training in the units of the schedule; by default as long as the schedule needs.
    input_shape : tuple of int, optional
        For your own function: shape of one sample, where the data are flattened.
    output_shape : tuple of int, or list of tuples, optional
        For your own function: shape of one sample's `recon`, without the batch; by default that of `x`. With a list of
        shapes `recon` is a tuple of tensors, such as means and log variances.
    target : samples, optional
        For your own function: what it takes as `x`, if that is not what the encoder sees.
    batch_size : int, optional
        For your own function: needed where it averages one part over the batch and sums the other.
    posterior_std : float, optional
        Standard deviation of the posterior, if it is fixed.
    least_logvar : float, optional
        Lower bound of the log variance of the posterior.
    noise_scale : float
        The decoder sees mu + noise_scale * sigma * noise.
    input_noise : float
        Standard deviation of Gaussian noise that is added to the encoder's input.
    input_mask : float
        Probability with which a feature of the encoder's input is set to zero.
    standardize : str, optional
        How the data are prepared, a mode of `phasevae.datasets.standardize`: ``none`` (the default), ``center``,
        ``global`` or ``per-feature``. For any data but a spectrum and a saved data set.
    key : str, optional
        Which array of a file or mapping with several, or of items of a loader that are mappings.
    size : int, optional
        Resize images to `size` x `size` pixels.
    grey : bool, optional
        Take images as grey, or in colour; by default as they are stored.
    skip_damaged : bool
        Leave out images that cannot be decoded.
    drop : str, int or list of them, optional
        Columns to leave out, by name or by number counted from 0. By default columns that look like ids are refused; an
        empty list keeps them.
    header : bool, optional
        Whether the first line of a table holds the names of its columns; by default this is recognised, and
        refused where it is not clear.
    condition : str or array [N], optional
        What encoder and decoder see beside each row: classes or numbers, one for each sample, or for files a .npy file,
        column:NAME of a table, or "label". A saved data set has its own.
    condition_kind : {"classes", "numbers"}, optional
        By default texts and whole numbers are classes.

    Returns
    -------
    Prediction or ConditionalPrediction
        With classes a prediction for each of them. With numbers it is for a decoder that adds its condition, by the
        covariance that linear regression leaves.

    Raises
    ------
    InputError
        For data or options that cannot be used.
    """
    arguments = {**locals()}
    n_latent = whole_number("n_latent", n_latent)
    options = given_options(
        key=key,
        size=size,
        grey=grey,
        standardize=standardize,
        skip_damaged=skip_damaged,
        drop=drop,
        header=header,
        condition=condition,
        condition_kind=condition_kind,
    )
    data = _loaded(data, options)
    if has_condition(data, options):
        parts = parts_of(data, options)
        arguments |= dict.fromkeys(options)
        return conditional_prediction(parts, lambda part: predict(**{**arguments, "data": part}))
    if kl_schedule is not None:
        if kl_weight is not None or beta is not None:
            raise InputError(
                "kl_schedule: cannot be given together with kl_weight or beta, as it sets the weight of KL "
                "(beta stands for the loss half-sse)"
            )
        kl_weight, notes = scheduled_weight(kl_schedule, training_length)
    elif training_length is not None:
        raise InputError("training_length: goes with a kl_schedule, must be left out without one")
    else:
        notes = ()
    limits = encoder_limits(posterior_std, least_logvar, noise_scale)
    noise, mask = at_least_zero("input_noise", input_noise), at_least_zero("input_mask", input_mask)
    if mask >= 1:
        raise InputError(f"input_mask: {input_mask!r}, must be less than 1")
    if callable(loss):
        if sigma2 is not None or beta is not None or library is not None or loss_options:
            raise InputError("loss: a function, must be given without sigma2, beta, library and loss_options")
        weight = 1.0 if kl_weight is None else positive("kl_weight", kl_weight)
        model = Model(n_latent, weight, limits, noise, mask)
        setting = setting_of_function(
            loss,
            data,
            model,
            target=target,
            input_shape=input_shape,
            output_shape=output_shape,
            batch_size=batch_size,
            options=options,
        )
        return prediction_of(replace(setting, notes=(*notes, *setting.notes)))
    only_own = {"input_shape": input_shape, "output_shape": output_shape, "target": target, "batch_size": batch_size}
    if names := [key for key, value in only_own.items() if value is not None]:
        raise InputError(f"{names[0]}: must be left out unless the loss is a function of your own")
    chosen, weight = chosen_loss(sigma2, beta, loss, library, kl_weight, loss_options, takes_function=True)
    model = Model(n_latent, weight, limits, noise, mask)
    check_limits(chosen, model)
    if isinstance(data, Spectrum):
        setting = _of_spectrum(data, chosen, model)
    else:
        setting = setting_of_loss(read_samples(data, **options), chosen, model)
    return prediction_of(replace(setting, notes=(*notes, *setting.notes)))


def _loaded(data: Any, options: Mapping[str, Any]) -> Any:
    """The data as they are, or the spectrum of a spectrum.json, which takes no options of a reader."""
    if isinstance(data, str | Path) and Path(data).suffix.lower() == ".json":
        data = read_spectrum(data)
    if isinstance(data, Spectrum) and options:
        raise InputError(f"{next(iter(options))}: must be left out for a spectrum, whose data are read already")
    return data


def prediction_of(setting: Setting) -> Prediction:
    """Return the prediction for a complete setting."""
    optimum = find_optimum(setting)
    return Prediction(
        **vars(optimum),
        headline=advice.headline(optimum),
        warnings=diagnosis.warnings(optimum),
        advice=advice.advice(optimum),
    )


def _of_spectrum(spectrum: Spectrum, loss: Loss, model: Model) -> Setting:
    if loss.family or loss.decoder == PER_FEATURE:
        raise InputError(f"data: a spectrum, must be the samples for the loss {loss.name}")
    if spectrum.eigenvalues.size < min(model.n_latent + 1, spectrum.dimension):
        raise InputError(
            f"data: a spectrum of {spectrum.eigenvalues.size} eigenvalues, must be at least {model.n_latent + 1}"
        )
    if model.noise or model.mask:
        raise InputError("data: a spectrum, must be the samples for an encoder that sees something else")
    return Setting(
        loss,
        model.n_latent,
        model.kl_weight,
        spectrum,
        limits=model.limits,
        reading=spectrum.reading,
        notes=(PredictionWarning("spectrum", NO_SAMPLES),),
    )


def _kl_at(setting: Setting, kl_weight: float) -> float:
    return float(kl_and_error(replace(setting, kl_weight=kl_weight))[1].sum())


def _too_much(wanted: float, most: float, reason: str = "no KL weight gives more") -> InputError:
    """The error for a KL above the most that some weight of KL gives. The limit is rounded to one that is possible."""
    return InputError(f"target_kl: {wanted:g} nats, must be at most {plain(0.99 * most, 3)}; {reason}")
