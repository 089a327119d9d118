"""Points that are not at their optimum: training has not converged, or the network of another point is better."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from phasevae.analysis.grid_advice import Known, undetermined
from phasevae.analysis.sweep_table import IDENTITY, SweptQuantity, over_beta, sweep_points
from phasevae.errors import InputError
from phasevae.wording import counted

if TYPE_CHECKING:
    import pandas as pd


COLUMN = "converged"
MOST_NAMED = 12
"""A warning names at most this many decoder variances."""

TRAIN_LONGER = "train longer, with more samples or a larger extend_unconverged"

TOLERANCE = 2e-3
"""Nats by which another network may be better: twice the largest value of the converged reference sweep."""

GAP_ERRORS = 3.0
"""A point is below the ELBO of the collapsed state if it is so by TOLERANCE and this many standard errors."""


@dataclass(frozen=True)
class Convergence:
    """Points that have not converged or whose convergence is unknown, and how many of both are left out."""

    n_unconverged: int
    n_unknown: int
    n_left_out: int
    sigma2: list[float]  # of the points that have not converged; empty for a sweep over beta
    beta: list[float] = field(default_factory=list)  # the same for a sweep over beta
    n_points: int = 0  # of the sweep, with those left out; 0 in a file of an earlier version
    enough_converged: bool = False  # whether the points that are known to have converged give a result by themselves

    @property
    def none_has_converged(self) -> bool:
        """Whether all of several points of the sweep are known not to have converged."""
        return self.n_unconverged == self.n_points > 1

    @property
    def can_change(self) -> bool:
        """Whether the result rests on points that are known not to have converged: without them there is none."""
        return self.n_points > 0 and self.n_unconverged > 0 and not (self.n_left_out or self.enough_converged)


@dataclass(frozen=True)
class Consistency:
    """The largest shortfall in nats, and the decoder variances (or weights of KL, in a sweep over beta) of points above
    TOLERANCE; None without reconstruction errors."""

    largest: float | None
    sigma2: list[float]
    beta: list[float] = field(default_factory=list)


def convergence_states(sweep: pd.DataFrame) -> NDArray[np.object_]:
    """Return `converged` of each point as True, False, or None where it is unknown (empty, or no such column)."""
    return sweep[COLUMN].to_numpy(object) if COLUMN in sweep else np.full(len(sweep), None, dtype=object)


def convergence_summary(sweep: pd.DataFrame, converged_only: bool, fitted: bool = True) -> Convergence:
    """Count the points that have not converged.

    Parameters
    ----------
    sweep
        Sweep table.
    converged_only
        Whether the analysis leaves out the points that are not known to have converged.
    fitted
        Whether a transition is fitted, for which the points that have converged are enough if they enclose it;
        otherwise any of them is.
    """
    state = convergence_states(sweep)
    unconverged = np.array([value is False for value in state], dtype=bool)
    converged = sweep[[value is True for value in state]]
    n_unconverged, n_unknown = int(unconverged.sum()), sum(value is None for value in state)
    return Convergence(
        n_unconverged=n_unconverged,
        n_unknown=n_unknown,
        n_left_out=n_unconverged + n_unknown if converged_only else 0,
        **_places(sweep, unconverged),
        n_points=len(sweep),
        enough_converged=not converged.empty and (not fitted or undetermined(Known(sweep_points(converged))) is None),
    )


def _places(sweep: pd.DataFrame, chosen: NDArray) -> dict[str, list[float]]:
    """Where some points are: their decoder variances, or their weights of KL in a sweep over beta."""
    swept, other = ("beta", "sigma2") if over_beta(sweep) else ("sigma2", "beta")
    return {swept: np.unique(sweep[swept][chosen]).tolist(), other: []}


def _named(places: Convergence | Consistency, swept: SweptQuantity | None) -> str:
    """Name some places by the column that varies, or by what the user calls it."""
    key = "beta" if places.beta else "sigma2"
    # The places are values of that column, not of the abscissa.
    if swept is None or swept.is_column:
        swept = SweptQuantity(key)
    values = [swept.at(value) for value in getattr(places, key)]
    return f"{swept.name} = " + ", ".join(values[:MOST_NAMED]) + (", ..." if len(values) > MOST_NAMED else "")


def converged_points(sweep: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that are known to have converged. Raises InputError if there is none."""
    kept = sweep[[value is True for value in convergence_states(sweep)]]
    if kept.empty:
        unconverged = any(value is False for value in convergence_states(sweep))
        remedy = TRAIN_LONGER if unconverged else f"its column '{COLUMN}' is missing or empty"
        raise InputError(
            f"sweep: none of its {counted(len(sweep), 'point')} is known to have converged, so converged_only would "
            f"leave none; {remedy}"
        )
    return kept


def rows_of(points: pd.DataFrame, table: pd.DataFrame | None) -> pd.DataFrame | None:
    """Return the rows of another table of the sweep (dimensions, histories) that belong to `points`."""
    if table is None:
        return None
    kept = set(points[[*IDENTITY]].itertuples(index=False, name=None))
    return table[[identity in kept for identity in table[[*IDENTITY]].itertuples(index=False, name=None)]]


def convergence_warning(convergence: Convergence, swept: SweptQuantity | None = None) -> str | None:
    """Return a line about the points that have not converged, None if there is none.

    Parameters
    ----------
    convergence
        Summary of the sweep.
    swept
        The quantity that was varied; by default, and where it is a column of the table, the column's name is used.
    """
    n_unconverged, n_left_out = convergence.n_unconverged, convergence.n_left_out
    if not n_unconverged:
        return None
    if convergence.none_has_converged:
        return (
            f"none of the {convergence.n_points} points has converged, so the result can still change: {TRAIN_LONGER}"
        )
    named = _named(convergence, swept)
    has, them = ("has", "it") if n_unconverged == 1 else ("have", "them")
    state = f"{n_unconverged} of {counted(convergence.n_points, 'point')} {has} not converged"
    enough = convergence.enough_converged
    if not (n_left_out or enough):
        return f"{state} ({named}), so the result can still change: {TRAIN_LONGER}"
    state += f", {named}"
    if not n_left_out:
        return f"{state}: train longer, or leave {them} out (converged_only)"
    if convergence.n_unknown:
        state += f"; of {convergence.n_unknown} it is unknown"
    left = f"{state}: {counted(n_left_out, 'is', 'are')} left out"
    return left if enough else f"{left}, and the others do not enclose a transition: {TRAIN_LONGER}"


def shortfall(sweep: pd.DataFrame) -> NDArray[np.float64]:
    """Return by how many nats of ELBO the best network of the sweep, measured at each point, beats the point's own.

    The sweep has the columns sigma2, beta, kl, and mse or reconstruction, all of one data set; that of a hierarchy has
    kl_top and beta_top as well. The shortfall, shape [points], is 0 where the point's own network is the best; it is a
    lower bound of the distance from the optimum.
    """
    sigma2, beta, kl = (sweep[column].to_numpy() for column in ("sigma2", "beta", "kl"))
    # Of a hierarchy, `kl` is the divergence of both levels, and each level has a weight of its own.
    is_hierarchy = "kl_top" in sweep and "beta_top" in sweep
    kl_top, beta_top = (
        sweep[column].to_numpy() if is_hierarchy else np.zeros_like(kl) for column in ("kl_top", "beta_top")
    )
    energy = sweep["reconstruction"].to_numpy() if "reconstruction" in sweep else sweep["mse"].to_numpy() / 2
    own = energy / sigma2 + beta * (kl - kl_top) + beta_top * kl_top
    best = np.array(
        [
            np.min(energy / value + weight * (kl - kl_top) + weight_top * kl_top)
            for value, weight, weight_top in zip(sigma2, beta, beta_top, strict=True)
        ],
        dtype=float,
    )
    return own - best


def optimality_summary(sweep: pd.DataFrame) -> Consistency:
    """Find the points at which the network of another point is better."""
    if "mse" not in sweep and "reconstruction" not in sweep:
        return Consistency(None, [])
    nats = shortfall(sweep)
    return Consistency(float(nats.max()), **_places(sweep, nats > TOLERANCE))


def optimality_warning(consistency: Consistency, swept: SweptQuantity | None = None) -> str | None:
    """Return a line about the points at which another network is better, None if there is none.

    Parameters
    ----------
    consistency
        Summary of the sweep.
    swept
        See `convergence_warning`.
    """
    return _better("the network of another point", consistency, swept)


def collapse_warning(sweep: pd.DataFrame, swept: SweptQuantity | None = None) -> str | None:
    """Return a line about the points at which the collapsed state is better, which every network can reach.

    None if there is none. The arguments are the sweep table, and as in `convergence_warning`.
    """
    if "elbo_gap" not in sweep or "elbo_gap_standard_error" not in sweep:
        return None
    gap, error = (sweep[column].to_numpy(float) for column in ("elbo_gap", "elbo_gap_standard_error"))
    below = Consistency(float(-gap.min()), **_places(sweep, gap < -(TOLERANCE + GAP_ERRORS * error)))
    line = _better("the collapsed state", below, swept)
    return line and f"{line}, or hold out fewer samples if it overfits"


def _better(other: str, places: Consistency, swept: SweptQuantity | None) -> str | None:
    if not (places.sigma2 or places.beta):
        return None
    return (
        f"at {_named(places, swept)} {other} has a better ELBO, by up to {places.largest:.2g} nats: train longer there"
    )
