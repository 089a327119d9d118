"""Phase diagram of a hierarchy over the weights of its two levels."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from phasevae.analysis.sweep_table import fixed_variance, seed_means
from phasevae.errors import InputError
from phasevae.figures.marks import BLACK, BLUE, GREY, ORANGE, PALETTE, VERMILION, figure_of, legend
from phasevae.theory.hierarchical import Hierarchy, critical_beta, critical_beta_top, hierarchy_optimum

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from phasevae.spectrum.spectrum import Spectrum

_MARGIN = 1.25

_AROUND = (0.25, 3.0)
"""Weights of the top level in units of the critical one for which its KL is drawn."""


class _Phase(NamedTuple):
    """Activity of level 1 and of the top level, with the look of its points."""

    bottom: bool
    top: bool
    label: str
    marker: str
    color: str
    filled: bool


_PHASES = (
    _Phase(True, True, "both levels active", "o", BLUE, True),
    _Phase(True, False, "level 1 active", "s", ORANGE, True),
    _Phase(False, True, "top level active", "^", VERMILION, True),
    _Phase(False, False, "both collapsed", "o", GREY, False),
)


def hierarchy(sweep: pd.DataFrame, spectrum: Spectrum) -> Figure:
    """Draw which levels are active over the two weights, and the KL of the top level, with theory.

    In units of the largest eigenvalue the boundaries do not depend on the decoder variance. A level is active if one of
    its latents is, for most seeds.
    """
    for column in ("beta_top", "active_top", "kl_top"):
        if column not in sweep:
            raise InputError(f"figure 'hierarchy': sweep has no '{column}', must be that of a two-level hierarchy")
    largest = float(spectrum.eigenvalues[0])
    figure = figure_of(5.0)
    diagram, kl = figure.subplots(2, 1, height_ratios=[1.7, 1])
    points = seed_means(sweep, ["active_dims", "active_top", "kl_top"], ("sigma2", "beta", "beta_top"))
    sigma2, beta, beta_top = (points.index.get_level_values(name).to_numpy() for name in points.index.names)
    x, y = beta * sigma2 / largest, beta_top * sigma2 / largest
    active = [points[column, "mean"].to_numpy() >= 0.5 for column in ("active_dims", "active_top")]
    _boundaries(diagram, _edges(x), _edges(y), fixed_variance(sweep))
    for phase in _PHASES:
        rows = (active[0] == phase.bottom) & (active[1] == phase.top)
        face = phase.color if phase.filled else "none"
        look = {"markerfacecolor": face, "markeredgewidth": 0.7, "markersize": 4, "linestyle": "none"}
        if rows.any():
            diagram.plot(x[rows], y[rows], phase.marker, color=phase.color, label=phase.label, zorder=3, **look)
    diagram.set(xscale="log", yscale="log", xlim=_edges(x), ylim=_edges(y))
    diagram.set(xlabel=r"$\beta_1\sigma^2/\lambda_1$", ylabel=r"$\beta_2\sigma^2/\lambda_1$")
    _plain_numbers(diagram, "xy")
    _top_kl(kl, sweep, points["kl_top", "mean"].to_numpy(), np.stack([sigma2, beta, beta_top]), spectrum)
    legend(figure, diagram, 2)
    return figure


def _edges(values: NDArray) -> tuple[float, float]:
    return values.min() / _MARGIN, values.max() * _MARGIN


def _boundaries(axes: Axes, x: tuple[float, float], y: tuple[float, float], variance: float | None) -> None:
    """Draw where each level collapses, in units of the largest eigenvalue."""
    unit = Hierarchy(1, 1, 1.0, posterior_variance=variance)
    weights = np.geomspace(*x, 400)
    axes.plot(weights, critical_beta_top(unit, 1.0, weights), color=BLACK, label="top level collapses (theory)")
    heights = np.geomspace(*y, 400)
    label = "level 1 collapses (theory)"
    axes.plot(critical_beta(unit, 1.0, heights), heights, "--", color=BLACK, label=label)
    own = float(critical_beta(unit, 1.0, np.inf))
    if variance is not None and own < x[1]:
        # To the right of its own threshold level 1 lives on a top level that is cheap enough.
        axes.plot([own, x[1]], [1.0, 1.0], "--", color=BLACK)


def _top_kl(axes: Axes, sweep: pd.DataFrame, kl: NDArray, weights: NDArray, spectrum: Spectrum) -> None:
    """Draw the KL of the top level over its weight, in units of its critical weight, a colour for each beta."""
    first = sweep.iloc[0]
    variance = fixed_variance(sweep)
    sigma2, beta, beta_top = weights
    shown = np.unique(beta)[:: max(1, -(-np.unique(beta).size // len(PALETTE)))]
    for i, value in enumerate(shown):
        rows = np.flatnonzero(beta == value)
        unit = Hierarchy(int(first["n_latent"]), int(first["n_top"]), float(sigma2[rows][0]), value, 1.0, variance)
        critical = float(critical_beta_top(unit, float(spectrum.eigenvalues[0]), value))
        color = PALETTE[i % len(PALETTE)]
        ratio = beta_top[rows] / critical
        rows = rows[(ratio >= _AROUND[0]) & (ratio <= _AROUND[1])]
        axes.plot(beta_top[rows] / critical, kl[rows], "o", color=color, markerfacecolor="none", zorder=3)
        axes.plot([], [], "o", color=color, markerfacecolor="none", label=rf"$\beta_1 = {value:g}$")
        if variance is None:
            continue
        grid = np.append(np.geomspace(_AROUND[0], 1, 100), _AROUND[1]) * critical
        at_weights = (replace(unit, beta_top=weight) for weight in grid.tolist())
        curve = [hierarchy_optimum(spectrum.eigenvalues, each).top_kl.sum() for each in at_weights]
        axes.plot(grid / critical, curve, color=color, linewidth=0.8)
    axes.axvline(1, color=BLACK, linestyle=":", linewidth=0.8, zorder=1)
    axes.set(xlabel=r"$\beta_2$ / critical $\beta_2$ (theory)", ylabel="KL of the top level\n(nats)", xscale="log")
    _plain_numbers(axes, "x")
    axes.legend(ncols=2)


def _plain_numbers(axes: Axes, directions: str) -> None:
    """Label a logarithmic axis at 1, 2 and 5 times powers of ten."""
    from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

    for axis in (axes.xaxis if direction == "x" else axes.yaxis for direction in directions):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(FormatStrFormatter("%g"))
        axis.set_minor_formatter(NullFormatter())
