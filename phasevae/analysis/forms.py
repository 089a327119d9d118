"""Piecewise forms of KL(x) and their least-squares solutions at given critical points c.

The abscissa is x = beta * sigma2. Every form vanishes above c up to a constant floor >= 0, the residual KL of
collapsed networks. Names, formulas and parameters:

``cascade``              floor + sum_j 1/2 [ln(lambda_j / x)]_+   eigenvalues (descending, c the first), floor
``log``                  floor + a [ln(c / x)]_+                  critical_variance, amplitude (a >= 0), floor
``log_quadratic``        floor + a g + b g^2, g = [ln(c / x)]_+   critical_variance, linear (a >= 0), quadratic, floor
``piecewise_quadratic``  floor + a (c - x)_+ + b (c - x)^2_+      critical_variance, linear (a >= 0), quadratic, floor
``power``                floor + a [1 - x / c]_+^g                critical_variance, amplitude (a >= 0), exponent, floor
``rounded``              floor + a w ln(1 + (c / x)^(1 / w))      critical_variance, amplitude (a >= 0), width, floor

The cascade is the exact curve of Gaussian data with free eigenvalues (its solutions: `phasevae.analysis.modes`);
``log`` is one mode of it with a free amplitude; ``piecewise_quadratic`` is the simplest polynomial whose first and
second derivatives both jump, in the manner of Eqs. 27-29; ``rounded`` is ``log`` with the kink smeared over a width w
in ln x. All but the cascade are linear in what is left at given c (and g or w), so whole grids are solved at once.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

SINGLE_MODE = ("log", "log_quadratic", "piecewise_quadratic", "power", "rounded")
NAMES = ("cascade", *SINGLE_MODE)

N_PARAMETERS = {"log": 3, "log_quadratic": 4, "piecewise_quadratic": 4, "power": 4, "rounded": 4}

EXPONENTS = np.linspace(0.3, 3.0, 55)
WIDTHS = np.geomspace(1e-4, 0.1, 40)


@dataclass(frozen=True)
class Points:
    """Measured KL, one entry an abscissa: x = beta * sigma2 ascending, KL in nats, weights 1 / sd and the number of
    trained models behind each, all of shape [n]."""

    x: NDArray
    kl: NDArray
    weight: NDArray
    count: NDArray

    def select(self, keep: NDArray) -> Points:
        """The points at a boolean mask."""
        return Points(self.x[keep], self.kl[keep], self.weight[keep], self.count[keep])

    def above(self, lower: float) -> Points:
        """The points with x >= lower."""
        return self.select(self.x >= lower)

    def with_kl(self, kl: NDArray) -> Points:
        """Other measured values at the same abscissae and weights."""
        return replace(self, kl=kl)


@dataclass(frozen=True)
class Fits:
    """A form's best fits at critical points c [B]: weighted sums of squares [B] and parameters [B] or [B, modes]."""

    c: NDArray
    chi2: NDArray
    parameters: dict[str, NDArray]

    def best(self) -> tuple[float, dict[str, Any]]:
        """(c, parameters as plain numbers and lists) of the smallest chi2."""
        at = int(np.argmin(self.chi2))
        return float(self.c[at]), {name: values[at].tolist() for name, values in self.parameters.items()}


Profile = Callable[[NDArray], Fits]
"""Best fits of a form's other parameters at given critical points [B]."""


def curve(name: str, parameters: dict[str, Any], x: ArrayLike, derivative: int = 0) -> NDArray:
    """The form `name` at x, or its first or second derivative in x (one-sided from above at c). Shape of x."""
    x = np.asarray(x, dtype=float)
    if name == "cascade":
        return _logs([(0.5, float(value)) for value in parameters["eigenvalues"]], parameters["floor"], x, derivative)
    c, floor = parameters["critical_variance"], parameters["floor"]
    if name == "log":
        return _logs([(parameters["amplitude"], c)], floor, x, derivative)
    if name in ("log_quadratic", "piecewise_quadratic"):
        return _quadratic(name, parameters, x, derivative)
    return _power(parameters, x, derivative) if name == "power" else _rounded(parameters, x, derivative)


def profile_of(name: str, points: Points) -> Profile:
    """Profile of a single-mode form over the critical point: linear least squares with a, floor >= 0 and b free,
    ``power`` and ``rounded`` at the best of EXPONENTS or WIDTHS."""

    def solve(c: NDArray) -> Fits:
        c = np.asarray(c, dtype=float)
        columns, nonlinear = _columns(name, points.x, c)
        coefficients, chi2 = _least_squares(points, columns, free=name.endswith("quadratic"))
        best = chi2.argmin(0)
        rows = np.arange(c.size)
        a, *b, floor = np.moveaxis(coefficients[best, rows], -1, 0)
        names = ("linear", "quadratic") if b else ("amplitude",)
        parameters = dict(zip(("critical_variance", *names), (c, a, *b), strict=True))
        if nonlinear:
            parameters[nonlinear[0]] = nonlinear[1][best]
        return Fits(c, chi2[best, rows], parameters | {"floor": floor})

    return solve


def _columns(name: str, x: NDArray, c: NDArray) -> tuple[NDArray, tuple[str, NDArray] | None]:
    """Columns of the linear problem [K, B, columns, n] at c [B], and the nonlinear parameter with its values [K]."""
    g = np.log(np.maximum(c[:, None] / x, 1.0))
    if name == "log":
        return g[None, :, None], None
    if name in ("log_quadratic", "piecewise_quadratic"):
        shape = g if name == "log_quadratic" else np.maximum(c[:, None] - x, 0.0)
        return np.stack([shape, shape**2], axis=1)[None], None
    if name == "power":
        t = np.maximum(1 - x / c[:, None], 0.0)
        return (t ** EXPONENTS[:, None, None])[:, :, None], ("exponent", EXPONENTS)
    width = WIDTHS[:, None, None]
    return (width * np.logaddexp(0.0, np.log(c[:, None] / x) / width))[:, :, None], ("width", WIDTHS)


def _least_squares(points: Points, columns: NDArray, free: bool) -> tuple[NDArray, NDArray]:
    """Weighted least squares of `columns` [..., k, n] and a floor; the first coefficient and the floor are >= 0, a
    second column's is `free`. Returns coefficients [..., k + 1] (floor last) and chi2 [...].

    The constrained minimum is the best feasible one of the problems with some constrained coefficients left out.
    """
    ones = np.ones((*columns.shape[:-2], 1, columns.shape[-1]))
    design = points.weight * np.concatenate([columns, ones], axis=-2)
    target = points.weight * points.kl
    norm = np.sqrt(np.square(design).sum(-1))
    norm = np.where(norm > 0, norm, 1.0)
    unit = design / norm[..., None]
    k = columns.shape[-2]
    constrained = [0, k] if free else [*range(k), k]
    best = np.zeros(design.shape[:-1])
    lowest = np.full(design.shape[:-2], np.square(target).sum())
    for kept in _subsets(k + 1, constrained):
        part = unit[..., kept, :]
        gram = part @ np.swapaxes(part, -1, -2) + 1e-12 * np.eye(len(kept))
        solved = np.linalg.solve(gram, (part @ target)[..., None])[..., 0]
        chi2 = np.square((solved[..., None, :] @ part)[..., 0, :] - target).sum(-1)
        bound = [i for i, column in enumerate(kept) if column in constrained]
        better = (chi2 < lowest) & np.all(solved[..., bound] >= 0, axis=-1)
        lowest = np.where(better, chi2, lowest)
        full = np.zeros_like(best)
        full[..., kept] = solved
        best = np.where(better[..., None], full, best)
    return best / norm, lowest


def _subsets(n: int, constrained: list[int]) -> list[list[int]]:
    """Sets of columns to keep: all free ones and any of the constrained; none empty."""
    kept = []
    for left_out in itertools.chain.from_iterable(
        itertools.combinations(constrained, r) for r in range(len(constrained) + 1)
    ):
        columns = [column for column in range(n) if column not in left_out]
        if columns:
            kept.append(columns)
    return kept


def _logs(modes: list[tuple[float, float]], floor: float, x: NDArray, derivative: int) -> NDArray:
    if derivative == 0:
        return floor + sum(a * np.log(np.maximum(c / x, 1.0)) for a, c in modes)
    active = sum(a * (x < c) for a, c in modes)
    return -active / x if derivative == 1 else active / x**2


def _quadratic(name: str, parameters: dict[str, Any], x: NDArray, derivative: int) -> NDArray:
    c, a, b = (parameters[key] for key in ("critical_variance", "linear", "quadratic"))
    below = x < c
    if name == "piecewise_quadratic":
        distance = np.maximum(c - x, 0.0)
        if derivative == 0:
            return parameters["floor"] + a * distance + b * distance**2
        return -(a + 2 * b * distance) * below if derivative == 1 else 2 * b * below
    g = np.log(np.maximum(c / x, 1.0))
    if derivative == 0:
        return parameters["floor"] + a * g + b * g**2
    return -(a + 2 * b * g) * below / x if derivative == 1 else (a + 2 * b * (1 + g)) * below / x**2


def _power(parameters: dict[str, Any], x: NDArray, derivative: int) -> NDArray:
    c, a, g = (parameters[key] for key in ("critical_variance", "amplitude", "exponent"))
    below = x < c
    t = np.where(below, 1 - x / c, 1.0)
    if derivative == 0:
        return parameters["floor"] + a * t**g * below
    return -a * g / c * t ** (g - 1) * below if derivative == 1 else a * g * (g - 1) / c**2 * t ** (g - 2) * below


def _rounded(parameters: dict[str, Any], x: NDArray, derivative: int) -> NDArray:
    c, a, w = (parameters[key] for key in ("critical_variance", "amplitude", "width"))
    g = np.log(c / x)
    if derivative == 0:
        return parameters["floor"] + a * w * np.logaddexp(0.0, g / w)
    share = 0.5 * (1 + np.tanh(g / (2 * w)))
    return -a * share / x if derivative == 1 else a * share * (1 + (1 - share) / w) / x**2
