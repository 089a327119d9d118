"""A spectrum: covariance eigenvalues of data with their sampling errors, and what else the passes over the data gave.

The largest eigenvalue is the predicted critical variance of the decoder (Li et al. 2026, Eq. 26). For a likelihood
other than the Gaussian one, the rows are its whitened scores, and the largest eigenvalue is the critical weight of KL.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phasevae.datasets.reading import Reading
from phasevae.theory.conditional import ConditionModes, single
from phasevae.wording import counted, with_error

N_LEADING = 8
"""Number of components whose skewness and excess kurtosis are reported."""

FEW_SAMPLES = 50
"""Fewer samples do not determine a kurtosis (that of two samples is always -2). Their standard errors are at least
those of Gaussian data."""

MOST_MEASURED = 4096
"""Components after this one get the standard error of Gaussian data."""


@dataclass(frozen=True)
class ConditionSpectrum:
    """The spectrum of the rows of one class: its value, its share of all rows, and their covariance eigenvalues."""

    value: Any
    share: float
    spectrum: Spectrum


@dataclass(frozen=True)
class LikelihoodRecord:
    """The likelihood whose whitened scores a spectrum is of, and its constant decoder."""

    name: str
    options: dict[str, Any]
    collapsed_loss: float  # mean of -ln p(x) under the constant decoder, nats per sample


@dataclass(frozen=True)
class Spectrum:
    """Eigenvalues of the covariance (1/N) of N samples in D dimensions, in squared units of the data.

    Of data with a condition, these are the eigenvalues of the rows less what they have in common with their condition;
    for classes, less the mean of their class. `critical_variance` is the largest eigenvalue of any class.
    """

    eigenvalues: NDArray  # [D], descending; or only the leading ones
    standard_errors: NDArray  # of the eigenvalues
    trace: float
    n_samples: int
    critical_variance: float  # the first eigenvalue, of all classes
    skewness: NDArray  # [min(D, 8)], of the leading principal components; NaN where the eigenvalue is zero
    excess_kurtosis: NDArray  # [min(D, 8)]
    variance_proxy: float | None = None  # collapse is the global optimum from here on (spectrum.variance_proxy)
    name: str = ""
    data_sha256: str | None = None
    provenance: dict[str, Any] = field(default_factory=dict)
    n_features: int | None = None  # D, where only the leading eigenvalues are known
    reading: Reading | None = None  # what was read; None in a file of an older version
    condition: dict[str, Any] | None = None  # kind and source of the condition, which everything here is less
    conditions: tuple[ConditionSpectrum, ...] = ()  # of the classes of the condition
    unaware_variance: float | None = None  # threshold of a linear encoder that does not see the condition
    likelihood: LikelihoodRecord | None = None  # None for a Gaussian decoder: the spectrum of the data themselves
    is_bound: bool = False  # of a sweep whose encoder does not see the condition (analysis.sweep_table); in no file

    @property
    def dimension(self) -> int:
        return self.eigenvalues.size if self.n_features is None else self.n_features

    @property
    def modes(self) -> tuple[ConditionModes, ...]:
        """The modes that the closed forms of `theory.conditional` take: of each class, or of all rows."""
        if not self.conditions:
            return single(self.eigenvalues)
        return tuple(ConditionModes(each.share, each.spectrum.eigenvalues) for each in self.conditions)

    @property
    def leading(self) -> Spectrum:
        """The spectrum that has the critical variance: that of the class with the largest eigenvalue, or this one."""
        return max((each.spectrum for each in self.conditions), key=lambda s: s.critical_variance, default=self)

    def __repr__(self) -> str:
        size = f"{counted(self.n_samples, 'sample')} of {counted(self.dimension, 'feature')}"
        critical = with_error(self.critical_variance, float(self.leading.standard_errors[0]))
        what = "critical variance" if self.likelihood is None else f"{self.likelihood.name}, critical KL weight"
        return f"<Spectrum{self.name and f' of {self.name}'}: {size}, {what} {critical}>"


def assemble_spectrum(
    eigenvalues: NDArray, trace: float, n: int, skewness: NDArray, kurtosis: NDArray, variance_proxy: float | None
) -> Spectrum:
    """Return the spectrum with these eigenvalues and the standard errors that follow.

    Parameters
    ----------
    eigenvalues : array [D]
        Descending.
    trace : float
        Sum of all eigenvalues.
    n : int
        Number of samples.
    skewness, kurtosis : array [k]
        Skewness and excess kurtosis of the leading components. Where the kurtosis is NaN or not known, the standard
        error is that of Gaussian data. With fewer than FEW_SAMPLES it is at least that.
    variance_proxy : float, optional
    """
    known_kurtosis = np.zeros(eigenvalues.size)
    # That of few samples is not determined, so we assume Gaussian data. That of more is at least -2, but for rounding.
    least = 0.0 if n < FEW_SAMPLES else -2.0
    known_kurtosis[: kurtosis.size] = np.maximum(np.nan_to_num(kurtosis), least)
    return Spectrum(
        eigenvalues=eigenvalues,
        standard_errors=eigenvalues * np.sqrt((2 + known_kurtosis) / n),
        trace=trace,
        n_samples=n,
        critical_variance=float(eigenvalues[0]),
        skewness=skewness[:N_LEADING],
        excess_kurtosis=kurtosis[:N_LEADING],
        variance_proxy=variance_proxy,
    )


def gaussian_scatter(n_samples: int) -> tuple[float, float]:
    """Return how far skewness and excess kurtosis of Gaussian samples scatter: 4 standard errors, sqrt(6 / N) and
    sqrt(24 / N)."""
    return 4 * (6 / n_samples) ** 0.5, 4 * (24 / n_samples) ** 0.5


def looks_gaussian(spectrum: Spectrum) -> bool:
    """Return whether |skewness| and |excess kurtosis| of the leading components are within 0.1 or `gaussian_scatter`.

    Undefined moments (NaN) count as Gaussian. Of data with classes, each class must look so. Scores of another
    likelihood never do, and a bound does not: the curves of Gaussian data are not theirs.
    """
    if spectrum.is_bound or spectrum.likelihood is not None:
        return False
    if spectrum.conditions:
        return all(looks_gaussian(each.spectrum) for each in spectrum.conditions)
    moments = spectrum.skewness, spectrum.excess_kurtosis
    return not any(
        np.any(np.abs(values) > max(0.1, scatter))
        for values, scatter in zip(moments, gaussian_scatter(spectrum.n_samples), strict=True)
    )
