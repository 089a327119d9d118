"""What a condition leaves of the rows of data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from phasevae.datasets.base import SampleStream
from phasevae.datasets.conditions import Condition, offsets
from phasevae.datasets.feature_statistics import FeatureStatistics
from phasevae.theory.conditional import unaware_threshold


@dataclass(frozen=True)
class Residuals:
    """What regression on a condition leaves of the rows."""

    rows: SampleStream
    explained: NDArray  # [D, D], covariance of what it explains


def residuals(rows: SampleStream, features: FeatureStatistics) -> Residuals:
    """Regress rows on their condition; for classes this subtracts the mean of each class.

    Parameters
    ----------
    rows : SampleStream
        With a condition.
    features : FeatureStatistics
        Those of the rows.
    """
    condition: Condition = rows.condition
    found = offsets(condition, (block - features.mean for block in rows.read()))

    def read() -> Iterator[NDArray]:
        start = 0
        for block in rows.read():
            columns = condition.columns(slice(start, start + len(block))).astype(np.float64)
            start += len(block)
            yield block - features.mean - columns @ found

    columns = condition.columns().astype(np.float64)
    return Residuals(
        SampleStream(read, rows.dimension, rows.label), found.T @ (columns.T @ columns) @ found / len(columns)
    )


def unaware_variance(residual: NDArray, explained: NDArray, shares: list[float], of_classes: list[NDArray]) -> float:
    """Return `theory.conditional.unaware_threshold` of data.

    Parameters
    ----------
    residual, explained : array [D, D]
        Covariances of the residuals and of what the condition explains.
    shares : list of float
        Those of the classes; empty for a condition of numbers.
    of_classes : list of array [D, D]
        Covariances of the classes.
    """
    return unaware_threshold(residual + explained, shares or [1.0], of_classes or [residual])
