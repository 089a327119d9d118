"""Data of any kind as a data set, which can be saved and trained with."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import numpy as np

from phasevae.datasets.base import Dataset
from phasevae.datasets.conditions import read_condition
from phasevae.datasets.registry import dataset_from_path
from phasevae.datasets.samples import given_options
from phasevae.datasets.standardize import fitted, new_array
from phasevae.datasets.streams import sample_stream
from phasevae.errors import InputError


def collect_dataset(
    data: Any,
    standardize: str | None = None,
    condition: Any = None,
    condition_kind: str | None = None,
    **options: Any,
) -> Dataset:
    """Return a data set with all samples of any data.

    Parameters
    ----------
    data : object
        A `Dataset`, a path, or samples that `phasevae.datasets.streams.sample_stream` reads.
    standardize : str, optional
        A mode of `phasevae.datasets.standardize`; none by default.
    condition, condition_kind : optional
        What the networks see beside each row; see `phasevae.datasets.registry.build_dataset`.
    **options
        As for `phasevae.datasets.samples.read_samples`. Those that are None count as left out.

    Raises
    ------
    InputError
        For data that cannot be read, for a `SampleStream` of computed numbers, and for an option that does not fit.

    Warns
    -----
    ReadingWarning
        About constant features, and `Reading.concerns`.
    """
    options = given_options(**options)
    of_sets = given_options(standardize=standardize, condition=condition, condition_kind=condition_kind, **options)
    if isinstance(data, str | os.PathLike):
        return dataset_from_path(os.fspath(data), **of_sets)
    if isinstance(data, Dataset):
        for option in of_sets:
            raise InputError(f"{option}: must be left out for a Dataset")
        return data
    for option in options:
        if option not in ("key", "drop"):
            raise InputError(f"{option}: must be left out for data in memory, which {type(data).__name__} is")
    rows = sample_stream(data, **options)
    mode = "none" if standardize is None else standardize
    found = fitted(rows, mode)
    x, start = new_array((found.reading.n_samples, rows.dimension)), 0
    for block in rows.read():
        x[start : start + len(block)] = found.applied(block)
        start += len(block)
    return Dataset(
        name="data",
        x=x,
        mean=found.mean,
        scale=found.scale,
        preprocessing={"standardize": mode},
        constant_features=np.flatnonzero(found.constant).tolist(),
        provenance={"source": {"object": type(data).__name__}},
        condition=None if condition is None else read_condition(condition, None, len(x), condition_kind),
        reading=replace(found.reading, shape=rows.origin.shape or (rows.dimension,)) if rows.origin else found.reading,
    )
