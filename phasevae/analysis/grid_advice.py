"""Where to add points to a sweep that does not show its transition."""

from __future__ import annotations

import numpy as np

from phasevae.analysis.sweep_table import ACTIVE_AGAIN, COLLAPSED_KL, MIN_POINTS, Points
from phasevae.spectrum.spectrum import Spectrum
from phasevae.theory.ppca import ACTIVE_KL
from phasevae.wording import counted


def undetermined(points: Points) -> tuple[str, str | None] | None:
    """Return why the points cannot enclose a transition and where to add points (None: that would not help), or None
    if they can."""
    if points.x.size < MIN_POINTS:
        few = counted(points.x.size, "value")
        return f"{few} of beta * sigma2, needs {MIN_POINTS}", points_wanted(points)
    if points.kl.max() < ACTIVE_KL:
        return f"all collapsed: KL is below {ACTIVE_KL} nats at every point", points_wanted(points)
    if points.kl.min() > COLLAPSED_KL:
        return f"none collapsed: KL is above {COLLAPSED_KL} nats at every point", points_wanted(points)
    if points.kl[-1] > ACTIVE_AGAIN:
        reason = f"KL is {points.kl[-1]:.3g} nats at the largest beta * sigma2, though it is collapsed at smaller ones"
        return reason, None
    return None


def points_wanted(points: Points) -> str | None:
    """Say which points to add: above those that are all active, below those that are all collapsed, else between the
    last active one and the next. None without a point."""
    if not points.x.size:
        return None
    if points.kl.max() < ACTIVE_KL:
        return f"add points with {points.swept.name} below {points.swept.at(points.x[0])}"
    active = np.flatnonzero(points.kl > COLLAPSED_KL)
    if not active.size:
        return f"add points around {points.swept.name} = {points.swept.at(points.x[0])}"
    last = active[-1]
    if last == points.x.size - 1:
        return wanted_above(points, points.x[-1])
    edges = " to ".join(points.swept.at(x) for x in points.x[last : last + 2])
    return f"add points around {points.swept.name} = {edges}"


def wanted_above(points: Points, x: float) -> str:
    """Say that points are wanted above an abscissa."""
    return f"add points with {points.swept.name} above {points.swept.at(x)}"


def with_prediction(advice: str | None, points: Points, spectrum: Spectrum | None) -> str | None:
    """Add to an advice where the spectrum predicts the transition."""
    if advice is None or spectrum is None:
        return advice
    highest = points.swept.at(spectrum.critical_variance, 4)
    place = f"at {points.swept.name} = {highest}"
    if spectrum.is_bound:
        lowest = spectrum.unaware_variance
        between = None if lowest is None else f"at {points.swept.name} = {points.swept.at(lowest, 4)} to {highest}"
        place = between or f"at {points.swept.name} = {highest} at most"
    return f"{advice}; the spectrum predicts the transition {place}"
