"""Settings of predictions: the spectrum of the data in units of the decoder, for every kind of loss."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from phasevae.datasets.base import SampleStream
from phasevae.datasets.feature_statistics import FeatureStatistics, feature_statistics, reading_of_rows
from phasevae.errors import InputError
from phasevae.likelihoods.base import FittedLikelihood, are_counts
from phasevae.likelihoods.featurewise import FeaturewiseFit
from phasevae.likelihoods.kinks import relative_range, rows_for_widths
from phasevae.likelihoods.laplace import Laplace
from phasevae.likelihoods.registry import find_likelihood
from phasevae.prediction.encoder_input import EncoderInput, seen_spectrum
from phasevae.prediction.kl_term import KlTerm
from phasevae.prediction.losses import LEARNED, PER_FEATURE, Loss
from phasevae.prediction.optimum import Setting
from phasevae.prediction.options import whole_number
from phasevae.spectrum.measure import measure_spectrum
from phasevae.spectrum.moments import covariance_matrix
from phasevae.spectrum.spectrum import Spectrum
from phasevae.theory.limited_encoder import EncoderLimits

if TYPE_CHECKING:
    from phasevae.prediction.own_loss.measure import OwnLoss
    from phasevae.prediction.own_loss.regulariser import Regulariser

FULL_DIMENSION = 4096
"""For data with more features only the leading eigenvalues are computed."""

SPARE = 16
"""Eigenvalues that are then computed beyond the number of latents."""

_EVEN = 1e-4
"""Weights of latents that differ by less than this part are equal."""


@dataclass(frozen=True)
class Model:
    """The network, as far as a prediction depends on it."""

    n_latent: int
    kl_weight: float
    limits: EncoderLimits
    noise: float = 0.0  # of the encoder's input
    mask: float = 0.0


def setting_of_loss(rows: SampleStream, loss: Loss, model: Model) -> Setting:
    """Return the setting of a loss that has a name.

    Parameters
    ----------
    rows : SampleStream
    loss : Loss
    model : Model

    Raises
    ------
    InputError
        For data that the loss cannot have.
    """
    _check_counts(rows, loss)
    seen = EncoderInput(rows, model.noise, model.mask) if model.noise or model.mask else None
    return _measured(rows, feature_statistics(rows), loss, model, seen)


def _check_counts(rows: SampleStream, loss: Loss) -> None:
    """Raise InputError for raw counts where the code of a preset is given corrected values, and the reverse."""
    if loss.raw_counts is None or (counts := are_counts(rows)) == loss.raw_counts:
        return
    library = loss.name.partition("-")[0]
    needed, other = (
        (f"corrected for library size and log-transformed for the library {loss.name}", library)
        if counts
        else (f"raw counts for the library {loss.name}", f"{library}-normal")
    )
    found = "whole numbers, which look like raw counts" if counts else "not whole numbers, 0 or more"
    raise InputError(f"{rows.label}: {found}, must be {needed} (or take the library {other})")


def setting_of_function(
    function: Callable[..., Any],
    data: Any,
    model: Model,
    *,
    target: Any = None,
    input_shape: tuple[int, ...] | None = None,
    output_shape: tuple[int, ...] | list[tuple[int, ...]] | None = None,
    batch_size: int | None = None,
    options: Mapping[str, Any] | None = None,
) -> Setting:
    """Return the setting of a user's own loss function.

    Parameters
    ----------
    function : callable
        loss(recon, x, mu, logvar).
    data : samples
        What the encoder sees.
    model : Model
    target, input_shape, output_shape, batch_size : optional
        See `predict.predict`.
    options : mapping, optional
        Those of the reader of `data`.

    Raises
    ------
    InputError
        For data, shapes and losses that cannot be used.
    """
    from phasevae.prediction.own_loss.measure import understand
    from phasevae.prediction.own_loss.rows import rows_of

    if isinstance(data, Spectrum):
        raise InputError("data: a spectrum, must be the samples for a loss of your own")
    batch_size = None if batch_size is None else whole_number("batch_size", batch_size)
    rows = rows_of(data, input_shape, **(options or {}))
    compared = rows if target is None else rows_of(target, name="target")
    own = understand(
        function,
        compared,
        model.n_latent,
        output_shape=output_shape,
        batch_size=batch_size,
        most_eigenvalues=lambda size: _top(size, model.n_latent),
    )
    model = replace(model, limits=_with_limits(model.limits, own.regulariser))
    check_limits(own.loss, model)
    seen = None
    if target is not None or model.noise or model.mask:
        seen = EncoderInput(rows.stream, model.noise, model.mask)
    known = own.scores is None
    setting = _measured(compared.stream, own.features, own.loss, model, seen) if known else _of_scores(own, model, seen)
    if not known and target is None and not rows.whole:  # symbols are embedded, and have no mean
        setting = replace(setting, features=own.features)
    return replace(
        setting,
        reading=reading_of_rows(rows.stream, own.features if target is None else None),
        collapsed_loss=own.collapsed_loss,
        kl_term=_kl_term(own.regulariser, own.collapsed_cost),
        notes=(*own.notes, *setting.notes),
    )


def _with_limits(limits: EncoderLimits, regulariser: Regulariser) -> EncoderLimits:
    """Add what the KL term of a loss implies about the encoder."""
    if limits.posterior_std is None and not regulariser.uses_logvar:
        limits = replace(limits, posterior_std=1.0)
    return replace(limits, least_variance=max(limits.least_variance, regulariser.least_variance))


def _kl_term(regulariser: Regulariser, collapsed_cost: float) -> KlTerm:
    weights = np.sort(regulariser.weights / regulariser.weights.mean())
    uneven = weights[-1] > weights[0] * (1 + _EVEN)
    relative = tuple(weights.tolist()) if uneven else ()
    return KlTerm(
        free_bits=regulariser.free_bits,
        least_kl=regulariser.least_kl,
        draws=regulariser.draws,
        collapsed_cost=collapsed_cost,
        mean_only=not regulariser.uses_logvar,
        relative_weights=relative,
    )


def _of_scores(own: OwnLoss, model: Model, seen: EncoderInput | None) -> Setting:
    spectrum, notes = own.scores.spectrum, ()
    if seen is not None:
        if own.scores.rows is None:
            raise InputError("loss: couples too many outputs for an encoder that sees something else")
        spectrum, notes = seen_spectrum(own.scores.rows, seen)
    return Setting(
        own.loss,
        model.n_latent,
        model.kl_weight,
        spectrum,
        n_features=own.features.low.size,
        kinked=own.scores.kinked,
        kink_range=own.scores.kink_range,
        limits=model.limits,
        notes=notes,
    )


def _top(dimension: int, n_latent: int) -> int | None:
    return None if dimension <= FULL_DIMENSION else max(n_latent + SPARE, 32)


def _measured(
    rows: SampleStream, features: FeatureStatistics, loss: Loss, model: Model, seen: EncoderInput | None
) -> Setting:
    """Return the setting with the spectrum in the decoder's units."""
    if loss.decoder == PER_FEATURE:
        return _of_learned_variances(rows, loss, model, features)
    collapsed = variances = kink_range = None
    if loss.family:
        fitted = find_likelihood(loss.family, **dict(loss.options)).fit(rows, features)
        size = rows.dimension if loss.mean_over_features else 1
        collapsed = (fitted.loss - loss.constant * rows.dimension) / size
        scores, of_scores = whitened_scores(rows, fitted), None
        if loss.family == Laplace.name:
            kink_range = _kink_range(rows, fitted)
    else:
        scores, of_scores = rows, features
    if seen is None:
        top = _top(scores.dimension, model.n_latent)
        # The variance proxy is that of a Gaussian decoder.
        measured = measure_spectrum(scores, not loss.family, top, of_scores)
        spectrum, notes = measured.spectrum, ()
        variances = None if loss.family else measured.variances
    else:
        spectrum, notes = seen_spectrum(scores, seen)
    return Setting(
        loss,
        model.n_latent,
        model.kl_weight,
        spectrum,
        features,
        variances,
        collapsed_loss=collapsed,
        n_features=rows.dimension,
        kinked=loss.family == Laplace.name,
        kink_range=kink_range,
        limits=model.limits,
        reading=reading_of_rows(rows, features),
        notes=notes,
    )


def whitened_scores(rows: SampleStream, fitted: FittedLikelihood) -> SampleStream:
    """Return the whitened scores of a likelihood as a stream, in blocks that are not larger than those of the rows."""
    share = -(-fitted.n_scores // rows.dimension)

    def read() -> Iterator[NDArray]:
        for block in rows.read():
            for part in np.array_split(block, min(share, len(block))):
                yield fitted.whitened_scores(part)

    return SampleStream(read, fitted.n_scores, rows.label)


def _kink_range(rows: SampleStream, fitted: FeaturewiseFit) -> tuple[float, float]:
    """The range of critical weights over the widths of differences, relative to that of the whitened scores."""
    scores = fitted.whitened_scores(rows.thinned(rows_for_widths(fitted.n_scores)))
    scores -= scores.mean(0)
    return relative_range(scores, fitted.width_units)


def _of_learned_variances(rows: SampleStream, loss: Loss, model: Model, features: FeatureStatistics) -> Setting:
    if rows.dimension > FULL_DIMENSION:
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
    return Setting(
        loss,
        model.n_latent,
        model.kl_weight,
        measured.spectrum,
        features,
        variance,
        correlation,
        reading=reading_of_rows(rows, features),
    )


def _scaled(
    rows: SampleStream, features: FeatureStatistics, variance: NDArray
) -> tuple[SampleStream, FeatureStatistics]:
    """Return rows and statistics in units of the square root of `variance` [D]; features without variance become 0."""
    unit = np.where(variance > 0, 1 / np.sqrt(np.where(variance > 0, variance, 1)), 0.0)
    scaled = {name: getattr(features, name) * unit for name in ("origin", "shift", "low", "high")}
    return rows.mapped(lambda block: block * unit), replace(features, **scaled)


def check_limits(loss: Loss, model: Model) -> None:
    """Raise InputError for limits of the encoder with a loss whose optimum is not known with them."""
    free = model.limits == EncoderLimits() and not model.noise and not model.mask
    if loss.decoder in (LEARNED, PER_FEATURE) and not free:
        raise InputError(f"loss {loss.name}: learns its variance, for which limits of the encoder must be left out")
