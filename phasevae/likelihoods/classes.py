"""Likelihoods of data with classes: a constant decoder for each class, and the scores that it leaves.

If decoder and encoder see the class, each class is a problem of its own: the collapsed state is the best constant
output of each class, and the model is collapsed if every class is. Its whitened scores then give the thresholds.
A decoder that adds its class to the outputs has one set of directions for all. Its thresholds are the eigenvalues of
the scores of all rows in units of the mean curvature, which generalises the covariance of the rows less their class
means. Global parameters must be the same in each class, because a training has one set of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from phasevae.datasets.base import SampleStream
from phasevae.datasets.class_streams import streams_of_classes
from phasevae.errors import InputError
from phasevae.likelihoods.base import FittedLikelihood, Likelihood


def fit_classes(likelihood: Likelihood, rows: SampleStream) -> list[FittedLikelihood]:
    """Fit the constant decoder of each class.

    Parameters
    ----------
    likelihood : Likelihood
    rows : SampleStream
        With a condition.

    Raises
    ------
    InputError
        For a condition of numbers, values that the family cannot have, and a class in which no feature varies.
    """
    if not rows.condition.is_classes:
        raise InputError(f"likelihood: {likelihood.name}, must be gaussian for a condition of numbers")
    return [likelihood.fit(each.rows) for each in streams_of_classes(rows)]


def class_offsets(fits: list[FittedLikelihood]) -> NDArray:
    """Return the outputs of the constant decoder of each class, [C, P]."""
    return np.stack([np.concatenate([output.ravel() for output in fit.outputs.values()]) for fit in fits])


def scores_of_classes(fits: list[FittedLikelihood], rows: SampleStream) -> SampleStream:
    """Return the scores of all rows, class by class, in units of the root of the mean curvature.

    Parameters
    ----------
    fits : list of FittedLikelihood
        Of the classes, with diagonal curvatures.
    rows : SampleStream
        With the condition.
    """
    classes = streams_of_classes(rows)
    curvature = sum(each.share * np.diagonal(fit.curvature()) for each, fit in zip(classes, fits, strict=True))
    unit = np.where(curvature > 0, 1 / np.sqrt(np.where(curvature > 0, curvature, 1.0)), 0.0)

    def read() -> Iterator[NDArray]:
        for each, fit in zip(classes, fits, strict=True):
            for block in each.rows.read():
                yield unit * fit.scores(block)

    return replace(rows, read=read, dimension=unit.size, condition=None, reading=None, unrounded=None)
