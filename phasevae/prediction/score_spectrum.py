"""The spectrum that a sweep over the KL weight is compared with: that of the whitened scores of its likelihood."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from phasevae.artifacts.names import OWN
from phasevae.datasets.base import Dataset, write_npy
from phasevae.datasets.feature_statistics import feature_statistics
from phasevae.datasets.samples import read_samples
from phasevae.datasets.store import load_dataset
from phasevae.errors import InputError
from phasevae.likelihoods.registry import find_likelihood
from phasevae.prediction.measured import whitened_scores
from phasevae.spectrum.spectrum import LikelihoodRecord, Spectrum, measure_spectrum
from phasevae.sweeps.settings import GAUSSIAN


def spectrum_of_likelihood(
    source: Dataset | Path | str, name: str, options: Mapping[str, Any] | None = None
) -> Spectrum:
    """Compute the spectrum of the whitened scores of a likelihood; its largest eigenvalue is the critical KL weight.

    Parameters
    ----------
    source : Dataset or path
        The data set, or the folder of a saved one.
    name : str
        A family of `phasevae.likelihoods.registry.LIKELIHOODS`, or module:FILE.py:NAME (`own_likelihood`).
    options : mapping, optional
        Options of the family.

    Raises
    ------
    InputError
        For an unknown family or option, for data that it cannot have, and for data with a condition.
    """
    dataset, options = source if isinstance(source, Dataset) else load_dataset(source), dict(options or {})
    if dataset.condition is not None:
        raise InputError(f"likelihood: {name}, must be {GAUSSIAN} for data with a condition")
    rows = read_samples(dataset)
    if name.startswith(OWN):
        from phasevae.prediction.own_likelihood import own_likelihood

        own = own_likelihood(name, options, dataset.x)
        spectrum, loss = own.spectrum, own.collapsed_loss
    else:
        fitted = find_likelihood(name, **options).fit(rows, feature_statistics(rows))
        spectrum = measure_spectrum(whitened_scores(rows, fitted), with_variance_proxy=False).spectrum
        loss = fitted.loss
    return replace(
        spectrum,
        name=dataset.name,
        data_sha256=dataset.sha256 or write_npy(dataset.x),
        provenance=dataset.provenance,
        reading=rows.reading,
        likelihood=LikelihoodRecord(name, options, loss),
    )
