"""The figure of two passes over the same decoder variances."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from phasevae.analysis.bracketing import BEYOND, PASSES
from phasevae.analysis.sweep_table import abscissa
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
    x_label,
)
from phasevae.theory.ppca import ppca_kl

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


LABELS = {"anneal": "annealed", "scratch": "from scratch"}
LOOKS = {"first": (BLUE, "o", "-"), "second": (VERMILION, "s", "--")}


def bracketing(bracketing: pd.DataFrame, passes: Mapping[str, Any], spectrum: Mapping[str, Any]) -> Figure:
    """KL of both passes with their fitted critical variances (lines), and below it the first's less the second's.

    Error bars are as long as a difference must be to count; points that disagree are shaded halfway to the next.
    """
    table = bracketing.assign(x=abscissa(bracketing)).sort_values("x", ignore_index=True)
    x = table["x"].to_numpy()
    figure = figure_of(3.6)
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[1.7, 1])
    for name in PASSES:
        color, marker, line = LOOKS[name]
        label, critical = LABELS.get(passes[name]["schedule"], f"{name} pass"), passes[name]["critical_variance"]
        if critical is not None:
            label += rf": $\sigma_c^2 = {critical:.4g}$"
            top.axvline(critical, color=color, linestyle=line, linewidth=0.8, zorder=1)
        top.plot(x, table[f"kl_{name}"], marker, color=color, markerfacecolor="none", label=label, zorder=3)
    if passes["n_latent"] is not None:
        eigenvalues, n_latent = spectrum["eigenvalues"], passes["n_latent"]
        curve = dense(table, eigenvalues, n_latent)
        theory_line(top, curve, ppca_kl(eigenvalues, curve, n_latent), spectrum, n_latent)
    for axes in (top, bottom):
        _shade(axes, x, table["disagree"].to_numpy(dtype=bool))
        mark_prediction(axes, spectrum)
    bars = BEYOND * table["kl_standard_error"]
    bottom.axhline(0, color=GREY, linewidth=0.6, zorder=1)
    bottom.errorbar(x, table["kl_difference"], bars, fmt=".", color=BLACK, elinewidth=0.7, zorder=3)
    top.set_ylabel("KL divergence (nats)")
    bottom.set(xlabel=x_label(table), ylabel="difference (nats)")
    legend(figure, top, 2)
    return figure


def _shade(axes: Any, x: NDArray, disagree: NDArray) -> None:
    """Bands over the points that disagree, from halfway to the one before to halfway to the one after."""
    edges = np.concatenate([x[:1], (x[1:] + x[:-1]) / 2, x[-1:]])
    label = "passes disagree"
    for i in np.flatnonzero(disagree):
        axes.axvspan(edges[i], edges[i + 1], color=ORANGE, alpha=0.25, linewidth=0, label=label, zorder=0)
        label = None
