"""What the figures share: style, measured points, theory and fitted lines, marks of the critical variance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from phasevae.analysis.kl_fit.forms import form_curve
from phasevae.spectrum.spectrum import looks_gaussian
from phasevae.theory.ppca import critical_variance, ppca_exact_above

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
from phasevae.analysis.sweep_table import seed_means

BLACK, GREY = "#000000", "#8c8c8c"
ORANGE, SKY, GREEN, BLUE, VERMILION, PURPLE = "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7"
"""Okabe and Ito's colours, told apart by colour-blind readers."""

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

FORM_LABELS = {
    "cascade": "cascade",
    "log": "one mode",
    "log_quadratic": "log quadratic",
    "piecewise_quadratic": "quadratic",
    "power": "power",
    "rounded": "rounded",
}
FORM_COLORS = dict(zip(FORM_LABELS, (VERMILION, GREEN, ORANGE, PURPLE, ORANGE, ORANGE), strict=True))
DRAWN_FORMS = ("cascade", "log", "piecewise_quadratic")
"""Drawn beside the default; the others lie on these to the eye."""


def figure_of(height: float) -> Figure:
    """An empty figure one column wide, `height` inches high, not registered with pyplot."""
    from matplotlib.figure import Figure

    return Figure(figsize=(WIDTH, height), layout="constrained")


def legend(figure: Figure, panels: Axes | Sequence[Axes], columns: int) -> None:
    """One legend of all panels' labels above the figure, where it covers no data."""
    entries: dict[str, Any] = {}
    for axes in np.atleast_1d(panels):
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    figure.legend(entries.values(), entries.keys(), loc="outside upper center", ncols=columns)


def single_beta(table: pd.DataFrame) -> bool:
    """Whether every point has beta = 1, so that the abscissa is the decoder variance itself."""
    return bool((table["beta"] == 1).all())


def x_label(table: pd.DataFrame) -> str:
    """Label of the abscissa beta * sigma2, in squared units of the data."""
    units = "(units of data$^2$)"
    return rf"decoder variance $\sigma^2$ {units}" if single_beta(table) else rf"$\beta\sigma^2$ {units}"


def n_latents(dimensions: pd.DataFrame) -> int:
    """Number of latents of the networks behind a dimensions table."""
    return int(dimensions["latent"].nunique())


def linear_bound(spectrum: Mapping[str, Any], n_latent: int) -> float:
    """Abscissa below which pPCA is only a bound: for data that look Gaussian, 0 else (it is no optimum there)."""
    return ppca_exact_above(spectrum["eigenvalues"], n_latent) if looks_gaussian(spectrum) else 0.0


def dense(table: pd.DataFrame, eigenvalues: Sequence[float], n_latent: int) -> NDArray:
    """Abscissae for curves over the table's range, with both sides of every threshold in it."""
    x = table["beta"] * table["sigma2"]
    low, high = float(x.min()), float(x.max())
    thresholds = np.asarray(eigenvalues[:n_latent])
    thresholds = thresholds[(thresholds > low) & (thresholds < high)]
    return np.unique(np.concatenate([np.linspace(low, high, 400), thresholds * (1 - 1e-9), thresholds]))


def points(
    axes: Axes, table: pd.DataFrame, column: str, color: Any, label: str | None, bound: float, marker: str = "o"
) -> None:
    """Measured points: seeds' mean with a bar from least to greatest; hollow below the abscissa `bound`."""
    means = seed_means(table, column)
    spread = np.array([means["mean"] - means["min"], means["max"] - means["mean"]])
    for keep, face in ((means["x"] >= bound, color), (means["x"] < bound, "white")):
        if keep.any():
            bars = spread[:, keep] if (means["count"] > 1).any() else None
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


def theory_line(axes: Axes, x: NDArray, y: NDArray, spectrum: Mapping[str, Any], n_latent: int) -> None:
    """The pPCA curve: theory of Gaussian data where it is exact, a dashed bound below; of linear VAEs otherwise."""
    bound = linear_bound(spectrum, n_latent)
    label = "theory (pPCA)" if looks_gaussian(spectrum) else "linear VAE (pPCA)"
    axes.plot(x[x >= bound], y[x >= bound], color=BLACK, linewidth=0.8, label=label, zorder=2)
    if (x < bound).any():
        axes.plot(x[x < bound], y[x < bound], "--", color=GREY, linewidth=0.8, label="linear bound", zorder=2)


def fitted_lines(axes: Axes, fit: Mapping[str, Any], x: NDArray, derivative: int = 0) -> None:
    """The fitted forms or a derivative of theirs, each over its window: the default solid, the others thin dashed."""
    for name, model in fit["models"].items():
        if model.get("parameters") is None or name not in (*DRAWN_FORMS, fit["model"]):
            continue
        low, high = model["window"]
        low, high = max(low, x.min()), min(high, x.max())
        inside = np.unique(np.concatenate([x[(x >= low) & (x <= high)], _kinks(name, model, low, high)]))
        look = {"linewidth": 1.4} if name == fit["model"] else {"linewidth": 0.8, "linestyle": "--"}
        y = form_curve(name, model["parameters"], inside, derivative)
        axes.plot(inside, y, color=FORM_COLORS[name], label=f"fit: {FORM_LABELS[name]}", zorder=2.5, **look)


def derivative_band(axes: Axes, fit: Mapping[str, Any], order: int, left: float) -> None:
    """95 % band of a derivative of the default form, from x = `left` up."""
    if not fit.get("derivatives"):
        return
    x, band = np.array(fit["derivatives"]["x"]), fit["derivatives"][("first", "second")[order - 1]]
    low, high = (np.array(band[key])[x >= left] for key in ("low", "high"))
    axes.fill_between(
        x[x >= left], low, high, color=FORM_COLORS[fit["model"]], alpha=0.2, linewidth=0, label="95 % band", zorder=1
    )


def mark_prediction(axes: Axes, spectrum: Mapping[str, Any], label: str | None = r"predicted $\lambda_1$") -> None:
    """Dotted line at the predicted critical variance."""
    critical = critical_variance(spectrum["eigenvalues"])
    axes.axvline(critical, color=BLACK, linestyle=":", linewidth=0.8, label=label, zorder=1)


def mark_fit(axes: Axes, fit: Mapping[str, Any]) -> None:
    """Band of the fitted critical variance's 95 % interval, or the reason why there is none."""
    critical = fit["critical_variance"]
    if critical is None:
        axes.set_title(f"no fit: {fit.get('reason')}", fontsize=7, wrap=True)
        return
    left, right = axes.get_xlim()
    low, high = (edge if edge is not None else end for edge, end in zip(fit["ci95"], (left, right), strict=True))
    label = rf"fitted $\sigma_c^2 = {critical:.4g}$ (95 %)"
    axes.axvspan(low, high, color=SKY, alpha=0.45, linewidth=0, label=label, zorder=0)
    axes.axvline(critical, color=SKY, linewidth=0.8, zorder=0.5)


def _kinks(name: str, model: Mapping[str, Any], low: float, high: float) -> NDArray:
    """Both sides of every kink of a form within its window, so that jumps of derivatives are drawn upright."""
    parameters = model["parameters"]
    kinks = np.asarray(parameters["eigenvalues"] if name == "cascade" else [parameters["critical_variance"]])
    kinks = kinks[(kinks > low) & (kinks < high)]
    return np.concatenate([kinks * (1 - 1e-9), kinks])
