"""Critical slowing down: the relaxation time of KL against the distance from the transition.

Training with Adam moves parameters at the pace of the learning rate, so time is counted in units of it:
T = sum of learning rates over steps. Near an equilibrium KL - KL_end ~ exp(-T / tau), with tau ~ 1 / |x - c|: the soft
mode's curvature vanishes at the transition.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from phasevae.analysis.kl_fit.profile_likelihood import LEVEL
from phasevae.analysis.records import Estimate
from phasevae.analysis.sweep_table import IDENTITY, SweptQuantity

if TYPE_CHECKING:
    import pandas as pd


MIN_ROWS = 10
MIN_POINTS = 5
MIN_CHANGE = 3.0
"""KL must change by this many times its scatter while it settles; otherwise the relaxation time is unknown."""

_TAUS = 160


@dataclass(frozen=True, kw_only=True)
class SlowingExponent(Estimate):
    """nu of tau = A |ln(x / c)|^-nu, with an own A `below` and `above` the transition, as the curvature differs."""

    expected: float
    below: float | None  # None on a side without points
    above: float | None


@dataclass(frozen=True)
class Slowing:
    """Relaxation times tau, in units of learning rate times steps, at x = beta * sigma2, and their exponent."""

    x: list[float] = field(default_factory=list)
    tau: list[float] = field(default_factory=list)
    exponent: SlowingExponent | None = None
    reason: str | None = None


def fit_slowing(histories: pd.DataFrame, critical: float | None, swept: SweptQuantity = SweptQuantity()) -> Slowing:
    """Fit the relaxation time of each point after its sigma2 stopped rising, and the exponent of |ln(x / c)|.

    The exponent is that of least squares of the logarithms.

    Parameters
    ----------
    histories
        Content of histories.csv.
    critical
        Fitted critical point c.
    swept
        The quantity that was varied, for the reason.
    """
    if critical is None:
        return Slowing(reason="no critical variance is fitted")
    times = []
    for (sigma2, beta, _), rows in histories.groupby([*IDENTITY]):
        settled = rows[np.isclose(rows["current_sigma2"], sigma2, rtol=1e-9)].sort_values("learning_time")
        tau = relaxation_time(settled["learning_time"].to_numpy(), settled["kl"].to_numpy())
        if tau is not None:
            times.append((sigma2 * beta, tau))
    if not times:
        return Slowing(reason="no point settles visibly")
    x, tau = np.array(times).T
    distance = np.abs(np.log(x / critical))
    use = distance > 0
    if np.unique(x[use]).size < MIN_POINTS:
        n = np.unique(x[use]).size
        reason = f"{swept.counted(n)} {'settles' if n == 1 else 'settle'} visibly, needs {MIN_POINTS}"
        return Slowing(x.tolist(), tau.tolist(), reason=reason)
    return Slowing(x.tolist(), tau.tolist(), _exponent(distance[use], tau[use], (x > critical)[use]))


def relaxation_time(time: NDArray, kl: NDArray) -> float | None:
    """Fit tau of KL = KL_end + B exp(-T / tau) by least squares.

    Parameters
    ----------
    time
        T of each recorded step, ascending, in units of learning rate times steps.
    kl
        KL at these steps, nats.

    Returns
    -------
    float or None
        None if the record is too short, if KL does not change, or if it settles more slowly than the record lasts.
    """
    if time.size < MIN_ROWS or time[-1] <= time[0]:
        return None
    since = time - time[0]
    taus = np.geomspace(since[-1] / 200, since[-1], _TAUS)
    decay = np.exp(-since / taus[:, None])
    centred, target = decay - decay.mean(1, keepdims=True), kl - kl.mean()
    amplitude = (centred @ target) / np.square(centred).sum(1)
    chi2 = np.square(target - amplitude[:, None] * centred).sum(1)
    at = int(chi2.argmin())
    scatter = np.sqrt(chi2[at] / (time.size - 3))
    if at in (0, _TAUS - 1) or abs(amplitude[at]) < MIN_CHANGE * scatter:
        return None
    return float(taus[at])


def _exponent(distance: NDArray, tau: NDArray, is_above: NDArray) -> SlowingExponent:
    from scipy.stats import t

    sides = [side for side in (~is_above, is_above) if side.any()]
    design = np.column_stack([-np.log(distance), *(side.astype(float) for side in sides)])
    solution, _, _, _ = np.linalg.lstsq(design, np.log(tau), rcond=None)
    dof = tau.size - design.shape[1]
    variance = np.square(np.log(tau) - design @ solution).sum() / dof
    half = t.ppf((1 + LEVEL) / 2, dof) * np.sqrt(variance * np.linalg.inv(design.T @ design)[0, 0])
    value, prefactors = float(solution[0]), iter(np.exp(solution[1:]).tolist())
    below, above = (next(prefactors) if side.any() else None for side in (~is_above, is_above))
    return SlowingExponent(value, [value - float(half), value + float(half)], expected=1.0, below=below, above=above)
