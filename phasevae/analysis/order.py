"""Order of the transition: jumps of ELBO, KL and squared error and of their derivatives.

Ehrenfest: the order is that of the lowest derivative of the ELBO that jumps. By the envelope theorem
dELBO/dsigma2 = -D / (2 sigma2) + MSE / (2 sigma2^2), so a jump of MSE (and with it of KL) makes a transition of first
order, a jump of their slopes a transition of second order. With t = 1 - x / c a second-order collapse has KL ~ t,
squared decoder amplitude E|f - mean|^2 ~ t and ELBO gap ~ t^2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from phasevae.analysis.kl_fit.critical_point import CriticalPoint
from phasevae.analysis.kl_fit.fit import FormFit, second_eigenvalue
from phasevae.analysis.kl_fit.profile_likelihood import chi2_bound
from phasevae.analysis.least_squares import solve_unconstrained
from phasevae.analysis.records import Estimate
from phasevae.analysis.sweep_table import COLLAPSED_KL, Points, abscissa, seed_means

if TYPE_CHECKING:
    import pandas as pd

    from phasevae.spectrum.spectrum import Spectrum

KL_TOLERANCE = 0.02
"""KL counts as continuous if it jumps by less than this many nats: slow relaxation and the grid hide smaller jumps."""

LOWEST_RATIO = 0.6
"""Jumps are fitted from this part of the critical point up."""

SD = {"kl": (2e-3, 1e-2), "amplitude2": (4e-3, 1e-2), "gap": (5e-4, 2e-2)}
"""Scatter of one trained network, absolute and relative: KL and gap in nats, squared amplitude in units of x."""

N_CANDIDATES = 161


@dataclass(frozen=True)
class Jump(Estimate):
    """A jump at the transition, and the critical point `at` which the points are described best."""

    at: float | None = None


@dataclass(frozen=True)
class Jumps:
    """Jumps of a quantity (below minus above the transition) and of its slope in x (above minus below)."""

    jump: Jump
    slope_jump: Estimate


@dataclass(frozen=True)
class ElboJumps:
    """Jumps of the ELBO gap (below minus above, nats) and of its derivatives in x (above minus below).

    All but `second_jump` are positive where order is lost.
    """

    jump: Jump
    first_jump: Estimate
    second_jump: Estimate


@dataclass(frozen=True)
class Order:
    """Ehrenfest order of the transition, 1, 2 or None, with the reason and the jumps that decide it."""

    value: int | None
    reason: str
    window: list[float] | None = None
    kl: Jumps | None = None
    amplitude2: Jumps | None = None
    elbo: ElboJumps | None = None
    evidence: str | None = None  # "sweep" or "hysteresis"


def quantities(sweep: pd.DataFrame) -> dict[str, Points]:
    """Return seed means of `kl`, `gap` and `amplitude2` against x = beta * sigma2.

    gap = (ELBO - collapsed ELBO) / beta, in nats; amplitude2 = MSE of the collapsed state - MSE, in units of x. At an
    extremum of the ELBO the latter is the decoder's variance E|f - mean|^2.
    """
    x, kl = abscissa(sweep), sweep["kl"]
    gap = sweep["elbo_gap"] / sweep["beta"]
    means = seed_means(sweep.assign(gap=gap, amplitude2=2 * x * (gap + kl)), SD)
    x, count = means.index.to_numpy(), means["kl", "count"].to_numpy()
    points = {}
    for name, (absolute, relative) in SD.items():
        mean = means[name, "mean"].to_numpy()
        error = (absolute * x if name == "amplitude2" else absolute) + relative * np.abs(mean)
        points[name] = Points(x, mean, np.sqrt(count) / error, count)
    return points


def transition_order(sweep: pd.DataFrame, spectrum: Spectrum | None, fit: CriticalPoint) -> Order:
    """Determine the Ehrenfest order from the jumps at the transition.

    Parameters
    ----------
    sweep
        Sweep table with the column elbo_gap.
    spectrum
        Spectrum of the data, if known, for the edge of the single-mode window.
    fit
        Fitted critical point of the sweep.
    """
    points = quantities(sweep)
    edges = transition_edges(points["kl"], fit)
    if edges is None:
        return Order(None, fit.reason or "no transition in the sweep")
    lower = max(single_mode_edge(spectrum, fit), LOWEST_RATIO * edges[1])
    kl, amplitude2, gap = (points[name].above(lower) for name in SD)
    below = int(np.sum(kl.x < np.mean(edges)))
    above = kl.x.size - below
    if below < 3 or above < 1:
        counts = f"{fit.varied.counted(below)} below the transition in the single-mode window and {above} above it"
        return Order(None, f"{counts}, needs 3 and 1")
    c = np.linspace(*edges, N_CANDIDATES)
    degree = 2 if below >= 5 else 1
    values, slopes, curvatures = [0, 1, 2][: degree + 1], [1, 2][:degree], [2, 3][:degree]
    kl_jumps, amplitude_jumps = (
        Jumps(slope_jump=_per_x(_jump(quantity, c, slopes, 1)), jump=_jump(quantity, c, values, 0))
        for quantity in (kl, amplitude2)
    )
    elbo = ElboJumps(
        _jump(gap, c, values, 0), _per_x(_jump(gap, c, [1, 2], 1)), _curvature(_jump(gap, c, curvatures, 2))
    )
    value, reason = _verdict(kl_jumps, amplitude_jumps)
    window = [float(kl.x.min()), float(kl.x.max())]
    return Order(value, reason, window, kl_jumps, amplitude_jumps, elbo)


def transition_edges(kl: Points, fit: CriticalPoint) -> tuple[float, float] | None:
    """Return the lowest and highest possible place of the transition, or None if the points do not enclose it.

    It lies between the last point that is surely active and the first point from which on all are collapsed, or in
    the fitted interval where that reaches further.

    Parameters
    ----------
    kl
        Seed means of KL.
    fit
        Fitted critical point.
    """
    active, alive = (np.flatnonzero(kl.kl > level) for level in (4 * COLLAPSED_KL, COLLAPSED_KL))
    if not active.size or alive[-1] == kl.x.size - 1:
        return None
    low, high = float(kl.x[active[-1]]), float(kl.x[alive[-1] + 1])
    ci95 = fit.ci95
    if ci95 and None not in ci95 and ci95[0] < high and ci95[1] > low:
        low, high = min(low, ci95[0]), max(high, ci95[1])
    return low, high


def single_mode_edge(spectrum: Spectrum | None, fit: CriticalPoint) -> float:
    """Return the second eigenvalue of the spectrum, else of the fitted cascade, else 0."""
    return second_eigenvalue(spectrum, fit.models.get("cascade", FormFit())) or 0.0


def _jump(points: Points, c: NDArray, powers: list[int], which: int) -> Jump:
    """Coefficient of tau^which, tau = ln(c / x), of a polynomial with these `powers` below c over a constant floor,
    profiled over the critical points c [B]."""
    tau = np.log(c[:, None] / points.x)
    below = tau > 0
    columns = [np.where(below, np.abs(tau) ** power, 0.0) for power in powers] + [np.ones_like(tau)]
    design = points.weight * np.stack(columns, axis=1)
    coefficients, chi2, inverse = solve_unconstrained(design, points.weight * points.kl)
    at = powers.index(which)
    value, variance = coefficients[:, at], inverse[:, at, at]
    limit = chi2_bound(chi2.min(), max(points.x.size - len(powers) - 2, 1))
    inside = chi2 <= limit
    half = np.sqrt(variance[inside] * (limit - chi2[inside]))
    ci95 = [float((value[inside] - half).min()), float((value[inside] + half).max())]
    return Jump(float(value[chi2.argmin()]), ci95, float(c[chi2.argmin()]))


def _per_x(jump: Jump) -> Estimate:
    """A coefficient of tau as the upward jump of the slope in x: d tau = -dx / c, and the slope above c is zero."""
    return Estimate(jump.value / jump.at, [edge / jump.at for edge in jump.ci95])


def _curvature(jump: Jump) -> Estimate:
    """A coefficient of tau^2 as the upward jump of the second derivative in x, -2 b / c^2."""
    low, high = jump.ci95
    return Estimate(-2 * jump.value / jump.at**2, [-2 * high / jump.at**2, -2 * low / jump.at**2])


def _verdict(kl: Jumps, amplitude: Jumps) -> tuple[int | None, str]:
    """The order and the reason."""
    if kl.jump.ci95[0] > KL_TOLERANCE and amplitude.jump.ci95[0] > 0:
        return 1, f"KL jumps by {kl.jump.value:.3g} nats, and with it the first derivative of the ELBO"
    if kl.jump.ci95[0] > KL_TOLERANCE:
        return None, "KL jumps, the squared error does not: the networks may not have converged"
    if kl.slope_jump.ci95[0] > 0 and amplitude.slope_jump.ci95[0] > 0:
        return 2, "KL is continuous, its slope and that of the squared error jump, hence the ELBO's second derivative"
    return None, "the jumps are not known well enough"
