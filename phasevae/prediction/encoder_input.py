"""Encoders that do not see all that the decoder has to give: noisy, masked or other inputs.

A latent then carries only what the input explains of the scores. Their covariance G is replaced by that of their
expectation given the input. Linear regression gives a lower bound of it, which is exact for Gaussian data.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from phasevae.datasets.base import SampleStream
from phasevae.datasets.feature_statistics import feature_statistics
from phasevae.errors import InputError
from phasevae.prediction.optimum import PredictionWarning
from phasevae.spectrum.moments import covariance_matrix, eigendecomposition
from phasevae.spectrum.spectrum import Spectrum, assemble_spectrum

LARGEST = 8192
"""The most scores and features of the input together: their covariance is a matrix of this size."""

_NULL = 1e-10
_CLOSE = 1.02


@dataclass(frozen=True)
class EncoderInput:
    """What the encoder sees instead of the samples: other samples, or these with noise or with features set to zero."""

    rows: SampleStream
    noise: float = 0.0  # standard deviation of Gaussian noise added to each feature
    mask: float = 0.0  # probability with which a feature is set to zero


def seen_spectrum(scores: SampleStream, seen: EncoderInput) -> tuple[Spectrum, tuple[PredictionWarning, ...]]:
    """Compute the spectrum of what a linear regression on the encoder's input explains of the scores.

    Parameters
    ----------
    scores : SampleStream
        Scores in units of the decoder; for a squared error the samples that the decoder has to give.
    seen : EncoderInput
        Its rows belong to those of the scores.

    Returns
    -------
    Spectrum
        Without moments of the components.
    tuple of PredictionWarning
        One if an encoder that is not linear may tell more.

    Raises
    ------
    InputError
        For more than `LARGEST` features, and for rows of another number.
    """
    p, d = scores.dimension, seen.rows.dimension
    if p + d > LARGEST:
        raise InputError(f"{scores.label}: {p} outputs and {d} inputs, must be at most {LARGEST} together")
    joined = side_by_side(scores, seen.rows)
    features = feature_statistics(joined)
    joint = covariance_matrix(joined, features)
    full, cross, own = joint[:p, :p], joint[:p, p:], joint[p:, p:]
    if seen.mask > 0:
        kept, square = 1 - seen.mask, np.diagonal(own) + np.square(features.mean[p:])
        cross, own = kept * cross, kept**2 * own + np.diag(kept * seen.mask * square)
    own = own + seen.noise**2 * np.eye(d)
    values, vectors = np.linalg.eigh(own)
    inverse = np.where(values > _NULL * values[-1], 1 / np.maximum(values, 1e-300), 0)
    half = (cross @ vectors) * np.sqrt(inverse)
    known = eigendecomposition(half @ half.T)[0]
    most = float(np.linalg.eigvalsh(full)[-1])
    if not known[0] > _NULL * most:
        raise InputError(f"{scores.label}: the encoder's input carries no information about it, must be related to it")
    spectrum = assemble_spectrum(
        known, float(np.trace(full)), features.n_samples, *np.full((2, min(p, 8)), np.nan), None
    )
    notes = ()
    if most > _CLOSE * known[0]:
        text = (
            f"the encoder does not see all that the decoder has to give: thresholds are those of a linear encoder, and "
            f"the critical weight of a better one may be up to {most / known[0]:.3g} times as large"
        )
        notes = (PredictionWarning("encoder-input", text),)
    return replace(spectrum, name="" if scores.label == "data" else scores.label), notes


def side_by_side(left: SampleStream, right: SampleStream) -> SampleStream:
    """Return the rows of two streams of equal length, joined: blocks [b, D_left + D_right]."""

    def read() -> Iterator[NDArray]:
        others, waiting = right.read(), np.empty((0, right.dimension))
        for block in left.read():
            while len(waiting) < len(block):
                more = next(others, None)
                if more is None:
                    raise InputError("target: has another number of rows than the data, must have one for each of them")
                waiting = np.concatenate([waiting, more])
            yield np.hstack([block, waiting[: len(block)]])
            waiting = waiting[len(block) :]
        if len(waiting) or next(others, None) is not None:
            raise InputError("target: has another number of rows than the data, must have one for each of them")

    return SampleStream(read, left.dimension + right.dimension, left.label)
