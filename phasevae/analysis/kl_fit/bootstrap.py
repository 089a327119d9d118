"""What a repetition of the sweep would give: bootstrap over seeds, and bands of the derivatives of the fitted curve."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phasevae.analysis.kl_fit.cascade import descend
from phasevae.analysis.kl_fit.fit import FormFit
from phasevae.analysis.kl_fit.forms import form_curve, form_profile
from phasevae.analysis.kl_fit.profile_likelihood import LEVEL, minimise
from phasevae.analysis.records import Interval
from phasevae.analysis.sweep_table import Points

MIN_SEEDS = 3
N_RESAMPLES = 200
_GRID = 80
_COARSE = 90
"""Critical points on the first grid of each repeated fit, whose range is a fraction of that of the fit itself."""


@dataclass(frozen=True)
class SeedBootstrap:
    """95 % interval of the critical point from resampled seeds; None with the reason for fewer than MIN_SEEDS."""

    ci95: Interval | None
    n_seeds: int
    n_resamples: int
    reason: str | None


@dataclass(frozen=True)
class Band:
    """A derivative of the fitted KL with its pointwise 95 % band, on the grid of `Derivatives`."""

    value: list[float]
    low: list[float]
    high: list[float]


@dataclass(frozen=True)
class Derivatives:
    """First and second derivative of the fitted KL, in nats per unit of x and of x squared, on a grid of x."""

    x: list[float]
    first: Band
    second: Band


def seed_bootstrap(points: Points, kl_by_seed: NDArray, name: str, model: FormFit) -> SeedBootstrap:
    """Resample the seeds of a sweep for a 95 % interval of the critical point; whole sweeps are drawn, not points.

    The interval is c +- t(seeds - 1) sd sqrt(seeds / (seeds - 1)): with few seeds percentiles would be too narrow.

    Parameters
    ----------
    points
        Points of the form's window.
    kl_by_seed
        KL [seeds, n] at their abscissae, NaN where a seed has no point.
    name
        Name of the form.
    model
        Its fit, near which the resampled seeds are fitted.
    """
    from scipy.stats import t

    n = len(kl_by_seed)
    if n < MIN_SEEDS:
        return SeedBootstrap(None, n, 0, f"{n} seed{'s' if n > 1 else ''}, needs {MIN_SEEDS}")
    # Few seeds give few different resamples. In order, they also give the same sums.
    drawn = np.sort(np.random.default_rng(0).integers(0, n, (N_RESAMPLES, n)), axis=1)
    measured = np.isfinite(kl_by_seed)
    count = measured[drawn].sum(1)
    total = np.where(measured, kl_by_seed, 0.0)[drawn].sum(1)
    kl = np.where(count > 0, total / np.maximum(count, 1), points.kl)
    critical = np.array([parameters["c"] for parameters in refits(points, kl, name, model)])
    half = t.ppf((1 + LEVEL) / 2, n - 1) * critical.std() * np.sqrt(n / (n - 1))
    c = model.critical_variance
    return SeedBootstrap([float(c - half), float(c + half)], n, N_RESAMPLES, None)


def derivative_bands(points: Points, name: str, model: FormFit, misfit: float) -> Derivatives:
    """Compute the derivatives of the fitted KL with pointwise 95 % bands, on a grid over the form's window.

    The bands come from fits of the curve with new noise.

    Parameters
    ----------
    points
        Points of the form's window.
    name
        Name of the form.
    model
        Its fit.
    misfit
        Factor of the points' errors that gives the noise level.
    """
    low, high = model.window
    kinks = model.parameters.get("eigenvalues", [model.critical_variance])
    kinks = np.array([c for c in kinks if low < c < high])
    x = np.unique(np.concatenate([np.linspace(low, high, _GRID), kinks * (1 - 1e-9), kinks]))
    noise = np.random.default_rng(1).normal(size=(N_RESAMPLES, points.x.size))
    kl = form_curve(name, model.parameters, points.x) + misfit * noise / points.weight
    drawn = refits(points, kl, name, model)

    def band(order: int) -> Band:
        values = np.array([form_curve(name, parameters, x, order) for parameters in drawn])
        edges = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
        return Band(form_curve(name, model.parameters, x, order).tolist(), *edges.tolist())

    return Derivatives(x.tolist(), band(1), band(2))


def refits(points: Points, kl: NDArray, name: str, model: FormFit) -> list[dict[str, Any]]:
    """Fit a form to each row of `kl`, near its fit to the measured KL.

    Parameters
    ----------
    points
        Points of the form's window, which give abscissae and weights.
    kl
        KL of R sweeps, shape [R, n].
    name
        Name of the form.
    model
        Its fit to the measured KL.

    Returns
    -------
    list of dict
        Parameters of each fit, and "c", its critical point.
    """
    if name == "cascade":
        logs = np.tile(np.log(model.parameters["eigenvalues"]), (len(kl), 1))
        fits = descend(points, kl, logs, np.full(len(kl), np.log(points.x.max())), n_fixed=0)
        rows = zip(fits.parameters["eigenvalues"].tolist(), fits.parameters["floor"].tolist(), strict=True)
        return [{"eigenvalues": values, "floor": floor, "c": values[0]} for values, floor in rows]
    low, high = max(points.x.min(), 0.8 * model.critical_variance), min(points.x.max(), 1.25 * model.critical_variance)
    rows, row_of = np.unique(kl, axis=0, return_inverse=True)
    best = [minimise(form_profile(name, points.with_kl(row)), low, high, _COARSE).best() for row in rows]
    return [{**parameters, "c": c} for c, parameters in (best[row] for row in row_of.ravel())]
