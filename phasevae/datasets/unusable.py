"""What is said about values that no statistics can be computed of: missing, infinite or too large ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from phasevae.datasets.base import SampleStream
from phasevae.datasets.left_out import drop_hint
from phasevae.errors import InputError

_SHOWN = 10
"""More columns than this are counted."""


def unusable_value(rows: SampleStream, block: NDArray, first_row: int, largest: float) -> InputError:
    """Return the error for a block of rows with a value that is not finite or too large.

    Parameters
    ----------
    rows : SampleStream
        All rows. They are read once more, to count what is missing.
    block : array [b, D]
        The first rows with such a value.
    first_row : int
        Number of the first row of the block.
    largest : float
        The largest magnitude of a value.
    """
    columns = rows.origin.columns if rows.origin is not None else ()
    row, column = np.argwhere(~(np.abs(block) <= largest))[0]
    where = f"'{columns[column]}' (row counted from 0)" if columns else f"{column} (counted from 0)"
    found = f"{rows.label}: value {block[row, column]} at row {first_row + row}, column {where}"
    if np.isfinite(block[row, column]):
        return InputError(f"{found}, must be finite and at most {largest:g} in magnitude")
    missing = sum(
        (~np.isfinite(block)).sum(axis=0) for block in (rows.read() if rows.unrounded is None else rows.unrounded())
    )
    bad = np.flatnonzero(missing)
    remedy = "rows (dropna)"
    if rows.origin is not None and len(rows.origin.shape) == 1 and bad.size < rows.dimension:
        count = f", {bad.size} columns" if bad.size > _SHOWN else ""
        remedy += f" or columns ({drop_hint([columns[i] if columns else int(i) for i in bad])}{count})"
    return InputError(
        f"{found}, one of {missing.sum()} that are missing or infinite, must be finite: fill them, or leave out their "
        f"{remedy}"
    )
