"""The spectrum of the scores of a loss in units of its curvature: the eigenvalues of H^-1 G, streamed over the rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from phasevae.datasets.base import SampleStream, thinned
from phasevae.errors import InputError
from phasevae.likelihoods.kinks import KINK_WIDTH, WIDTHS, filled, relative_range, rows_for_widths, units_of
from phasevae.prediction.optimum import PredictionWarning
from phasevae.prediction.own_loss.coupled import coupled_spectrum
from phasevae.prediction.own_loss.curvature import DENSE, Derivatives
from phasevae.spectrum.measure import measure_spectrum
from phasevae.spectrum.spectrum import Spectrum
from phasevae.wording import counted

_NULL, _NOISE = {False: 1e-10, True: 1e-5}, 1e-3
"""Directions whose curvature or score is below this part of the largest have none: in float64, in float32, and with
finite differences."""


@dataclass(frozen=True)
class ScoreSpectrum:
    """The spectrum of the whitened scores, and how to get these."""

    spectrum: Spectrum  # eigenvalues: weights of KL per sample at which latents die
    kinked: bool  # whether the curvature is a finite difference
    rows: SampleStream | None  # the whitened scores; None for a loss that couples very many outputs
    notes: tuple[PredictionWarning, ...] = ()
    kink_range: tuple[float, float] | None = None  # see `Setting`


def score_spectrum(
    derivatives: Derivatives, constant: NDArray, few: NDArray, kinked: bool, top: int | None = None
) -> ScoreSpectrum:
    """Compute the spectrum of the scores at a constant output.

    Parameters
    ----------
    derivatives : Derivatives
    constant : array [P]
        The best constant output.
    few : array [b, D]
        Rows of the target for what does not need all of them.
    kinked : bool
        Whether the curvature is taken from finite differences.
    top : int, optional
        The number of leading eigenvalues to compute; by default all.

    Raises
    ------
    InputError
        For outputs that have scores but no curvature, and if all scores are constant.
    """
    if derivatives.blocks.shape[1] > DENSE:
        return ScoreSpectrum(coupled_spectrum(derivatives, constant, few, kinked, top), kinked, None)
    rows = None if kinked else derivatives.curvature_rows(constant, few)
    curvature = (derivatives.smoothed_curvature if kinked else derivatives.curvature)(constant, rows=rows)
    if kinked and derivatives.blocks.shape[1] == 1 and not np.all(curvature > 0):
        wider = _over_widths(derivatives, constant, few)[WIDTHS.index(KINK_WIDTH)]
        curvature = np.where(curvature > 0, curvature, wider[:, None, None])
    whitening, constants = _whitening(derivatives, constant, few, curvature, kinked)
    stream = _whitened(derivatives, constant, whitening)
    top = None if top is None or top >= stream.dimension else top
    measured = measure_spectrum(stream, with_variance_proxy=False, top=top)
    widths = None
    if kinked and derivatives.blocks.shape[1] == 1:
        widths = _range(derivatives, constant, few, curvature[:, 0, 0])
    return ScoreSpectrum(measured.spectrum, kinked, stream, _notes(constants), widths)


def _whitening(
    derivatives: Derivatives, constant: NDArray, few: NDArray, curvature: NDArray, kinked: bool
) -> tuple[NDArray, NDArray]:
    """Return what whitens the scores of each block [blocks, k, k], and which outputs have a constant score [P]."""
    scores = derivatives.gradients(constant, few)
    least = _NULL[derivatives.loss.single]
    varying = np.ptp(scores, axis=0) > least * max(np.abs(scores).max(), 1e-300)
    values, vectors = np.linalg.eigh(curvature)
    blocks, spread = derivatives.blocks, scores.std(0)
    # In units of each output's own score: the curvature of one output may be far smaller than that of another.
    own = np.maximum(np.abs(values).max(1), 1e-300)
    null = np.abs(values) <= (_NOISE if kinked else least) * own[:, None]
    moved = (
        np.square(np.einsum("bij,bi->bj", vectors, spread[blocks])) > 1e-6 * np.square(spread[blocks]).sum(1)[:, None]
    )
    if blocks.shape[1] == 1:
        _check_single(derivatives, values[:, 0], varying)
        null = ~(varying[:, None] & (values > 0))
    elif not kinked and np.any((values < 0) & ~null & moved):
        raise InputError(
            f"loss {derivatives.loss.name}: its curvature is negative in a direction at the best constant output, "
            f"which must be a minimum"
        )
    inverse = np.where(null | (values <= 0), 0.0, 1 / np.sqrt(np.where(values > 0, values, 1.0)))
    whitening = inverse[:, :, None] * vectors.transpose(0, 2, 1)
    return whitening, ~varying


def _check_single(derivatives: Derivatives, values: NDArray, varying: NDArray) -> None:
    flat = varying & ~(values > 0)
    if flat.any():
        raise InputError(
            f"loss {derivatives.loss.name}: has no curvature in output {int(flat.argmax())} at its best constant "
            f"value, although its score varies: the criterion does not decide"
        )


def _whitened(derivatives: Derivatives, constant: NDArray, whitening: NDArray) -> SampleStream:
    """The scores of all rows, whitened block by block: blocks [b, P] of the stream."""
    blocks = derivatives.blocks
    source = derivatives.loss.target.stream
    whiten = _whitener(blocks, whitening)

    def read() -> Iterator[NDArray]:
        for block in derivatives.chunks():
            yield whiten(derivatives.gradients(constant, block))

    return SampleStream(read, derivatives.loss.n_outputs, source.label)


def _whitener(blocks: NDArray, whitening: NDArray) -> Callable[[NDArray], NDArray]:
    if blocks.shape[1] == 1:
        unit = np.zeros(blocks.size)
        unit[blocks[:, 0]] = np.abs(whitening[:, 0, 0])
        return lambda gradients: gradients * unit
    if len(blocks) == 1:
        return lambda gradients: gradients[:, blocks[0]] @ whitening[0].T
    return lambda gradients: np.einsum("bij,nbj->nbi", whitening, gradients[:, blocks]).reshape(len(gradients), -1)


def _notes(constants: NDArray) -> tuple[PredictionWarning, ...]:
    if not (n := int(constants.sum())):
        return ()
    where = ", ".join(map(str, np.flatnonzero(constants)[:5])) + (", ..." if n > 5 else "")
    has = "has" if n == 1 else "have"
    which = f"{n} of {counted(constants.size, 'output')} {has} the same score in every sample ({where})"
    return (PredictionWarning("constant-outputs", f"{which}: no latent can carry them"),)


def _range(derivatives: Derivatives, constant: NDArray, few: NDArray, curvature: NDArray) -> tuple[float, float]:
    """The range of critical weights over WIDTHS, relative to that of the curvature [P] of the prediction."""
    scores = derivatives.gradients(constant, thinned(few, rows_for_widths(few.shape[1])))[:, derivatives.blocks[:, 0]]
    scores -= scores.mean(0)
    unit = np.where(curvature > 0, 1 / np.sqrt(np.where(curvature > 0, curvature, 1)), 0.0)
    return relative_range(scores * unit, units_of(curvature, _over_widths(derivatives, constant, few)))


def _over_widths(derivatives: Derivatives, constant: NDArray, few: NDArray) -> NDArray:
    """Return the curvature of each output by itself over each of WIDTHS, [W, P], where enough rows give it."""
    slopes, counts = [], []
    for width in WIDTHS:
        low, high = derivatives.around(constant, width * derivatives.widths)
        change = derivatives.gradients(high, few) - derivatives.gradients(low, few)
        mean, variance = change.mean(0), change.var(0)
        span = high - low
        slopes.append(mean / np.where(span > 0, span, 1.0))
        # As many jumps of equal size have this relative error of their mean.
        counts.append(len(few) * np.square(mean) / np.where(variance > 0, variance, 1.0))
    columns = derivatives.blocks[:, 0]
    return filled(np.array(slopes), np.array(counts))[:, columns]
