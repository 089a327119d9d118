"""Components whose variance is that of a few samples, such as an outlier: the KL of Gaussian data is not theirs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from phasevae.prediction.optimum import Optimum
from phasevae.spectrum.spectrum import Spectrum
from phasevae.wording import counted, plain

FEW, SHARE = 5.0, 0.1
"""A component is that of a few samples if they are fewer than this many, and than this part of all samples."""


@dataclass(frozen=True)
class FewRows:
    """A component that a few samples carry: its number, from 1, their number, and that of all samples."""

    component: int
    rows: float
    n_samples: int

    def __str__(self) -> str:
        return f"about {max(1, round(self.rows))} of the {counted(self.n_samples, 'sample')}"


def few_rows(optimum: Optimum) -> FewRows | None:
    """Return the first component that a few samples carry, of those of the active latents or, if none is, of the first.

    With y the values along a component, (sum y^2)^2 / sum y^4 is the number of samples that carry its variance: N of N
    samples with equal |y|, 1 where one sample has it all. It is N / (3 + excess kurtosis).
    """
    spectrum = optimum.setting.spectrum
    for j, rows in enumerate(_carrying(spectrum)[: max(1, optimum.active_range[1])]):
        if rows < min(FEW, SHARE * spectrum.n_samples):
            return FewRows(j + 1, float(rows), spectrum.n_samples)
    return None


def few_rows_of_kl(optimum: Optimum) -> FewRows | None:
    """Return the component whose few samples leave KL unknown: none where all latents are collapsed."""
    return None if optimum.verdict == "collapsed" else few_rows(optimum)


def outlier(optimum: Optimum) -> str | None:
    """Return the warning that a few samples carry a component, where they do."""
    few = few_rows(optimum)
    if few is None:
        return None
    eigenvalue = plain(float(optimum.setting.spectrum.eigenvalues[few.component - 1]))
    return (
        f"component {few.component}, with the eigenvalue {eigenvalue}, is that of {few} alone, an outlier or an error: "
        f"a latent that only tells it from the others needs far less KL than Gaussian data do, so that KL is not known "
        f"while it lives, and it may survive well above its threshold; check the samples farthest from the mean, and "
        f"predict without them if they are not meant"
    )


def _carrying(spectrum: Spectrum) -> NDArray:
    """Number of samples that carry each of the leading components; NaN where the kurtosis is not known."""
    return spectrum.n_samples / (3 + np.asarray(spectrum.excess_kurtosis, dtype=float))
