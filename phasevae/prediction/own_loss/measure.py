"""The setting of a prediction from a user's own loss function: its KL term, and the spectrum of its scores.

The criterion: a latent whose KL weighs b leaves the collapsed state of a reconstruction loss l where b falls below an
eigenvalue of H^-1 G, with G the covariance of the scores -dl/dtheta and H = E d2l/dtheta2, both at the best constant
output theta (docs/theory/criterion.md). Units are those of the loss as it is printed: mean over the batch, or per
sample where the loss is a sum over the batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from phasevae.datasets.feature_statistics import FeatureStatistics, feature_statistics
from phasevae.errors import InputError
from phasevae.prediction.conditions import conditions_of_loss
from phasevae.prediction.losses import BERNOULLI, FIXED, LEARNED, OWN, SCORES, Loss
from phasevae.prediction.optimum import PredictionWarning
from phasevae.prediction.own_loss import probes
from phasevae.prediction.own_loss.curvature import Derivatives, domain_of
from phasevae.prediction.own_loss.function import LossFunction
from phasevae.prediction.own_loss.optimum import FEW_ROWS, check_optimum, constant_optimum
from phasevae.prediction.own_loss.parameters import fit_parameters, parameters_of, restored
from phasevae.prediction.own_loss.recognition import Recognised, recognise
from phasevae.prediction.own_loss.regulariser import Regulariser, find_regulariser
from phasevae.prediction.own_loss.rows import Rows, Shape
from phasevae.prediction.own_loss.scores import ScoreSpectrum, score_spectrum
from phasevae.prediction.own_loss.structure import coupled_outputs

_MOST_VALUES = 2**25
"""The rows of the probes hold at most this number of values."""

_START_ROWS = 64
"""Simple outputs are compared on this number of rows."""

_VANISHED = 1e-6
"""Trainable numbers that leave less than this part of the scores leave nothing."""

_ROUNDS = 10
"""Alternations between the best output and the best trainable parameters of the loss."""


@dataclass(frozen=True)
class OwnLoss:
    """The measured properties of a loss function."""

    loss: Loss
    regulariser: Regulariser
    collapsed_loss: float  # as printed, for the best constant output and no KL
    collapsed_cost: float  # of the KL term for collapsed latents, in units of its weight
    scores: ScoreSpectrum | None  # None where the reconstruction part is a known one
    features: FeatureStatistics  # of the target
    notes: tuple[PredictionWarning, ...]
    constant: NDArray  # [P] the best constant output


def understand(
    function: Callable[..., Any],
    target: Rows,
    n_latent: int,
    *,
    output_shape: Shape | list[Shape] | None = None,
    batch_size: int | None = None,
    most_eigenvalues: Callable[[int], int | None] = lambda size: None,
    is_likelihood: bool = False,
) -> OwnLoss:
    """Find out what a loss function is.

    Parameters
    ----------
    function : callable
        loss(recon, x, mu, logvar), a scalar.
    target : Rows
        What `x` is.
    n_latent : int
    output_shape : tuple of int, or list of tuples, optional
        Shape of one sample's output, or of each head; by default that of the target.
    batch_size : int, optional
        Batch size of the training.
    most_eigenvalues : function
        How many leading eigenvalues to compute for a number of outputs; None means all.
    is_likelihood : bool
        Whether the function is a likelihood with the usual KL added. It then has its own scores, even where it is a
        squared error or a cross entropy.

    Raises
    ------
    InputError
        For a loss that is not understood, in one line.
    """
    conditions = conditions_of_loss(function)  # first, because a function that needs more cannot be called
    loss = LossFunction(function, target, _shapes(output_shape, target), n_latent, isinstance(output_shape, list))
    loss = replace(loss, is_likelihood=is_likelihood)
    features = feature_statistics(target.stream)  # first, because it says which value cannot be used
    few = target.thinned(max(64, min(FEW_ROWS, _MOST_VALUES // max(loss.n_outputs, target.stream.dimension))))
    mixed = np.random.default_rng(0).permutation(len(few))  # rows may be in an order that repeats
    probe = few[np.resize(mixed, probes.FEW_ROWS)]
    loss, start = probes.starting_outputs(loss, few[mixed[:_START_ROWS]], few)
    probes.check(loss, start, probe)
    derivatives = _derivatives(loss, start, few, probe, batch_size)
    regulariser = find_regulariser(loss, start, np.resize(few, (derivatives.batch_size, few.shape[1])))
    kl_unit = derivatives.unit * float(regulariser.weights.mean())
    parameters = parameters_of(loss, start, probe)
    formula = f"{loss.name}(recon, x, mu, logvar), its KL term times w"
    found = Loss(OWN, formula, SCORES, kl_unit=kl_unit, changes=regulariser.changes, conditions=conditions)
    notes, scores = _notes(regulariser), None
    with restored(parameters):
        known = recognise(derivatives, start, few[:512], parameters) if not is_likelihood else None
        if known is not None:
            found = _with_known(found, known)
            constant = known.constant(few)
            if known.decoder == LEARNED:
                fit_parameters(loss, parameters, constant, few)
        else:
            constant, kinked = _optimum(derivatives, start, few, parameters)
            scores = score_spectrum(derivatives, constant, few, kinked, most_eigenvalues(loss.n_outputs))
            notes += scores.notes + _held(parameters)
        collapsed = _collapsed_loss(derivatives, constant, few, regulariser.at_zero)
    at_zero = regulariser.at_zero / (derivatives.batch_size * float(regulariser.weights.mean()))
    return OwnLoss(found, regulariser, collapsed, at_zero, scores, features, notes, constant)


def _shapes(output_shape: Shape | list[Shape] | None, target: Rows) -> tuple[Shape, ...]:
    if output_shape is None:
        return (target.shape,)
    heads = output_shape if isinstance(output_shape, list) else [output_shape]
    for shape in heads:
        if not isinstance(shape, tuple) or not all(isinstance(size, int | np.integer) and size > 0 for size in shape):
            raise InputError(f"output_shape: {output_shape!r}, must be the shape of one sample's output, such as (64,)")
    return tuple(heads)


def _derivatives(
    loss: LossFunction, start: NDArray, few: NDArray, probe: NDArray, batch_size: int | None
) -> Derivatives:
    scaling = probes.scaling(loss, start, probe)
    if scaling.differs and batch_size is None:
        raise InputError(
            f"batch_size: missing, must be that of the training: the function {loss.name} averages one part over the "
            f"batch and sums the other"
        )
    summed = abs(scaling.reconstruction) < 0.01 and abs(scaling.regulariser) < 0.01
    size = batch_size or probes.FEW_ROWS
    widths = np.ones(loss.n_outputs)
    if loss.n_outputs % few.shape[1] == 0 and not loss.target.whole:
        deviation = few.std(0)
        typical = float(np.median(deviation[deviation > 0])) if deviation.any() else 1.0
        widths = np.tile(np.where(deviation > 0, deviation, typical), loss.n_outputs // few.shape[1])
    blocks = coupled_outputs(loss, start, probe)
    unit, held = 1.0 if summed else float(size), np.zeros(loss.n_outputs, dtype=bool)
    if blocks.shape[1] > 1 and len(blocks) == few.shape[1]:  # the heads of each feature
        held[blocks[few.std(0) == 0]] = True
    derivatives = Derivatives(loss, scaling, size, unit, blocks, widths, held, domain_of(loss, start, probe))
    return derivatives.with_narrower_widths(start, few[:512])


def _optimum(derivatives: Derivatives, start: NDArray, few: NDArray, parameters: list[Tensor]) -> tuple[NDArray, bool]:
    """The best constant output, and the best trainable parameters of the loss with it."""
    constant, kinked = constant_optimum(derivatives, start, few)
    varied = derivatives.gradients(constant, few).std() if parameters else 0.0
    for _ in range(_ROUNDS if parameters else 0):
        before = constant
        fit_parameters(derivatives.loss, parameters, constant, few)
        if not derivatives.gradients(constant, few).std() > _VANISHED * varied:
            raise InputError(
                f"loss {derivatives.loss.name}: its trainable numbers make it constant at its best, must be frozen "
                f"with requires_grad_(False) if they are those of a fixed network"
            )
        constant, kinked = constant_optimum(derivatives, constant, few)
        if np.abs(constant - before).max() <= 1e-9 * np.abs(constant).max():
            break
    check_optimum(derivatives, constant, start, few, kinked)
    return constant, kinked


def _with_known(found: Loss, known: Recognised) -> Loss:
    """The loss with the reconstruction part that was recognised."""
    if known.decoder in (FIXED, BERNOULLI):
        family = "bernoulli" if known.decoder == BERNOULLI else ""
        return replace(found, decoder=known.decoder, scale=known.weight, family=family)
    return replace(found, decoder=known.decoder, scale=known.weight, kl_unit=found.kl_unit / known.weight)


def _collapsed_loss(derivatives: Derivatives, constant: NDArray, few: NDArray, kl_term: float) -> float:
    """The loss as it is printed when every latent is collapsed, without its KL term."""
    loss, size = derivatives.loss, derivatives.batch_size
    rows = 512
    if derivatives.scaling.differs:
        # So many copies of the rows are a whole number of batches: every row counts alike.
        copies = size // math.gcd(len(few), size)
        n = copies * len(few) if copies * few.size <= _MOST_VALUES else max(size, len(few) // size * size)
        few, rows = np.resize(few, (n, few.shape[1])), size
    # Without a batch size both parts of the loss depend on it in the same way, and batches of any size will do.
    batches = [few[start : start + rows] for start in range(0, len(few), rows)]
    total = sum(loss.loss_at(constant, batch) * derivatives.factor(len(batch)) for batch in batches)
    return total / len(few) - kl_term * derivatives.unit / size


def _notes(regulariser: Regulariser) -> tuple[PredictionWarning, ...]:
    return tuple(
        PredictionWarning("kl-term", f"the KL term is not the usual one: {change}") for change in regulariser.changes
    )


def _held(parameters: list[Tensor]) -> tuple[PredictionWarning, ...]:
    n = sum(parameter.numel() for parameter in parameters)
    if n == 0:
        return ()
    number = "number" if n == 1 else "numbers"
    text = f"the loss has {n} trainable {number} of its own: held at the best value for a collapsed model"
    return (PredictionWarning("trainable-loss", text),)
