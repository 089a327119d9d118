"""What every likelihood shares: a decoder without latents, fitted to the data, and its scores and curvature there.

The constant decoder gives the outputs f0 that minimise E l(x; f), the mean negative log likelihood. The score is
g = -dl/df at f0. Its second moments are G, and H = E d2l/df2 is the curvature. Latents stay dead as long as the weight
of KL is above the largest eigenvalue of H^-1 G. Whitened scores H^-1/2 g have these eigenvalues as those of their
covariance.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from phasevae.datasets.base import SampleStream
from phasevae.datasets.feature_statistics import FeatureStatistics, feature_statistics
from phasevae.errors import InputError


@dataclass(frozen=True)
class Likelihood(ABC):
    """A family of likelihoods. The fields of a subclass are its options."""

    name: ClassVar[str]
    formula: ClassVar[str]  # one line; f is an output of the decoder
    meaning: ClassVar[str]  # what its thresholds mean, in one line

    def __post_init__(self) -> None:
        self.check()

    def check(self) -> None:  # noqa: B027, most families have nothing to check
        """Check the options. Raises InputError that names the option."""

    @abstractmethod
    def fit(self, rows: SampleStream, features: FeatureStatistics | None = None) -> FittedLikelihood:
        """Fit the constant decoder.

        Parameters
        ----------
        rows : SampleStream
            Read several times, at most one block in memory.
        features : FeatureStatistics, optional
            Those of the rows, if they are known.

        Returns
        -------
        FittedLikelihood

        Raises
        ------
        InputError
            For values that the family cannot have, and if no feature varies.
        """


@dataclass(frozen=True, kw_only=True)
class FittedLikelihood(ABC):
    """The constant decoder of a family at its optimum.

    Scores are ordered by output, then by feature. Features without a score have zeros.
    """

    likelihood: Likelihood
    outputs: dict[str, NDArray]  # by the name of each output
    constants: dict[str, NDArray]  # global parameters, held at their collapsed optimum
    constant: NDArray[np.bool_]  # [D] features that carry no score
    n_scores: int  # P
    loss: float = np.nan  # mean negative log likelihood of the rows, nats per sample

    @abstractmethod
    def negative_log_likelihood(self, x: NDArray) -> NDArray:
        """Return the negative log likelihood of rows [B, D] under the constant decoder, [B], in nats."""

    @abstractmethod
    def scores(self, x: NDArray) -> NDArray:
        """Return minus the derivatives of the negative log likelihood by the outputs, [B, P]."""

    @abstractmethod
    def whitened_scores(self, x: NDArray) -> NDArray:
        """Return the scores times the generalised inverse square root of the curvature, [B, P]."""

    @abstractmethod
    def curvature(self) -> NDArray:
        """Return the mean second derivative of the negative log likelihood by the outputs, [P, P]."""


Fitted = TypeVar("Fitted", bound=FittedLikelihood)


def with_loss(fitted: Fitted, rows: SampleStream) -> Fitted:
    """Return the fit with the mean loss of the rows that it was fitted to."""
    total = n = 0.0
    for block in rows.read():
        total += fitted.negative_log_likelihood(block).sum()
        n += len(block)
    return replace(fitted, loss=float(total / n))


def known_features(rows: SampleStream, features: FeatureStatistics | None) -> FeatureStatistics:
    """Return statistics of the features: the known ones, or those of a pass over the rows."""
    return feature_statistics(rows) if features is None else features


def require_scores(constant: NDArray[np.bool_], label: str) -> None:
    """Check that a feature carries a score. Raises InputError otherwise."""
    if constant.all():
        raise InputError(f"{label}: every feature is constant, at least one must vary")


def check_positive(key: str, value: Any, what: str = "a positive number") -> None:
    """Check that an option is a positive number. Raises InputError that names it and says `what` it must be."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not 0 < value < np.inf:
        raise InputError(f"{key}: {value!r}, must be {what}")


def check_positive_or_fit(key: str, value: Any) -> None:
    """Check that an option is a positive number or "fit". Raises InputError that names it."""
    if value != "fit":
        check_positive(key, value, "a positive number or 'fit'")


def check_whole(block: NDArray, first_row: int, label: str, what: str) -> None:
    """Check that values are whole numbers, 0 or more. Raises InputError that names the first other one.

    Parameters
    ----------
    block : array [B, D]
    first_row : int
        The number of its first row.
    label : str
        Name of the data.
    what : str
        What the values are, for the message.
    """
    bad = (block < 0) | (block != np.rint(block))
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise InputError(
            f"{label}: value {block[row, column]:g} at row {first_row + row}, column {column} (counted from 0), "
            f"must be {what}"
        )


def are_counts(rows: SampleStream) -> bool:
    """Return whether all values are whole numbers, 0 or more. Stops at the first block with another one."""
    return all(bool(np.all((block >= 0) & (block == np.rint(block)))) for block in rows.read())


COUNT = "a count (a whole number, 0 or more)"


def check_counts(rows: SampleStream) -> None:
    """Check in one pass that all values are counts. Raises InputError that names the first other one."""
    first_row = 0
    for block in rows.read():
        check_whole(block, first_row, rows.label, COUNT)
        first_row += len(block)
