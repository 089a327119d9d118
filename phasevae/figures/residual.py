"""The residual spectrum over a sweep: whether a dead latent could come back at each point."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from phasevae.analysis.sweep_table import over_beta
from phasevae.errors import InputError
from phasevae.figures.labels import x_label
from phasevae.figures.marks import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    dense,
    figure_of,
    legend,
    linear_bound,
    mark_prediction,
    n_latents,
    points,
    say_why_not,
    theory_line,
)
from phasevae.theory.residual import ppca_residual_edge

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from phasevae.analysis.pipeline import Analysis
    from phasevae.analysis.residual import Branches
    from phasevae.spectrum.spectrum import Spectrum

COLORS = (BLACK, BLUE, GREEN, PURPLE, ORANGE, SKY)
"""Of points with so many active latents, counted from none up; the last one also of points with more."""


def residual(sweep: pd.DataFrame, dimensions: pd.DataFrame, fit: Analysis, spectrum: Spectrum) -> Figure:
    """Draw Lambda_A with the line of marginality, where it equals beta * sigma2, and the margin below it.

    Points take their colour from the number of active latents. Where the margin is negative, a further latent would
    live. The ends of the branches and the thresholds of the modes of KL are on the line of no margin.
    """
    if "residual_edge" not in sweep:
        raise InputError("figure 'residual': sweep has no 'residual_edge'; train the points again")
    measured = sweep.dropna(subset=["residual_edge"])
    n_latent = n_latents(dimensions)
    figure = figure_of(3.8)
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[1.4, 1])
    x = dense(sweep, spectrum, n_latent)
    weight, unit = (r"\beta", "") if over_beta(sweep) else (r"\beta\sigma^2", " (data$^2$)")
    if not spectrum.conditions:  # the closed form is that of a single spectrum
        edge = ppca_residual_edge(spectrum.eigenvalues, x, n_latent)
        theory_line(top, x, edge, spectrum, n_latent)
        theory_line(bottom, x, x - edge, spectrum, n_latent)
    top.plot(x, x, color=VERMILION, linestyle="-.", linewidth=0.8, label=rf"marginal: $\Lambda_A = {weight}$")
    bottom.axhline(0, color=VERMILION, linestyle="-.", linewidth=0.8)
    bound = linear_bound(spectrum, n_latent)
    for active, rows in measured.groupby(np.minimum(measured["active_dims"], len(COLORS) - 1)):
        more = " or more" if active == len(COLORS) - 1 and n_latent > active else ""
        color = COLORS[int(active)]
        points(top, rows, "residual_edge", color, f"{active}{more} active", bound)
        points(bottom, rows, "residual_margin", color, None, bound)
    if fit.residual is not None:
        _mark_ends(bottom, fit.residual)
    if measured.empty:
        say_why_not(top, "residual spectrum", "not defined for this loss, or for two levels")
    for axes in (top, bottom):
        mark_prediction(axes, spectrum)
    top.set_ylabel(rf"edge $\Lambda_A${unit}")
    bottom.set(xlabel=x_label(sweep), ylabel=rf"margin ${weight} - \Lambda_A$" + unit.replace(" ", "\n"))
    legend(figure, (top, bottom), 2)
    return figure


def _mark_ends(axes: Axes, residual: Branches) -> None:
    """Draw the ends of the branches with their intervals, and the same ends by the fit of KL, where the margin is 0."""
    label, thresholds = "end of a branch (95 %)", set()
    for branch in residual.branches:
        color = COLORS[min(branch.active, len(COLORS) - 1)]
        for end in (branch.lower, branch.upper):
            if end is not None and end.value is not None and None not in (end.ci95 or (None,)):
                look = {"color": color, "linewidth": 1.2, "zorder": 4}
                axes.plot(end.ci95, [0, 0], **look)
                axes.plot(end.value, 0, "|", markersize=9, markeredgewidth=1.2, label=label, **look)
                label = None
        thresholds |= {threshold for threshold in branch.cascade if threshold is not None}
    if thresholds:
        x = sorted(thresholds)
        axes.plot(x, np.zeros(len(x)), "v", color=GREY, markerfacecolor="none", label="threshold by KL", zorder=4)
