"""The spectrum that a sweep over the KL weight is compared with: that of the whitened scores of its likelihood."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from phasevae.artifacts.names import OWN
from phasevae.datasets.base import Dataset, SampleStream
from phasevae.datasets.class_streams import streams_of_classes
from phasevae.datasets.feature_statistics import feature_statistics
from phasevae.datasets.samples import read_samples
from phasevae.datasets.store import load_dataset
from phasevae.likelihoods.classes import fit_classes, scores_of_classes
from phasevae.likelihoods.registry import find_likelihood
from phasevae.prediction.measured import whitened_scores
from phasevae.spectrum.measure import measure_spectrum
from phasevae.spectrum.spectrum import ConditionSpectrum, LikelihoodRecord, Spectrum
from phasevae.sweeps.settings import check_with_condition


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
        For an unknown family or option, for data that it cannot have, and for a condition that does not go with it.
    """
    dataset, options = source if isinstance(source, Dataset) else load_dataset(source), dict(options or {})
    rows = read_samples(dataset)
    if dataset.condition is not None:
        check_with_condition(name, options)
        spectrum, loss = _spectrum_of_classes(rows, name, options)
    elif name.startswith(OWN):
        from phasevae.prediction.own_likelihood import own_likelihood

        own = own_likelihood(name, options, dataset.x)
        spectrum, loss = own.spectrum, own.collapsed_loss
    else:
        fitted = find_likelihood(name, **options).fit(rows, feature_statistics(rows))
        spectrum = measure_spectrum(whitened_scores(rows, fitted), with_variance_proxy=False).spectrum
        loss = fitted.loss
    classes = (
        replace(each, spectrum=replace(each.spectrum, likelihood=LikelihoodRecord(name, options, loss)))
        for each in spectrum.conditions
    )
    return replace(
        spectrum,
        conditions=tuple(classes),
        name=dataset.name,
        data_sha256=dataset.digest,
        provenance=dataset.provenance,
        reading=rows.reading,
        likelihood=LikelihoodRecord(name, options, loss),
    )


def _spectrum_of_classes(rows: SampleStream, name: str, options: Mapping[str, Any]) -> tuple[Spectrum, float]:
    """Return the spectrum of the scores of rows with classes, and the mean loss of the collapsed state."""
    fits = fit_classes(find_likelihood(name, **options), rows)
    spectra, loss = [], 0.0
    for each, fit in zip(streams_of_classes(rows), fits, strict=True):
        spectrum = measure_spectrum(whitened_scores(each.rows, fit), with_variance_proxy=False).spectrum
        spectra.append(ConditionSpectrum(each.value, each.share, spectrum))
        loss += each.share * fit.loss
    of_all = measure_spectrum(scores_of_classes(fits, rows), with_variance_proxy=False).spectrum
    found = replace(
        of_all,
        critical_variance=max(each.spectrum.critical_variance for each in spectra),
        condition={"kind": rows.condition.coding.kind, "source": rows.condition.source},
        conditions=tuple(spectra),
    )
    return found, loss
