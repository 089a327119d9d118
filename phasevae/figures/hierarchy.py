"""Phase diagram of a hierarchy over the weights of its two levels."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from phasevae.analysis.hierarchy import level_means
from phasevae.analysis.sweep_table import fixed_variance
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
    its latents is, for at least half of the seeds.
    """
    for column in ("beta_top", "active_top", "kl_top"):
        if column not in sweep:
            raise InputError(f"figure 'hierarchy': sweep has no '{column}', must be that of a two-level hierarchy")
    largest = float(spectrum.eigenvalues[0])
    figure = figure_of(5.4)
    diagram, kl = figure.subplots(2, 1, height_ratios=[1.7, 1])
    points, active = level_means(sweep, ("kl_top",))
    sigma2, beta, beta_top = (points.index.get_level_values(name).to_numpy() for name in points.index.names)
    x, y = beta * sigma2 / largest, beta_top * sigma2 / largest
    _boundaries(diagram, _edges(x), _edges(y), fixed_variance(sweep))
    for phase in _PHASES:
        rows = (active == (phase.bottom, phase.top)).all(1)
        face = phase.color if phase.filled else "none"
        look = {"markerfacecolor": face, "markeredgewidth": 0.7, "markersize": 4, "linestyle": "none"}
        if rows.any():
            diagram.plot(x[rows], y[rows], phase.marker, color=phase.color, label=phase.label, zorder=3, **look)
    diagram.set(xscale="log", yscale="log", xlim=_edges(x), ylim=_edges(y))
    diagram.set(xlabel=r"$\beta_1\sigma^2/\lambda_1$", ylabel=r"$\beta_2\sigma^2/\lambda_1$")
    _plain_numbers(diagram, "xy")
    _top_kl(kl, sweep, points["kl_top", "mean"].to_numpy(), beta * sigma2, beta_top * sigma2, spectrum)
    legend(figure, diagram, 2)
    return figure


def _edges(values: NDArray) -> tuple[float, float]:
    return values.min() / _MARGIN, values.max() * _MARGIN


def _boundaries(axes: Axes, x: tuple[float, float], y: tuple[float, float], variance: float | None) -> None:
    """Draw where each level collapses, in units of the largest eigenvalue."""
    unit = Hierarchy(1, 1, 1.0, posterior_variance=variance)
    weights = np.geomspace(*x, 400)
    axes.plot(weights, critical_beta_top(unit, 1.0, weights), color=BLACK, label="top level collapses (theory)")
    # Below the threshold of the data a cheap top level keeps level 1 active; with a learned posterior variance there is
    # no optimum.
    heights = np.geomspace(max(y[0], 1.0), y[1], 400) if y[1] > 1 else np.zeros(0)
    label = "level 1 collapses (theory)"
    axes.plot(critical_beta(unit, 1.0, heights), heights, "--", color=BLACK, label=label)
    own = float(critical_beta(unit, 1.0, np.inf))
    if variance is not None and own < x[1]:
        axes.plot([own, x[1]], [1.0, 1.0], "--", color=BLACK)


def _top_kl(
    axes: Axes, sweep: pd.DataFrame, kl: NDArray, weight: NDArray, top_weight: NDArray, spectrum: Spectrum
) -> None:
    """Draw the KL of the top level over its weight: a colour for each weight of level 1, and lines for theory.

    The optimum depends on the weights beta * sigma2 alone; they are drawn in units of the largest eigenvalue.
    """
    first, largest = sweep.iloc[0], float(spectrum.eigenvalues[0])
    variance = fixed_variance(sweep)
    # Equal products of different factors may differ in the last digit.
    weight = np.array([float(f"{value:.9g}") for value in weight])
    values = np.unique(weight)
    shown = values[:: max(1, -(-values.size // len(PALETTE)))]
    for value, color, marker in zip(shown, PALETTE, "os^Dv<", strict=False):
        heights = top_weight[weight == value]
        unit = Hierarchy(int(first["n_latent"]), int(first["n_top"]), 1.0, value, 1.0, variance)
        critical = float(critical_beta_top(unit, largest, value))
        label = rf"$\beta_1\sigma^2/\lambda_1 = {value / largest:.3g}$"
        look = {"color": color, "markerfacecolor": "none", "zorder": 3, "label": label}
        axes.plot(heights / largest, kl[weight == value], marker, **look)
        axes.axvline(critical / largest, color=color, linestyle=":", linewidth=0.8, zorder=1)
        if variance is None:
            continue
        grid = np.unique(np.append(np.geomspace(*_edges(heights), 200), critical))
        at_weights = (replace(unit, beta_top=height) for height in grid.tolist())
        curve = [hierarchy_optimum(spectrum.eigenvalues, each).top_kl.sum() for each in at_weights]
        axes.plot(grid / largest, curve, color=color, linewidth=0.8)
    if variance is not None:
        axes.plot([], [], color=BLACK, linewidth=0.8, label="theory")
    axes.plot([], [], ":", color=BLACK, linewidth=0.8, label="top level collapses")
    axes.set(xlabel=r"$\beta_2\sigma^2/\lambda_1$", ylabel="KL of the top level\n(nats)", xscale="log")
    _plain_numbers(axes, "x")
    axes.legend(ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.28))


def _plain_numbers(axes: Axes, directions: str) -> None:
    """Label a logarithmic axis at 1, 2 and 5 times powers of ten."""
    from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

    for axis in (axes.xaxis if direction == "x" else axes.yaxis for direction in directions):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(FormatStrFormatter("%g"))
        axis.set_minor_formatter(NullFormatter())
