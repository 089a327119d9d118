"""What the figures share: style, measured points, theory and fitted lines, marks of the critical variance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from phasevae.analysis.kl_fit.forms import FORM_LABELS, form_curve
from phasevae.analysis.sweep_table import seed_means
from phasevae.figures.labels import critical_symbol
from phasevae.spectrum.spectrum import Spectrum, looks_gaussian
from phasevae.theory import conditional

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from phasevae.analysis.kl_fit.critical_point import CriticalPoint
    from phasevae.analysis.kl_fit.fit import FormFit

BLACK, GREY = "#000000", "#8c8c8c"
ORANGE, SKY, GREEN, BLUE, VERMILION, PURPLE = "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7"
"""Okabe and Ito's colours, which colour-blind readers can distinguish."""

PALETTE = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)
WIDTH = 3.4
STYLE = {
    "axes.labelsize": 8,
    "axes.linewidth": 0.6,
    "axes.prop_cycle": f"cycler('color', {list(PALETTE)})",
    "axes.titlesize": 8,
    "errorbar.capsize": 1.5,
    "figure.dpi": 300,
    "font.size": 8,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "legend.handlelength": 1.6,
    "legend.columnspacing": 1.2,
    "lines.linewidth": 1.0,
    "lines.markersize": 3.2,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "xtick.direction": "in",
    "ytick.direction": "in",
    "xtick.top": True,
    "ytick.right": True,
}

AWARE, AWARE_THRESHOLD = "encoder that sees $c$", r"its $\lambda_1$ (upper bound)"
"""What theory shows if the encoder does not see the condition c."""

BELOW = 1 - 1e-8
"""Just below a threshold, but farther than `theory.ppca.THRESHOLD_TOLERANCE`, so that jumps are drawn upright."""

FORM_COLORS = dict(zip(FORM_LABELS, (VERMILION, GREEN, ORANGE, PURPLE, ORANGE, ORANGE), strict=True))
DRAWN_FORMS = ("cascade", "log", "piecewise_quadratic")
"""Drawn in addition to the default; the others would lie on these."""


def figure_of(height: float) -> Figure:
    """Return an empty figure of one column's width and `height` inches, not registered with pyplot."""
    from matplotlib.figure import Figure

    return Figure(figsize=(WIDTH, height), layout="constrained")


def legend(figure: Figure, panels: Axes | Sequence[Axes], columns: int) -> None:
    """Draw one legend of all panels' labels above the figure, where it covers no data.

    Parameters
    ----------
    figure
        Figure to draw in.
    panels
        Its axes.
    columns
        Columns of the legend.
    """
    entries: dict[str, Any] = {}
    for axes in np.atleast_1d(panels):
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    figure.legend(entries.values(), entries.keys(), loc="outside upper center", ncols=columns)


def n_latents(dimensions: pd.DataFrame) -> int:
    """Return the number of latents of the networks behind a dimensions table."""
    return int(dimensions["latent"].nunique())


def linear_bound(spectrum: Spectrum, n_latent: int) -> float:
    """Return the abscissa below which pPCA is only a bound, for data that look Gaussian; 0 for other data, of which
    pPCA is nowhere the optimum.

    Parameters
    ----------
    spectrum
        Spectrum of the data.
    n_latent
        Number of latents.
    """
    return conditional.exact_above(spectrum.modes, n_latent) if looks_gaussian(spectrum) else 0.0


def dense(table: pd.DataFrame, spectrum: Spectrum, n_latent: int) -> NDArray:
    """Return abscissae for curves over the table's range, with both sides of every threshold in it.

    Parameters
    ----------
    table
        Measured points.
    spectrum
        Spectrum of the data.
    n_latent
        Number of latents.
    """
    x = table["beta"] * table["sigma2"]
    low, high = float(x.min()), float(x.max())
    thresholds = conditional.thresholds(spectrum.modes, n_latent)
    thresholds = thresholds[(thresholds > low) & (thresholds < high)]
    return np.unique(np.concatenate([np.linspace(low, high, 400), thresholds * BELOW, thresholds]))


def points(
    axes: Axes,
    table: pd.DataFrame,
    column: str,
    color: Any,
    label: str | None,
    bound: float,
    marker: str = "o",
    errors: str | None = None,
) -> None:
    """Draw measured points: means over seeds with bars from least to greatest.

    Parameters
    ----------
    axes
        Where to draw.
    table
        Measured points.
    column
        Measured quantity.
    color, label, marker
        Look of the points, and their name in the legend.
    bound
        Abscissa below which the points are hollow.
    errors
        Column of standard errors that all seeds share, which are drawn as bars instead.
    """
    averaged = seed_means(table, [column, *([errors] if errors else [])])
    means = averaged[column].reset_index()
    # The mean of equal numbers may differ from them in the last digit.
    spread = np.maximum([means["mean"] - means["min"], means["max"] - means["mean"]], 0.0)
    if errors:
        spread = np.tile(averaged[errors]["mean"], (2, 1))
    for keep, face in ((means["x"] >= bound, color), (means["x"] < bound, "white")):
        if keep.any():
            bars = spread[:, keep] if errors or (means["count"] > 1).any() else None
            axes.errorbar(
                means["x"][keep],
                means["mean"][keep],
                bars,
                fmt=marker,
                color=color,
                markerfacecolor=face,
                markeredgewidth=0.6,
                elinewidth=0.7,
                label=label,
                zorder=3,
            )
            label = None


def theory_line(axes: Axes, x: NDArray, y: NDArray, spectrum: Spectrum, n_latent: int) -> None:
    """Draw the pPCA curve: for Gaussian data theory where it is exact and a dashed bound below, else a linear VAE.

    If the encoder does not see the condition, the curve is that of one that does, dashed.

    Parameters
    ----------
    axes
        Where to draw.
    x, y
        The curve.
    spectrum
        Spectrum of the data.
    n_latent
        Number of latents.
    """
    bound = linear_bound(spectrum, n_latent)
    if spectrum.is_bound:
        axes.plot(x, y, "--", color=GREY, linewidth=0.8, label=AWARE, zorder=2)
        return
    label = "theory (pPCA)" if looks_gaussian(spectrum) else "linear VAE (pPCA)"
    if spectrum.likelihood is not None:
        label = "pPCA of the scores"
    axes.plot(x[x >= bound], y[x >= bound], color=BLACK, linewidth=0.8, label=label, zorder=2)
    if (x < bound).any():
        axes.plot(x[x < bound], y[x < bound], "--", color=GREY, linewidth=0.8, label="linear bound", zorder=2)


def fitted_lines(axes: Axes, fit: CriticalPoint, x: NDArray, derivative: int = 0) -> None:
    """Draw the fitted forms or their derivatives, each over its window: the default solid, the others thin dashed.

    Forms whose points do not determine the critical variance are no result, and are not drawn (see `mark_fit`).

    Parameters
    ----------
    axes
        Where to draw.
    fit
        Fitted forms.
    x
        Abscissae of the curves.
    derivative
        0, 1 or 2.
    """
    for name, model in fit.models.items() if fit.determined is not None else ():
        if model.parameters is None or name not in (*DRAWN_FORMS, fit.model):
            continue
        low, high = model.window
        low, high = max(low, x.min()), min(high, x.max())
        inside = np.unique(np.concatenate([x[(x >= low) & (x <= high)], _kinks(name, model, low, high)]))
        look = {"linewidth": 1.4} if name == fit.model else {"linewidth": 0.8, "linestyle": "--"}
        y = form_curve(name, model.parameters, inside, derivative)
        axes.plot(inside, y, color=FORM_COLORS[name], label=f"fit: {FORM_LABELS[name]}", zorder=2.5, **look)


def derivative_band(axes: Axes, fit: CriticalPoint, order: int, left: float) -> None:
    """Draw the 95 % band of a derivative of the default form.

    Parameters
    ----------
    axes
        Where to draw.
    fit
        Fitted forms.
    order
        1 or 2.
    left
        Lowest abscissa.
    """
    if fit.derivatives is None or fit.determined is None:
        return
    x, band = np.array(fit.derivatives.x), fit.derivatives.first if order == 1 else fit.derivatives.second
    low, high = (np.array(edge)[x >= left] for edge in (band.low, band.high))
    axes.fill_between(
        x[x >= left], low, high, color=FORM_COLORS[fit.model], alpha=0.2, linewidth=0, label="95 % band", zorder=1
    )


def mark_prediction(axes: Axes, spectrum: Spectrum, label: str | None = r"predicted $\lambda_1$") -> None:
    """Draw a dotted line at the predicted critical variance or KL weight, with its label in the legend.

    If the encoder does not see the condition, this is an upper bound, and the threshold of a linear encoder is another
    line, the lower bound.
    """
    marks = [(spectrum.critical_variance, BLACK, label)]
    if spectrum.is_bound:
        marks[0] = (spectrum.critical_variance, GREY, label and AWARE_THRESHOLD)
        if spectrum.unaware_variance is not None:
            marks.append((spectrum.unaware_variance, BLACK, label and "linear encoder (lower bound)"))
    for x, color, text in marks:
        axes.axvline(x, color=color, linestyle=":", linewidth=0.8, label=text, zorder=1)


def mark_fit(axes: Axes, fit: CriticalPoint) -> None:
    """Draw the 95 % interval of the fitted critical point as a band, or the reason why there is none as title."""
    critical = fit.determined
    if critical is None:
        say_why_not(axes, "fit", fit.why_undetermined)
        return
    left, right = axes.get_xlim()
    low, high = (edge if edge is not None else end for edge, end in zip(fit.ci95, (left, right), strict=True))
    label = rf"fitted ${critical_symbol(fit)} = {critical:.4g}$ (95 %)"
    axes.axvspan(low, high, color=SKY, alpha=0.45, linewidth=0, label=label, zorder=0)
    axes.axvline(critical, color=SKY, linewidth=0.8, zorder=0.5)


def say_why_not(axes: Axes, missing: str, reason: str | None) -> None:
    """Write as title what is missing in the axes, and for which reason."""
    axes.set_title(f"no {missing}: {reason}", fontsize=7, wrap=True)


def _kinks(name: str, model: FormFit, low: float, high: float) -> NDArray:
    """Both sides of every kink of a form within its window, so that jumps of derivatives are drawn upright."""
    kinks = np.array(model.parameters["eigenvalues"] if name == "cascade" else [model.parameters["critical_variance"]])
    kinks = kinks[(kinks > low) & (kinks < high)]
    return np.concatenate([kinks * BELOW, kinks])
