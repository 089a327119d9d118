"""Points whose training did not come to rest (`converged` of a sweep): counted, named, and left out on request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from phasevae.analysis.sweep_table import IDENTITY, column_values
from phasevae.errors import InputError

if TYPE_CHECKING:
    import pandas as pd


COLUMN = "converged"
MOST_NAMED = 12
"""A warning names this many decoder variances at most."""


def convergence_states(sweep: pd.DataFrame) -> NDArray[np.object_]:
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


def convergence_summary(sweep: pd.DataFrame, converged_only: bool) -> dict[str, Any]:
    """{n_unconverged, n_unknown, n_left_out, sigma2}: points of the sweep that have not converged and their decoder
    variances, points of which it is not known, and how many `converged_only` leaves out, which is both."""
    state = convergence_states(sweep)
    unconverged = np.array([value is False for value in state], dtype=bool)
    unknown = np.array([value is None for value in state], dtype=bool)
    return {
        "n_unconverged": int(unconverged.sum()),
        "n_unknown": int(unknown.sum()),
        "n_left_out": int(unconverged.sum() + unknown.sum()) if converged_only else 0,
        "sigma2": np.unique(column_values(sweep, "sigma2")[unconverged]).tolist() if unconverged.any() else [],
    }


def converged_points(sweep: pd.DataFrame) -> pd.DataFrame:
    """The rows that are known to have converged. Raises InputError when there is none."""
    kept = sweep[[value is True for value in convergence_states(sweep)]]
    if kept.empty:
        raise InputError(f"sweep: none of its {len(sweep)} points is known to have converged, so none would be left")
    return kept


def rows_of(points: pd.DataFrame, table: pd.DataFrame | None) -> pd.DataFrame | None:
    """The rows of another table of the sweep (dimensions, histories) that belong to `points`."""
    if table is None or not set(IDENTITY) <= set(table.columns):
        return table
    kept = set(points[[*IDENTITY]].itertuples(index=False, name=None))
    return table[[identity in kept for identity in table[[*IDENTITY]].itertuples(index=False, name=None)]]


def convergence_warning(found: dict[str, Any], n_points: int) -> str | None:
    """One line about the points of `summary` that have not converged, None if all have or may have."""
    if not found["n_unconverged"]:
        return None
    values = [f"{value:g}" for value in found["sigma2"]]
    named = ", ".join(values[:MOST_NAMED]) + (", ..." if len(values) > MOST_NAMED else "")
    counted = f"{found['n_unconverged']} of {n_points} points have not converged, sigma2 = {named}"
    advice = "they are left out" if found["n_left_out"] else "train longer, or leave them out (--converged-only)"
    return f"{counted}: {advice}"


TOLERANCE = 2e-3
"""Nats that another network may be better by: twice the largest of the converged reference sweep (docs/training.md)."""


def shortfall(sweep: pd.DataFrame) -> NDArray[np.float64]:
    """By how much the best network of the sweep, measured at each point's sigma2 and beta, beats the one trained there.

    sweep: columns sigma2, beta, mse, kl, all of one data set. Returns nats of ELBO, [points], 0 where the point's own
    network is the best: a lower bound of its distance from the optimum.
    """
    sigma2, beta, mse, kl = (column_values(sweep, column) for column in ("sigma2", "beta", "mse", "kl"))
    own = mse / (2 * sigma2) + beta * kl
    best = np.array(
        [np.min(mse / (2 * value) + weight * kl) for value, weight in zip(sigma2, beta, strict=True)], dtype=float
    )
    return own - best


def optimality_summary(sweep: pd.DataFrame) -> dict[str, Any]:
    """{largest, sigma2}: the largest shortfall in nats, and the decoder variances of points above TOLERANCE; None and
    an empty list for a sweep without mse."""
    if "mse" not in sweep:
        return {"largest": None, "sigma2": []}
    found = shortfall(sweep)
    beaten = np.unique(column_values(sweep, "sigma2")[found > TOLERANCE])
    return {"largest": float(found.max()), "sigma2": beaten.tolist()}


def optimality_warning(found: dict[str, Any]) -> str | None:
    """One line about the points of `summary` that another network beats, None if there is none."""
    if not found["sigma2"]:
        return None
    named = ", ".join(f"{value:g}" for value in found["sigma2"])
    return (
        f"at sigma2 = {named} the network of another point has a better ELBO, by up to {found['largest']:.2g} nats: "
        "train longer there"
    )
