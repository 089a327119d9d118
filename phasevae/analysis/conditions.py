"""The transitions of the classes of a condition: each class has thresholds of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from phasevae.analysis.sweep_table import SweptQuantity, of_condition
from phasevae.analysis.thresholds import Thresholds, fit_thresholds

if TYPE_CHECKING:
    import pandas as pd

    from phasevae.spectrum.spectrum import Spectrum

CASCADE_REASON = "the data have classes, each with thresholds of its own: see conditions"


@dataclass(frozen=True)
class ClassThresholds:
    """The thresholds of one class: its value, its share of all rows, and its modes."""

    value: Any
    share: float
    thresholds: Thresholds


def fit_conditions(
    dimensions: pd.DataFrame, spectrum: Spectrum, n_latent: int | None = None, swept: SweptQuantity = SweptQuantity()
) -> list[ClassThresholds]:
    """Fit the thresholds of each class of a condition.

    Parameters
    ----------
    dimensions
        Content of dimensions.csv, with the column `condition`.
    spectrum
        Spectrum of the data.
    n_latent
        Number of latents of the networks; taken from the table if not given.
    swept
        See `fit_thresholds`.

    Returns
    -------
    list of ClassThresholds
        In the order of the spectrum; empty for data without classes.
    """
    if "condition" not in dimensions:
        return []
    return [
        ClassThresholds(
            each.value,
            each.share,
            fit_thresholds(of_condition(dimensions, str(each.value)), each.spectrum, n_latent, swept),
        )
        for each in spectrum.conditions
    ]
