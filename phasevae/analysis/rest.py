"""Points whose training did not come to rest (`converged` of a sweep): counted, named, and left out on request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from phasevae.analysis.measured import IDENTITY, numbers
from phasevae.errors import InputError

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

COLUMN = "converged"
MOST_NAMED = 12
"""A warning names this many decoder variances at most."""


def states(sweep: pd.DataFrame) -> NDArray[np.object_]:
    """`converged` of each point as True, False, or None where it is not known (empty, or no such column).

    Raises InputError for anything else.
    """
    if COLUMN not in sweep:
        return np.full(len(sweep), None, dtype=object)
    known = {"True": True, "False": False, "nan": None, "None": None, "": None}
    found = []
    for row, value in enumerate(sweep[COLUMN]):
        if str(value) not in known:
            raise InputError(f"sweep: column '{COLUMN}', row {row + 1}: {value!r}, must be True, False or empty")
        found.append(known[str(value)])
    return np.array(found, dtype=object)


def summary(sweep: pd.DataFrame, converged_only: bool) -> dict[str, Any]:
    """{n_unconverged, n_unknown, n_left_out, sigma2}: points of the sweep that have not converged and their decoder
    variances, points of which it is not known, and how many `converged_only` leaves out, which is both."""
    state = states(sweep)
    unconverged = np.array([value is False for value in state], dtype=bool)
    unknown = np.array([value is None for value in state], dtype=bool)
    return {
        "n_unconverged": int(unconverged.sum()),
        "n_unknown": int(unknown.sum()),
        "n_left_out": int(unconverged.sum() + unknown.sum()) if converged_only else 0,
        "sigma2": np.unique(numbers(sweep, "sigma2")[unconverged]).tolist() if unconverged.any() else [],
    }


def converged_points(sweep: pd.DataFrame) -> pd.DataFrame:
    """The rows that are known to have converged. Raises InputError when there is none."""
    kept = sweep[[value is True for value in states(sweep)]]
    if kept.empty:
        raise InputError(f"sweep: none of its {len(sweep)} points is known to have converged, so none would be left")
    return kept


def rows_of(points: pd.DataFrame, table: pd.DataFrame | None) -> pd.DataFrame | None:
    """The rows of another table of the sweep (dimensions, histories) that belong to `points`."""
    if table is None or not set(IDENTITY) <= set(table.columns):
        return table
    kept = set(points[[*IDENTITY]].itertuples(index=False, name=None))
    return table[[identity in kept for identity in table[[*IDENTITY]].itertuples(index=False, name=None)]]


def warning(found: dict[str, Any], n_points: int) -> str | None:
    """One line about the points of `summary` that have not converged, None if all have or may have."""
    if not found["n_unconverged"]:
        return None
    values = [f"{value:g}" for value in found["sigma2"]]
    named = ", ".join(values[:MOST_NAMED]) + (", ..." if len(values) > MOST_NAMED else "")
    counted = f"{found['n_unconverged']} of {n_points} points have not converged, sigma2 = {named}"
    advice = "they are left out" if found["n_left_out"] else "train longer, or leave them out (--converged-only)"
    return f"{counted}: {advice}"
