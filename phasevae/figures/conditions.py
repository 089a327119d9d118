"""The transitions of the classes of a condition. Its inputs are those of `registry.render_figure`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from phasevae.analysis.sweep_table import IDENTITY, of_condition
from phasevae.figures.labels import x_label
from phasevae.figures.marks import (
    AWARE,
    BLACK,
    PALETTE,
    dense,
    figure_of,
    legend,
    mark_prediction,
    n_latents,
    points,
)
from phasevae.theory import conditional

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from phasevae.spectrum.spectrum import Spectrum

MOST_NAMED = 6
"""Classes that the legend names."""


def conditions(dimensions: pd.DataFrame, spectrum: Spectrum) -> Figure:
    """Draw the KL of each class with theory, pPCA with the eigenvalues of the class, whose largest is marked.

    Without classes there is one curve, of all rows; of a condition of numbers, with the eigenvalues of the residuals.
    """
    from matplotlib import colormaps

    classes = spectrum.conditions
    n_latent = n_latents(dimensions)
    colors = list(PALETTE)
    if len(classes) > len(PALETTE):
        colors = list(colormaps["viridis"](np.linspace(0, 0.92, len(classes))))
    named = set(np.linspace(0, len(classes) - 1, min(len(classes), MOST_NAMED)).round().astype(int).tolist())
    figure = figure_of(2.9)
    axes = figure.subplots()
    x, line = dense(dimensions, spectrum, n_latent), "--" if spectrum.is_bound else "-"
    for number, (each, color) in enumerate(zip(classes, colors, strict=False)):
        modes = conditional.single(each.spectrum.eigenvalues)
        axes.plot(x, conditional.kl(modes, x, n_latent), line, color=color, linewidth=0.8, zorder=2)
        axes.axvline(each.spectrum.critical_variance, color=color, linestyle=":", linewidth=0.7, zorder=0)
        label = f"class {each.value} ({100 * each.share:.3g} %)" if number in named else None
        points(axes, _total(of_condition(dimensions, str(each.value))), "kl", color, label, 0.0)
    theory = "all: theory" if spectrum.likelihood is None else "all: pPCA of the scores"
    theory = AWARE if spectrum.is_bound else theory
    axes.plot(x, conditional.kl(spectrum.modes, x, n_latent), line, color=BLACK, linewidth=0.8, label=theory, zorder=2)
    points(axes, _total(of_condition(dimensions)), "kl", BLACK, "all: measured", 0.0, marker="s")
    if classes:
        label = r"its $\lambda_{c1}$" if spectrum.is_bound else r"predicted $\lambda_{c1}$"
        axes.plot([], [], ":", color=BLACK, linewidth=0.7, label=label)
    else:
        mark_prediction(axes, spectrum)
    axes.set(xlabel=x_label(dimensions), ylabel="KL divergence (nats)")
    legend(figure, axes, 2)
    return figure


def _total(rows: pd.DataFrame) -> pd.DataFrame:
    """The KL of all latents together of each point."""
    return rows.groupby([*IDENTITY], as_index=False)["kl"].sum()
