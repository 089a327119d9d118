"""Piecewise forms of KL(x) and their least-squares solutions at given critical points c.

The abscissa is x = beta * sigma2. Every form vanishes above c up to a constant floor >= 0, the residual KL of
collapsed networks. Names, formulas and parameters:

``cascade``              floor + sum_j 1/2 [ln(lambda_j / x)]_+   eigenvalues (descending, c the first), floor
``log``                  floor + a [ln(c / x)]_+                  critical_variance, amplitude (a >= 0), floor
``log_quadratic``        floor + a g + b g^2, g = [ln(c / x)]_+   critical_variance, linear (a >= 0), quadratic, floor
``piecewise_quadratic``  floor + a (c - x)_+ + b (c - x)^2_+      critical_variance, linear (a >= 0), quadratic, floor
``power``                floor + a [1 - x / c]_+^g                critical_variance, amplitude (a >= 0), exponent, floor
``rounded``              floor + a w ln(1 + (c / x)^(1 / w))      critical_variance, amplitude (a >= 0), width, floor

The cascade is the exact curve of Gaussian data with free eigenvalues (fitted by `kl_fit.cascade`);
``log`` is one mode of it with a free amplitude; ``piecewise_quadratic`` is the simplest polynomial whose first and
second derivatives both jump, in the manner of Eqs. 27-29; ``rounded`` is ``log`` with the kink smeared over a width w
in ln x. At given c (and g or w) all forms but the cascade are linear in their other parameters, so whole grids of c are
solved at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phasevae.analysis.least_squares import solve_bounded
from phasevae.analysis.sweep_table import Points

SINGLE_MODE = ("log", "log_quadratic", "piecewise_quadratic", "power", "rounded")
NAMES = ("cascade", *SINGLE_MODE)
FORM_LABELS = {
    "cascade": "cascade",
    "log": "one mode (log)",
    "log_quadratic": "log quadratic",
    "piecewise_quadratic": "piecewise quadratic",
    "power": "power",
    "rounded": "rounded",
}
"""What figures and the summary call the forms."""

N_PARAMETERS = {"log": 3, "log_quadratic": 4, "piecewise_quadratic": 4, "power": 4, "rounded": 4}
EXPONENTS = np.linspace(0.3, 3.0, 55)
WIDTHS = np.geomspace(1e-4, 0.1, 40)

_SAME_CHI2 = 1e-6
"""A difference of chi2 in units of the noise, or relative to a chi2 above 1, that rounding can make."""


@dataclass(frozen=True)
class Fits:
    """A form's best fits at critical points c [B]: weighted sums of squares [B] and parameters [B] or [B, modes]."""

    c: NDArray
    chi2: NDArray
    parameters: dict[str, NDArray]

    def ties(self) -> tuple[int, int]:
        """Return the first and the last of the neighbours of the smallest chi2 that fit as well as it does: the points
        do not tell their critical points apart."""
        at = int(np.argmin(self.chi2))
        worse = np.flatnonzero(self.chi2 > self.chi2[at] + _SAME_CHI2 * max(self.chi2[at], 1.0))
        first = worse[worse < at].max(initial=-1) + 1
        return int(first), int(worse[worse > at].min(initial=self.chi2.size) - 1)

    def best(self) -> tuple[float, dict[str, Any]]:
        """Return c and the parameters, as plain numbers and lists, of the smallest chi2; of ties, the middle one."""
        first, last = self.ties()
        c = self.c[first : last + 1]
        at = first + int(np.abs(c - (c.min() + c.max()) / 2).argmin())
        return float(self.c[at]), {name: values[at].tolist() for name, values in self.parameters.items()}


Profile = Callable[[NDArray], Fits]
"""Best fits of a form's other parameters at given critical points [B]."""


def form_curve(name: str, parameters: dict[str, Any], x: ArrayLike, derivative: int = 0) -> NDArray:
    """Evaluate a form or its derivative in x.

    Parameters
    ----------
    name
        Name of the form.
    parameters
        Its parameters by name.
    x
        Abscissae beta * sigma2.
    derivative
        0, 1 or 2; at c the derivatives are one-sided, from above.

    Returns
    -------
    ndarray
        In nats (per unit of x, per unit of x squared), shape of x.
    """
    x = np.asarray(x, dtype=float)
    if name == "cascade":
        return _logs([(0.5, float(value)) for value in parameters["eigenvalues"]], parameters["floor"], x, derivative)
    c, floor = parameters["critical_variance"], parameters["floor"]
    if name == "log":
        return _logs([(parameters["amplitude"], c)], floor, x, derivative)
    if name in ("log_quadratic", "piecewise_quadratic"):
        return _quadratic(name, parameters, x, derivative)
    return _power(parameters, x, derivative) if name == "power" else _rounded(parameters, x, derivative)


def form_profile(name: str, points: Points) -> Profile:
    """Return the profile of a single-mode form over the critical point.

    The profile solves linear least squares with a and floor >= 0 and b free, ``power`` and ``rounded`` at the best
    of EXPONENTS or WIDTHS.

    Parameters
    ----------
    name
        Name of the form.
    points
        Points to fit.
    """

    def solve(c: NDArray) -> Fits:
        c = np.asarray(c, dtype=float)
        columns, nonlinear = _columns(name, points.x, c)
        coefficients, chi2 = solve_bounded(points, columns, free=name.endswith("quadratic"))
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
