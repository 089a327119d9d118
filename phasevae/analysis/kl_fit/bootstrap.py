"""What repeating the sweep would do: bootstrap over seeds, and bands of the derivatives of the fitted curve."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phasevae.analysis.kl_fit.cascade import descend
from phasevae.analysis.kl_fit.forms import form_curve, form_profile
from phasevae.analysis.kl_fit.profile_likelihood import LEVEL
from phasevae.analysis.sweep_table import Points

MIN_SEEDS = 3
N_RESAMPLES = 200
_GRID = 80


def seed_bootstrap(points: Points, by_seed: NDArray, name: str, model: Mapping[str, Any]) -> dict[str, Any]:
    """95 % interval of the critical point from resampled seeds: whole sweeps, not points, are drawn.

    points: the window of the form `name`; by_seed: KL [seeds, n] at its abscissae, NaN where a seed has no point.
    The interval is c +- t(seeds - 1) sd sqrt(seeds / (seeds - 1)): with few seeds percentiles would be too narrow.
    Returns {ci95, n_seeds, n_resamples, reason}; ci95 is None, with the reason, below MIN_SEEDS seeds.
    """
    from scipy.stats import t

    n = len(by_seed)
    if n < MIN_SEEDS:
        reason = f"{n} seed{'s' if n > 1 else ''}, needs {MIN_SEEDS}"
        return {"ci95": None, "n_seeds": n, "n_resamples": 0, "reason": reason}
    drawn = np.random.default_rng(0).integers(0, n, (N_RESAMPLES, n))
    there = np.isfinite(by_seed)
    count = there[drawn].sum(1)
    total = np.where(there, by_seed, 0.0)[drawn].sum(1)
    kl = np.where(count > 0, total / np.maximum(count, 1), points.kl)
    found = np.array([parameters["c"] for parameters in refits(points, kl, name, model)])
    half = t.ppf((1 + LEVEL) / 2, n - 1) * found.std() * np.sqrt(n / (n - 1))
    c = model["critical_variance"]
    return {"ci95": [float(c - half), float(c + half)], "n_seeds": n, "n_resamples": N_RESAMPLES, "reason": None}


def derivative_bands(points: Points, name: str, model: Mapping[str, Any], misfit: float) -> dict[str, Any]:
    """First and second derivative of the fitted KL with pointwise 95 % bands, on a grid over the form's window.

    The bands come from fits of the curve with fresh noise of the points' errors times `misfit`. Returns
    {x, first {value, low, high}, second {...}}: lists, in nats per unit of x and of x squared.
    """
    low, high = model["window"]
    kinks = model["parameters"].get("eigenvalues", [model["critical_variance"]])
    kinks = np.array([c for c in kinks if low < c < high])
    x = np.unique(np.concatenate([np.linspace(low, high, _GRID), kinks * (1 - 1e-9), kinks]))
    noise = np.random.default_rng(1).normal(size=(N_RESAMPLES, points.x.size))
    kl = form_curve(name, model["parameters"], points.x) + misfit * noise / points.weight
    drawn = refits(points, kl, name, model)
    result: dict[str, Any] = {"x": x.tolist()}
    for order, key in enumerate(("first", "second"), start=1):
        values = np.array([form_curve(name, parameters, x, order) for parameters in drawn])
        edges = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
        result[key] = {
            "value": form_curve(name, model["parameters"], x, order).tolist(),
            "low": edges[0].tolist(),
            "high": edges[1].tolist(),
        }
    return result


def refits(points: Points, kl: NDArray, name: str, model: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Parameters of the form fitted to each row of kl [R, n], and "c", its critical point; starting at `model`."""
    if name == "cascade":
        logs = np.tile(np.log(model["parameters"]["eigenvalues"]), (len(kl), 1))
        found = descend(points, kl, logs, np.full(len(kl), np.log(points.x.max())), n_fixed=0)
        eigenvalues, floor = found.parameters["eigenvalues"], found.parameters["floor"]
        rows = zip(eigenvalues.tolist(), floor.tolist(), strict=True)
        return [{"eigenvalues": values, "floor": f, "c": values[0]} for values, f in rows]
    c = model["critical_variance"]
    grid = np.unique(np.append(np.linspace(max(points.x.min(), 0.8 * c), min(points.x.max(), 1.25 * c), 90), c))
    best = [form_profile(name, points.with_kl(row))(grid).best() for row in kl]
    return [{**parameters, "c": value} for value, parameters in best]
