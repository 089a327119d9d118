"""Threshold of each latent mode, independent of the network's basis, and the number of active latents.

Rotating two active latents costs almost nothing when their eigenvalues are close, so the posterior variance of one
latent may miss sigma2 / lambda_j. The eigenvalues e_j of Cov_x mu(x) do not rotate: at the optimum of Gaussian data
e_j = 1 - x / lambda_j, so that -1/2 ln(1 - e_j) = [1/2 ln(lambda_j / x)]_+ is the KL of mode j, with its hinge at
lambda_j.

Of other data only the beginning of this curve is known, and its slope changes where a further mode becomes active. A
mode is then fitted from there up, as the whole KL is above the second eigenvalue.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from phasevae.analysis.kl_fit.cascade import cascade_profile
from phasevae.analysis.kl_fit.fit import fit_form
from phasevae.analysis.kl_fit.forms import N_PARAMETERS, form_profile
from phasevae.analysis.records import Interval
from phasevae.analysis.sweep_table import (
    IDENTITY,
    SD_ABSOLUTE,
    SD_CRITICAL,
    SD_RELATIVE,
    Points,
    SweptQuantity,
    seed_means,
    weighted,
)
from phasevae.spectrum.spectrum import Spectrum, looks_gaussian
from phasevae.theory.ppca import ppca_active_dims, ppca_exact_above

if TYPE_CHECKING:
    import pandas as pd


DEPTH = 0.5
"""A threshold is fitted to the points above this part of its rough value."""

_LARGEST = 1 - 1e-9


@dataclass(frozen=True)
class Mode:
    """Threshold of one mode as beta * sigma2, None with the `reason` if it collapses nowhere or is never active."""

    mode: int  # from 1
    threshold: float | None
    ci95: Interval | None
    amplitude: float | None
    n_points: int
    reason: str | None
    predicted: float | None  # eigenvalue
    relative_error: float | None


@dataclass(frozen=True)
class Staircase:
    """Number of active modes at each x = beta * sigma2, measured and, with a spectrum, predicted."""

    x: list[float]
    active: list[int]
    predicted: list[int] | None


@dataclass(frozen=True)
class Thresholds:
    """Thresholds of all modes and the staircase of active dimensions, or the `reason` why there are none."""

    modes: list[Mode]
    staircase: Staircase | None
    reason: str | None


def mode_kl(dimensions: pd.DataFrame) -> tuple[NDArray, NDArray]:
    """Return x [n] and the KL of each mode [n, n_latent] in nats, averaged over seeds, with modes in order of size."""
    kl = -0.5 * np.log1p(-np.clip(dimensions["mean_eigenvalue"], 0.0, _LARGEST))
    table = dimensions.assign(kl=kl)
    table["mode"] = table.groupby([*IDENTITY])["kl"].rank(ascending=False, method="first").astype(int)
    means = seed_means(table, ["kl"], by=("x", "mode"))["kl"]["mean"].unstack("mode")
    return means.index.to_numpy(), means.to_numpy()


def fit_thresholds(
    dimensions: pd.DataFrame,
    spectrum: Spectrum | None = None,
    n_latent: int | None = None,
    swept: SweptQuantity = SweptQuantity(),
) -> Thresholds:
    """Fit the threshold of each mode with its 95 % interval, and count the active modes at each point.

    A mode is active above SD_CRITICAL nats: slow relaxation may leave that much of a collapsed mode.

    Parameters
    ----------
    dimensions
        Content of dimensions.csv.
    spectrum
        Spectrum of the data, for the predicted thresholds. A bound predicts none.
    n_latent
        Number of latents of the networks; taken from the table if not given.
    swept
        The quantity that was varied, for the reasons.
    """
    if "mean_eigenvalue" not in dimensions:
        return Thresholds([], None, "dimensions: column 'mean_eigenvalue' is missing; collect the points again")
    x, kl = mode_kl(dimensions)
    eigenvalues = None if spectrum is None or spectrum.is_bound else spectrum.eigenvalues
    gaussian = spectrum is None or looks_gaussian(spectrum)
    lower = 0.0 if eigenvalues is None else ppca_exact_above(eigenvalues, n_latent or kl.shape[1])
    exact = x >= lower
    modes = []
    for j in range(kl.shape[1]):
        predicted, following = (
            None if eigenvalues is None or i >= eigenvalues.size else float(eigenvalues[i]) for i in (j, j + 1)
        )
        alone_above = None
        if not gaussian:
            alone_above = _alone_above(x[exact], kl[exact, j + 1 : j + 2], following)
        modes.append(
            _fit_mode(j + 1, x[exact], kl[exact, j], alone_above=alone_above, predicted=predicted, name=swept.name)
        )
    active = (kl > SD_CRITICAL).sum(1)
    steps = None
    if eigenvalues is not None:
        steps = ppca_active_dims(eigenvalues, x, n_latent or kl.shape[1]).tolist()
    return Thresholds(modes, Staircase(x.tolist(), active.tolist(), steps), None)


def _alone_above(x: NDArray, following_kl: NDArray, following: float | None) -> float:
    """Return the x above which a mode is the last active one: the following mode is collapsed there.

    That mode is active up to its eigenvalue, and up to the place with the fewest points on the wrong side of it: single
    points that are collapsed below or active above have not converged, and do not decide what is fitted.

    Parameters
    ----------
    x
        Abscissae, ascending, [n].
    following_kl
        KL of the following mode, [n, 1] in nats; [n, 0] after the last mode.
    following
        Its eigenvalue, if known.
    """
    active = (following_kl > SD_CRITICAL).any(1)
    # Of several such places the lowest.
    n_active = int(np.cumsum([0, *np.where(active, -1, 1)]).argmin())
    return float(max(x[:n_active].max(initial=0.0), following or 0.0))


def _fit_mode(
    mode: int, x: NDArray, kl: NDArray, *, alone_above: float | None, predicted: float | None, name: str
) -> Mode:
    """Fit the hinge of one mode's KL.

    Parameters
    ----------
    mode
        Its number, from 1.
    x, kl
        Abscissae, ascending, and its KL in nats, both [n].
    alone_above
        See `_alone_above`: the hinge has a free amplitude and is fitted above this x. None for Gaussian data, whose
        amplitude is 1/2.
    predicted
        Its eigenvalue, if known.
    name
        Name of the quantity that was varied, for the reason.
    """
    active = x[kl > SD_CRITICAL]
    if not active.size:
        return Mode(mode, None, None, None, 0, "never active where theory is exact", predicted, None)
    if active.max() == x.max():
        return Mode(mode, None, None, None, 0, f"active at every {name}", predicted, None)
    near = x >= DEPTH * active.max()
    if alone_above is not None:
        # Two active points give the slope, and a fit takes more points than it has parameters.
        needed = min(active[-2:].min(), x[-N_PARAMETERS["log"] - 1 :].min())
        near &= (x > alone_above) | (x >= needed)
    # Weights as for one seed: the error that all seeds share, of a mode that has not quite settled, is larger.
    ones = np.ones(near.sum(), int)
    points = weighted(Points(x[near], kl[near], ones, ones), _rough_threshold(x[near], kl[near]))
    if alone_above is None:
        fit = fit_form(points, cascade_profile(points, 1, [[active.max()]]), 2)
    else:
        fit = fit_form(points, form_profile("log", points), N_PARAMETERS["log"])
    amplitude = 0.5 if alone_above is None else (fit.parameters or {}).get("amplitude")
    threshold = fit.critical_variance
    error = None if threshold is None or not predicted else threshold / predicted - 1
    return Mode(mode, threshold, fit.ci95, amplitude, int(near.sum()), fit.reason, predicted, error)


def _rough_threshold(x: NDArray, kl: NDArray) -> float:
    """Median of x exp(2 KL) where KL is above its error."""
    above = kl > 2 * (SD_ABSOLUTE + SD_RELATIVE * kl)
    return float(np.median((x * np.exp(2 * kl))[above])) if above.any() else float(x.max())
