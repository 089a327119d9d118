"""The rows and the reconstruction term of a training with another likelihood than the Gaussian one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from phasevae.datasets.conditions import Condition
from phasevae.datasets.row_file import row_blocks
from phasevae.datasets.streams import sample_stream
from phasevae.file_rows import load_rows
from phasevae.kernels.family import Family
from phasevae.kernels.reconstructions import make_reconstruction
from phasevae.likelihoods.arrays import arrays_of
from phasevae.likelihoods.classes import class_offsets, fit_classes
from phasevae.likelihoods.registry import find_likelihood
from phasevae.rows import AnyRows
from phasevae.sweeps.settings import Settings, check_with_condition


def rows_and_family(
    x: np.ndarray,
    settings: Settings,
    device: torch.device | str = "cpu",
    own: Family | None = None,
    data_memory: int | None = None,
    condition: Condition | None = None,
) -> tuple[AnyRows, Family]:
    """Prepare a data set for the device and make the reconstruction term of its likelihood, which is not Gaussian.

    Parameters
    ----------
    x : array [N, D]
    settings : Settings
        The likelihood and its options.
    device : torch.device or str
    own : Family, optional
        The fitted function of the user's own, for the likelihood `module:...`.
    data_memory : int, optional
        Bytes that the rows may take; see `phasevae.file_rows.load_rows`.
    condition : Condition, optional
        Of classes, each of which gets a constant decoder of its own.

    Returns
    -------
    Rows or FileRows
        As they are, with the encoder's inputs.
    Family

    Raises
    ------
    InputError
        For data that the family cannot have, and for a family that does not go with a condition.
    """
    family = own or fitted_family(settings.likelihood, settings.likelihood_options, x)
    if condition is not None:
        check_with_condition(settings.likelihood, settings.likelihood_options)
        likelihood = find_likelihood(settings.likelihood, **settings.likelihood_options)
        fits = fit_classes(likelihood, replace(sample_stream(x), condition=condition))
        family = family.with_classes(class_offsets(fits))
    family = with_inputs(family, x).to(device, torch.float32)
    return load_rows(x, device, data_memory, family.inputs), family


def fitted_family(name: str, options: Mapping[str, Any], x: np.ndarray) -> Family:
    """Fit the constant decoder of a family to rows [N, D]; its global parameters keep this optimum."""
    fitted = find_likelihood(name, **options).fit(sample_stream(x))
    return make_reconstruction(name, *arrays_of(fitted))


def with_inputs(family: Family, x: np.ndarray) -> Family:
    """Return the family with the mean of what the encoder sees of rows [N, D], and the root of its mean variance.

    One scale serves all inputs: in units of its own deviation, a pixel that is lit in one row would be large there.
    """
    mean = sum(part.sum(0) for part in _seen(family, x)) / len(x)
    variance = sum((part - mean).square().sum(0) for part in _seen(family, x)).mean() / len(x)
    return family.with_inputs(mean, variance.sqrt())


def _seen(family: Family, x: np.ndarray) -> Iterator[Tensor]:
    """Yield what the encoder sees of the rows in blocks, before it is centred and scaled, in float64."""
    for rows in row_blocks(x):
        yield family.seen(torch.from_numpy(rows.astype(np.float64)))
