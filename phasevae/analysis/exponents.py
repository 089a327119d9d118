"""Critical exponents: KL, decoder amplitude and ELBO gap as powers of the distance from the transition."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from phasevae.analysis.kl_fit.critical_point import CriticalPoint
from phasevae.analysis.kl_fit.profile_likelihood import chi2_bound
from phasevae.analysis.least_squares import solve_unconstrained
from phasevae.analysis.order import N_CANDIDATES, quantities, single_mode_edge
from phasevae.analysis.records import Estimate
from phasevae.analysis.sweep_table import Points

if TYPE_CHECKING:
    import pandas as pd

    from phasevae.spectrum.spectrum import Spectrum

EXPONENTS = {"kl": 1.0, "amplitude": 0.5, "gap": 2.0}
"""Exponents of pPCA in t = 1 - x / c: KL, amplitude of the decoder and ELBO gap of a single mode."""

T_RANGE = 0.03, 0.3
"""Exponents are fitted where t lies between these: closer to the transition, networks relax too slowly."""

MIN_SPAN = 0.1
"""The largest t must reach this: a power law needs a decade, or at least a factor of three."""

CORRECTION = -1.0, 3.0
"""Range of a in t^g (1 + a t). Gaussian data have 1/2 for KL, 0 for the squared amplitude, 4/3 for the ELBO gap."""


@dataclass(frozen=True, kw_only=True)
class Exponent(Estimate):
    """An exponent g of A t^g (1 + a t), with A (`prefactor`), a (`correction`) and the c of its own best fit."""

    prefactor: float
    correction: float
    critical_variance: float
    expected: float  # of pPCA


@dataclass(frozen=True)
class Exponents:
    """Critical exponents of the sweep, None with the `reason` if there are too few points."""

    kl: Exponent | None = None
    amplitude: Exponent | None = None
    gap: Exponent | None = None
    window: list[float] | None = None
    critical_variance: float | None = None
    reason: str | None = None


def fit_exponents(sweep: pd.DataFrame, spectrum: Spectrum | None, fit: CriticalPoint) -> Exponents:
    """Fit critical exponents of KL, decoder amplitude and ELBO gap with 95 % intervals.

    A t^g (1 + a t), t = 1 - x / c, is fitted to the points with t in T_RANGE above the second eigenvalue, with c free
    in the fitted interval.

    Parameters
    ----------
    sweep
        Table with the columns sigma2, beta, seed, kl and elbo_gap.
    spectrum
        Spectrum of the data, if known.
    fit
        Fitted critical point of the sweep.
    """
    c = fit.determined
    if c is None:
        return Exponents(reason=fit.why_undetermined)
    points = quantities(sweep)
    edge = single_mode_edge(spectrum, fit)
    if 1 - edge / c < MIN_SPAN:
        return Exponents(
            reason=f"the second eigenvalue, at t = {1 - edge / c:.2g}, is too close to the transition: exponents need "
            f"points above it with t from {T_RANGE[0]} to {MIN_SPAN} at least"
        )
    lower = max(edge, c * (1 - T_RANGE[1]))
    x = points["kl"].x
    inside = (x >= lower) & (x <= c * (1 - T_RANGE[0]))
    span = 1 - x[inside].min() / c if inside.any() else 0.0
    if inside.sum() < 5 or span < MIN_SPAN:
        return Exponents(
            reason=f"{int(inside.sum())} points with t from {T_RANGE[0]} to {span:.3f} above the second eigenvalue, "
            f"needs 5 that reach {MIN_SPAN}"
        )
    low, high = (edge if edge is not None else c for edge in fit.ci95)
    grid = np.linspace(min(low, c * 0.99), max(high, c * 1.01), N_CANDIDATES)
    grid = grid[grid > x[inside].max() * 1.002]
    kl, amplitude, gap = (
        _exponent(points[quantity].select(inside), grid, EXPONENTS[name], share)
        for name, quantity, share in (("kl", "kl", 1.0), ("amplitude", "amplitude2", 0.5), ("gap", "gap", 1.0))
    )
    return Exponents(kl, amplitude, gap, [float(x[inside].min()), float(x[inside].max())], c)


def _exponent(points: Points, c: NDArray, expected: float, share: float) -> Exponent:
    """Profile of chi2 over g of A t^g (1 + a t), minimised over c; the exponent is g times `share`."""
    middle = expected / share
    g = np.linspace(0.2 * middle, 2.2 * middle, 201)
    t = 1 - points.x / c[:, None]
    best = np.full(g.size, np.inf)
    solutions = np.zeros((g.size, 3))
    for i, exponent in enumerate(g):
        design = points.weight * np.stack([t**exponent, t ** (exponent + 1)], axis=1)
        for prefactor, correction, chi2 in _power_fits(design, points.weight * points.kl):
            at = chi2.argmin()
            if chi2[at] < best[i]:
                best[i], solutions[i] = chi2[at], (prefactor[at], correction[at], c[at])
    at = int(best.argmin())
    inside = g[best <= chi2_bound(best[at], max(points.x.size - 4, 1))]
    low, high = (None if edge in (g[0], g[-1]) else float(share * edge) for edge in (inside.min(), inside.max()))
    prefactor, correction, place = solutions[at].tolist()
    return Exponent(
        float(share * g[at]),
        [low, high],
        prefactor=prefactor,
        correction=correction,
        critical_variance=place,
        expected=expected,
    )


def _power_fits(design: NDArray, target: NDArray) -> list[tuple[NDArray, NDArray, NDArray]]:
    """(A, a, chi2), each [B], of A (column 0 + a column 1): a free where it is in CORRECTION, and at both its ends."""
    fits = []
    coefficients, chi2, _ = solve_unconstrained(design, target)
    with np.errstate(divide="ignore", invalid="ignore"):
        a = coefficients[:, 1] / coefficients[:, 0]
    allowed = (coefficients[:, 0] > 0) & (a >= CORRECTION[0]) & (a <= CORRECTION[1])
    fits.append((coefficients[:, 0], np.where(allowed, a, 0.0), np.where(allowed, chi2, np.inf)))
    for end in CORRECTION:
        prefactor, chi2, _ = solve_unconstrained(design[:, :1] + end * design[:, 1:], target)
        fits.append((prefactor[:, 0], np.full(len(chi2), end), np.where(prefactor[:, 0] > 0, chi2, np.inf)))
    return fits
