"""The spectrum of the scores of a loss in units of its curvature: the eigenvalues of H^-1 G, streamed over the rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from phasevae.datasets.base import SampleStream
from phasevae.errors import InputError
from phasevae.likelihoods.base import KINK_WIDTH
from phasevae.prediction.optimum import PredictionWarning
from phasevae.prediction.own_loss.coupled import coupled_spectrum
from phasevae.prediction.own_loss.curvature import DENSE, WIDTHS, Derivatives
from phasevae.prediction.own_loss.rows import thinned
from phasevae.spectrum.spectrum import Spectrum, measure_spectrum

_NULL, _NOISE = {False: 1e-10, True: 1e-5}, 1e-3
"""Directions whose curvature or score is below this part of the largest have none: in float64, in float32, and with
finite differences."""

_SPREAD = 1.2
"""The criterion does not decide where it changes by more than this factor with the width of the differences."""

_GUARD_ROWS = 2048


@dataclass(frozen=True)
class ScoreSpectrum:
    """The spectrum of the whitened scores, and how to get these."""

    spectrum: Spectrum  # eigenvalues: weights of KL per sample at which latents die
    kinked: bool  # whether the curvature is a finite difference
    rows: SampleStream | None  # the whitened scores; None for a loss that couples very many outputs
    notes: tuple[PredictionWarning, ...] = ()


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
    whitening, constants = _whitening(derivatives, constant, few, curvature, kinked)
    stream = _whitened(derivatives, constant, whitening)
    top = None if top is None or top >= stream.dimension else top
    measured = measure_spectrum(stream, with_variance_proxy=False, top=top)
    notes = _notes(derivatives, constant, few, kinked, constants)
    return ScoreSpectrum(measured.spectrum, kinked, stream, notes)


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


def _notes(
    derivatives: Derivatives, constant: NDArray, few: NDArray, kinked: bool, constants: NDArray
) -> tuple[PredictionWarning, ...]:
    notes = []
    if n := int(constants.sum()):
        where = ", ".join(map(str, np.flatnonzero(constants)[:5])) + (", ..." if n > 5 else "")
        text = (
            f"{n} of {constants.size} outputs have the same score in every sample ({where}): no latent can carry them"
        )
        notes.append(PredictionWarning("constant-outputs", text))
    if kinked and derivatives.blocks.shape[1] > 1:
        text = "the loss has kinks and couples outputs: its best constant output and the critical weight are rough"
        notes.append(PredictionWarning("kinks", text))
    elif kinked:
        low, high = _range(derivatives, constant, thinned(few, _GUARD_ROWS))
        if high > _SPREAD * low:
            text = (
                f"the loss has kinks, and the critical weight depends on how far from the constant output the network "
                f"moves: between {low:.3g} and {high:.3g} times the predicted one"
            )
            notes.append(PredictionWarning("kinks", text))
    return tuple(notes)


def _range(derivatives: Derivatives, constant: NDArray, few: NDArray) -> tuple[float, float]:
    """The smallest and largest critical weight over WIDTHS, relative to that of KINK_WIDTH."""
    scores = derivatives.gradients(constant, few)
    scores -= scores.mean(0)
    found = {}
    for width in WIDTHS:
        curvature = derivatives.smoothed_curvature(constant, width, few)
        whitening, _ = _whitening(derivatives, constant, few, curvature, kinked=True)
        found[width] = _largest(_whitener(derivatives.blocks, whitening)(scores))
    ratios = np.array(list(found.values())) / found[KINK_WIDTH]
    return float(ratios.min()), float(ratios.max())


def _largest(scores: NDArray) -> float:
    """The square of the largest singular value."""
    from scipy.sparse.linalg import svds

    if min(scores.shape) <= 2:
        return float(np.linalg.norm(scores, 2) ** 2)
    return float(svds(scores, 1, return_singular_vectors=False, random_state=0)[0] ** 2)
