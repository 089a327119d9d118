"""What to do about a sweep that does not show its transition: which points to add, or which window to choose."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from phasevae.analysis.records import OPEN
from phasevae.analysis.sweep_table import ACTIVE_AGAIN, COLLAPSED_KL, CRITICAL_WIDTH, MIN_POINTS, Points
from phasevae.spectrum.spectrum import Spectrum
from phasevae.theory.ppca import ACTIVE_KL


@dataclass(frozen=True)
class Known:
    """What advice rests on: all points of a sweep, the spectrum of its data, and whether the user chose a window."""

    points: Points
    spectrum: Spectrum | None = None
    has_window: bool = False


def undetermined(known: Known) -> tuple[str, str | None] | None:
    """Return why the points cannot enclose a transition and what to do (None: more points would not help), or None if
    they can."""
    points = known.points
    if points.x.size < MIN_POINTS:
        return f"{points.swept.counted(points.x.size)}, needs {MIN_POINTS}", points_wanted(known)
    if points.kl.max() < ACTIVE_KL:
        return f"all collapsed: KL is below {ACTIVE_KL} nats at every point", points_wanted(known)
    if points.kl.min() > COLLAPSED_KL:
        return f"none collapsed: KL is above {COLLAPSED_KL} nats at every point", points_wanted(known)
    if points.kl[-1] > ACTIVE_AGAIN:
        largest = f"{points.kl[-1]:.3g} nats at the largest {points.swept.name}"
        return f"KL is {largest}, though it is collapsed at smaller ones", None
    return None


def open_interval(advice: str | None) -> str:
    """Return the warning of a fit whose 95 % interval is open on both sides, with what to do about it."""
    return OPEN if advice is None else f"{OPEN}; {advice}"


def points_wanted(known: Known, inside: Points | None = None) -> str | None:
    """Say where points would show the transition: above those that are all active, below those that are all collapsed,
    else between the last active one and the next.

    Parameters
    ----------
    known
        What the advice rests on.
    inside
        The points that were fitted. If the user chose a window that leaves out others, a wider one is advised.

    Returns
    -------
    str or None
        None without a point.
    """
    points = known.points
    if not points.x.size:
        return None
    if known.has_window and inside is not None and inside.x.size < points.x.size:
        return _with_place(_wider_window(inside), known)
    active = np.flatnonzero(points.kl > COLLAPSED_KL)
    if not active.size:
        return _wanted_below(known)
    last = active[-1]
    if last == points.x.size - 1:
        return wanted_above(known, points.x[-1])
    edges = " to ".join(points.swept.at(x) for x in points.x[last : last + 2])
    return _with_place(f"add points around {points.swept.name} = {edges}", known)


def wanted_beyond(known: Known, inside: Points) -> str:
    """Say that the transition lies above the points that were fitted: see `points_wanted`."""
    if known.has_window and inside.x[-1] < known.points.x[-1]:
        return _with_place("choose a window that reaches higher", known)
    return wanted_above(known, inside.x[-1])


def wanted_above(known: Known, x: float) -> str:
    """Say that points are wanted above an abscissa, or that points above the prediction are active."""
    _, highest = _predicted(known.spectrum)
    if highest is not None and highest < (1 - CRITICAL_WIDTH) * x:
        return (
            f"the spectrum predicts the transition {_place(known)}, but points above it are active: they have not "
            "converged, the transition is abrupt, or the data differ from those of the spectrum"
        )
    return _with_place(f"add points with {known.points.swept.name} above {known.points.swept.at(x)}", known)


def _wanted_below(known: Known) -> str:
    x, swept = known.points.x[0], known.points.swept
    lowest, _ = _predicted(known.spectrum)
    # Next to the transition networks collapse too early, as relaxation slows down.
    if lowest is not None and lowest > (1 + CRITICAL_WIDTH) * x:
        return (
            f"the spectrum predicts the transition {_place(known)}, but points below it are collapsed: they have not "
            "converged, their training failed at the start, or the data differ from those of the spectrum"
        )
    return _with_place(f"add points with {swept.name} below {swept.at(x)}", known)


def _wider_window(inside: Points) -> str:
    if inside.kl.max() <= COLLAPSED_KL:
        return "choose a window that reaches lower"
    return f"choose a {'window that reaches higher' if inside.kl.min() > COLLAPSED_KL else 'wider window'}"


def _predicted(spectrum: Spectrum | None) -> tuple[float | None, float | None]:
    """Lowest and highest x at which the spectrum lets the transition be; None where it says nothing."""
    if spectrum is None:
        return None, None
    return spectrum.unaware_variance if spectrum.is_bound else spectrum.critical_variance, spectrum.critical_variance


def _place(known: Known) -> str:
    swept, (lowest, highest) = known.points.swept, _predicted(known.spectrum)
    place = f"at {swept.name} = {swept.at(highest, 4)}"
    if lowest is None:
        return f"{place} at most"
    return place if lowest == highest else f"at {swept.name} = {swept.at(lowest, 4)} to {swept.at(highest, 4)}"


def _with_place(advice: str, known: Known) -> str:
    """Add to an advice where the spectrum predicts the transition."""
    return advice if known.spectrum is None else f"{advice}; the spectrum predicts the transition {_place(known)}"
