"""The figure of bracketing: two sweeps over the same decoder variances from opposite sides."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from phasevae.analysis.bracketing import BEYOND, SWEEPS, BracketingSummary
from phasevae.analysis.sweep_table import abscissa
from phasevae.figures.labels import critical_symbol, x_label
from phasevae.figures.marks import (
    BLACK,
    BLUE,
    GREY,
    ORANGE,
    VERMILION,
    dense,
    figure_of,
    legend,
    mark_prediction,
    theory_line,
)
from phasevae.theory import conditional

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from phasevae.spectrum.spectrum import Spectrum


LABELS = {"anneal": "annealed", "scratch": "from scratch"}
LOOKS = {"first": (BLUE, "o", "-"), "second": (VERMILION, "s", "--")}


def bracketing(bracketing: pd.DataFrame, bracketing_summary: BracketingSummary, spectrum: Spectrum) -> Figure:
    """Draw the KL of both sweeps with their fitted critical variances, and the KL of the first less the second.

    The error bars are BEYOND standard errors long: a difference that exceeds them is a disagreement. Points that
    disagree are shaded halfway to their neighbours.
    """
    table = bracketing.assign(x=abscissa(bracketing)).sort_values("x", ignore_index=True)
    x = table["x"].to_numpy()
    figure = figure_of(3.6)
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[1.7, 1])
    for name in SWEEPS:
        color, marker, line = LOOKS[name]
        sweep = getattr(bracketing_summary, name)
        label, critical = LABELS.get(sweep.schedule, f"{name} sweep"), sweep.determined
        if critical is not None:
            label += rf": ${critical_symbol(bracketing_summary)} = {critical:.4g}$"
            top.axvline(critical, color=color, linestyle=line, linewidth=0.8, zorder=1)
        top.plot(x, table[f"kl_{name}"], marker, color=color, markerfacecolor="none", label=label, zorder=3)
    n_latent = bracketing_summary.n_latent
    if n_latent is not None:
        curve = dense(table, spectrum, n_latent)
        theory_line(top, curve, conditional.kl(spectrum.modes, curve, n_latent), spectrum, n_latent)
    for axes in (top, bottom):
        _shade(axes, x, table["disagree"].to_numpy(dtype=bool))
        mark_prediction(axes, spectrum)
    bars = BEYOND * table["kl_standard_error"]
    bottom.axhline(0, color=GREY, linewidth=0.6, zorder=1)
    bottom.errorbar(x, table["kl_difference"], bars, fmt=".", color=BLACK, elinewidth=0.7, zorder=3)
    top.set_ylabel("KL divergence (nats)")
    bottom.set(xlabel=x_label(table), ylabel="difference of KL\n(nats)")
    legend(figure, top, 2)
    return figure


def _shade(axes: Axes, x: NDArray, disagree: NDArray) -> None:
    """Shade the points that disagree, halfway to their neighbours."""
    edges = np.concatenate([x[:1], (x[1:] + x[:-1]) / 2, x[-1:]])
    label = "sweeps disagree"
    for i in np.flatnonzero(disagree):
        axes.axvspan(edges[i], edges[i + 1], color=ORANGE, alpha=0.25, linewidth=0, label=label, zorder=0)
        label = None
