"""Samples of any kind with the options of their reader: the one way in which answers read what they are about."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phasevae.datasets.base import SampleStream, block_rows
from phasevae.datasets.conditions import read_condition
from phasevae.datasets.reading import ReadingWarning
from phasevae.datasets.registry import dataset_from_path
from phasevae.datasets.standardize import single_precision, standardized_rows
from phasevae.datasets.streams import sample_stream
from phasevae.errors import InputError


def given_options(**options: Any) -> dict[str, Any]:
    """Return the options of a reader that say something: neither None nor a `skip_damaged` that is false."""
    return {key: value for key, value in options.items() if value is not None and (key != "skip_damaged" or value)}


def read_samples(
    data: Any, most_rows: int | None = None, *, label: str = "data", numbers: bool = False, **options: Any
) -> SampleStream:
    """Return a stream of the rows of any data, in single precision as networks take them.

    The rows come in blocks of the same size whatever their source is, so that sums over them agree to the last digit.
    `ReadingWarning`s are left to the answer.

    Parameters
    ----------
    data : object
        A path, or anything that `phasevae.datasets.streams.sample_stream` reads.
    most_rows : int, optional
        The most rows of a block.
    label, numbers
        See `sample_stream`.
    **options
        Options of the reader: `standardize` for all data but data sets; for files and folders those of their kind
        (`phasevae.datasets.registry.dataset_from_path`), for data in memory `key` and `drop`; `condition` and
        `condition_kind`. Those that are None count as left out.

    Raises
    ------
    InputError
        For data that cannot be read, and for an option that does not fit them.
    """
    options = given_options(**options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ReadingWarning)
        if isinstance(data, str | os.PathLike):
            return sample_stream(dataset_from_path(data, **options), most_rows)
        standardize, condition = options.pop("standardize", None), options.pop("condition", None)
        kind = options.pop("condition_kind", None)
        for option in options:
            if option not in ("key", "drop"):
                raise InputError(f"{option}: must be left out for data in memory, which {type(data).__name__} is")
        rows = sample_stream(data, most_rows, label=label, numbers=numbers, **options)
        if rows.origin is None or rows.reading is not None:  # computed numbers, or a data set
            for option, value in (("standardize", standardize), ("condition", condition)):
                if value is not None:
                    raise InputError(f"{option}: must be left out for a {type(data).__name__}")
            return rows
        unrounded = _in_even_blocks(rows, most_rows)
        rows = single_precision(unrounded) if standardize is None else standardized_rows(unrounded, standardize)
        if condition is None:
            return rows
        return replace(rows, condition=read_condition(condition, None, sum(map(len, rows.read())), kind))


def _in_even_blocks(rows: SampleStream, most_rows: int | None) -> SampleStream:
    """The same rows in blocks of one size, whatever the batches of their source."""
    size = block_rows(rows.dimension, most_rows)
    return replace(rows, read=lambda: _even(rows.read(), size))


def _even(blocks: Iterable[NDArray], size: int) -> Iterator[NDArray]:
    """Blocks of `size` rows, the last one with what is left."""
    waiting, n = [], 0
    for block in blocks:
        start = 0
        while n + len(block) - start >= size:
            waiting.append(block[start : start + size - n])
            start += size - n
            yield _joined(waiting)
            waiting, n = [], 0
        if start < len(block):
            waiting.append(block[start:])
            n += len(block) - start
    if waiting:
        yield _joined(waiting)


def _joined(blocks: list[NDArray]) -> NDArray:
    return blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
