"""Piecewise forms of KL(x) and their least-squares solutions at a given critical point c.

The abscissa is x = beta * sigma2. Every form vanishes above c up to a constant floor >= 0, the residual KL of
collapsed networks. Names, formulas and parameters:

``cascade``              floor + sum_j 1/2 [ln(lambda_j / x)]_+   eigenvalues (descending, c the first), floor
``log``                  floor + a [ln(c / x)]_+                  critical_variance, amplitude (a >= 0), floor
``piecewise_quadratic``  floor + a (c - x)_+ + b (c - x)^2_+      critical_variance, linear (a >= 0), quadratic, floor

The cascade is the exact curve of Gaussian data with free eigenvalues; ``log`` is one mode of it with a free
amplitude; ``piecewise_quadratic`` is the simplest polynomial whose first and second derivatives both jump, in
the manner of Eqs. 27-29.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

NAMES = ("cascade", "log", "piecewise_quadratic")


@dataclass(frozen=True)
class Points:
    """Measured KL: abscissae x = beta * sigma2, KL in nats and weights 1 / sd, each of shape [n]."""

    x: NDArray
    kl: NDArray
    weight: NDArray

    def above(self, lower: float) -> Points:
        """The points with x >= lower."""
        keep = self.x >= lower
        return Points(self.x[keep], self.kl[keep], self.weight[keep])


@dataclass(frozen=True)
class Solution:
    """A form's best fit at one critical point: weighted sum of squares and the named parameters."""

    chi2: float
    parameters: dict[str, Any]


Profile = Callable[[float], Solution]
"""Best fit of a form's other parameters at a given critical point."""


def curve(name: str, parameters: dict[str, Any], x: ArrayLike, derivative: int = 0) -> NDArray:
    """The form `name` at x, or its first or second derivative in x (one-sided from above at c). Shape of x."""
    x = np.asarray(x, dtype=float)
    if name == "cascade":
        modes = [(0.5, float(value)) for value in parameters["eigenvalues"]]
    elif name == "log":
        modes = [(parameters["amplitude"], parameters["critical_variance"])]
    else:
        return _piecewise_quadratic(parameters, x, derivative)
    if derivative == 0:
        return parameters["floor"] + sum(a * np.log(np.maximum(c / x, 1.0)) for a, c in modes)
    active = sum(a * (x < c) for a, c in modes)
    return -active / x if derivative == 1 else active / x**2


def log_profile(points: Points) -> Profile:
    """Profile of ``log``: at given c, non-negative least squares in (a, floor)."""

    def solve(c: float) -> Solution:
        (a, floor), chi2 = _nonnegative(points, np.log(np.maximum(c / points.x, 1.0)), np.ones_like(points.x))
        return Solution(chi2, {"critical_variance": c, "amplitude": a, "floor": floor})

    return solve


def piecewise_quadratic_profile(points: Points) -> Profile:
    """Profile of ``piecewise_quadratic``: at given c, least squares in (a >= 0, b, floor >= 0)."""

    def solve(c: float) -> Solution:
        distance = np.maximum(c - points.x, 0.0)
        # The sign of b is free: its two signs are two non-negative columns.
        columns = distance, distance**2, -(distance**2), np.ones_like(distance)
        (a, positive, negative, floor), chi2 = _nonnegative(points, *columns)
        parameters = {"critical_variance": c, "linear": a, "quadratic": positive - negative, "floor": floor}
        return Solution(chi2, parameters)

    return solve


def cascade_start(points: Points, n_modes: int, starts: Iterable[ArrayLike] = ()) -> Solution:
    """Best ``cascade`` of n_modes with every eigenvalue free, from `starts` and from geometric spacings.

    A local search: good enough to count modes and to start `cascade_profile`.
    """
    tops = np.quantile(points.x[points.kl > points.kl.max() / 100], [0.5, 1.0])
    guesses = [*(np.log(np.asarray(start, dtype=float)) for start in starts)]
    guesses += [_even_spacing(points, np.log(top), n_modes) for top in tops]
    top = np.log(points.x.max())
    return _cascade_solution(*min((_solve_cascade(points, [], top, guess) for guess in guesses), key=_chi2))


def cascade_profile(points: Points, n_modes: int, starts: Iterable[ArrayLike]) -> Profile:
    """Profile of ``cascade``: at given c = lambda_1, bounded least squares in lambda_2..lambda_m <= c and the floor.

    `starts` are guesses of all n_modes eigenvalues. Each call also starts from the two nearest critical points
    solved before, and keeps the best: the sum of squares has local minima, where an eigenvalue rests in the
    wrong gap between points.
    """
    guesses = [np.log(np.asarray(start, dtype=float)) for start in starts]
    solved: list[tuple[float, NDArray]] = []

    def solve(c: float) -> Solution:
        top = np.log(c)
        nearest = [logs for _, logs in sorted(solved, key=lambda entry: abs(entry[0] - top))[:2]]
        best = min((_solve_cascade(points, [top], top, start[1:]) for start in nearest + guesses), key=_chi2)
        solved.append((top, best[1]))
        return _cascade_solution(*best)

    return solve


def _even_spacing(points: Points, top: float, n_modes: int) -> NDArray:
    """ln lambda at equal spacing below `top` that gives the KL at the smallest x. Shape [n_modes]."""
    bottom = np.argmin(points.x)
    depth = top - np.log(points.x[bottom])
    spacing = 2 * (depth - 2 * points.kl[bottom] / n_modes) / max(n_modes - 1, 1)
    return top - np.arange(n_modes) * max(spacing, 0.0)


def _solve_cascade(points: Points, fixed: list[float], upper: float, start: NDArray) -> tuple[float, NDArray, float]:
    """(chi2, ln lambda, floor): the `fixed` ln lambda and the best free ones, as many as `start` has, up to `upper`.

    In u = ln x the cascade is piecewise linear, so its Jacobian is exact but for the kinks.
    """
    from scipy.optimize import least_squares

    u, weight = np.log(points.x), points.weight
    low = u.min()

    def residuals(parameters: NDArray) -> NDArray:
        logs = np.append(fixed, parameters[:-1])
        return weight * (parameters[-1] + 0.5 * np.maximum(logs[:, None] - u, 0.0).sum(0) - points.kl)

    def jacobian(parameters: NDArray) -> NDArray:
        return weight[:, None] * np.column_stack([0.5 * (parameters[:-1] > u[:, None]), np.ones_like(u)])

    margin = 1e-6 * (upper - low)
    guess = np.append(np.clip(start, low + margin, upper - margin), max(points.kl.min(), 1e-6))
    bounds = np.append(np.full(start.size, low), 0.0), np.append(np.full(start.size, upper), np.inf)
    result = least_squares(residuals, guess, jacobian, bounds, method="dogbox", max_nfev=40)
    return float(2 * result.cost), np.append(fixed, result.x[:-1]), float(result.x[-1])


def _cascade_solution(chi2: float, logs: NDArray, floor: float) -> Solution:
    return Solution(chi2, {"eigenvalues": np.sort(np.exp(logs))[::-1].tolist(), "floor": floor})


def _chi2(result: tuple[float, NDArray, float]) -> float:
    return result[0]


def _nonnegative(points: Points, *columns: NDArray) -> tuple[list[float], float]:
    """Weighted least squares with coefficients >= 0: (coefficients, chi2)."""
    from scipy.optimize import nnls

    coefficients, norm = nnls(points.weight[:, None] * np.column_stack(columns), points.weight * points.kl)
    return coefficients.tolist(), float(norm**2)


def _piecewise_quadratic(parameters: dict[str, Any], x: NDArray, derivative: int) -> NDArray:
    distance = np.maximum(parameters["critical_variance"] - x, 0.0)
    a, b = parameters["linear"], parameters["quadratic"]
    if derivative == 0:
        return parameters["floor"] + a * distance + b * distance**2
    return -(a + 2 * b * distance) * (distance > 0) if derivative == 1 else 2 * b * (distance > 0)
