"""Figures of a sweep over the decoder variance. Their inputs are those of `registry.render_figure`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from phasevae.analysis.sweep_table import over_beta, seed_means
from phasevae.figures.labels import single_beta, x_label
from phasevae.figures.marks import (
    AWARE,
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PALETTE,
    PURPLE,
    SKY,
    VERMILION,
    dense,
    derivative_band,
    figure_of,
    fitted_lines,
    legend,
    linear_bound,
    mark_fit,
    mark_prediction,
    n_latents,
    points,
    theory_line,
)
from phasevae.spectrum.spectrum import Spectrum, looks_gaussian
from phasevae.sweeps.resources import LIKELIHOOD_ROWS
from phasevae.theory import conditional
from phasevae.theory.ppca import collapsed_elbo

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike

    from phasevae.analysis.kl_fit.critical_point import CriticalPoint


BETA_COLORS = (BLUE, PURPLE, SKY, VERMILION)
NEAR = 0.65
"""Derivatives are drawn from this part of the predicted critical variance up."""

NEAR_INSET = 0.86, 1.2
"""The inset of KL shows the points between these parts of the predicted critical variance."""

INSET_POINTS = 4
"""Least number of points for an inset."""


def elbo(sweep: pd.DataFrame, dimensions: pd.DataFrame, spectrum: Spectrum) -> Figure:
    """Draw ELBO, log likelihood and KL, the ELBO of the collapsed state (Eq. 24) and theory (Figs. 2a, 4a)."""
    modes, n_latent = spectrum.modes, n_latents(dimensions)
    bound = linear_bound(spectrum, n_latent)
    figure = figure_of(3.3)
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[2.2, 1])
    if spectrum.likelihood is None:
        _elbo_over_sigma2(top, sweep, spectrum, n_latent)
    else:
        top.axhline(-spectrum.likelihood.collapsed_loss, color=ORANGE, linestyle="-.", label="collapsed", zorder=1)
        _log_likelihood(top, sweep, spectrum, bound)
        points(top, sweep, "elbo", BLUE, "ELBO", bound)
    top.set_ylabel("ELBO, log likelihood\n(nats per sample)")
    x = dense(sweep, spectrum, n_latent)
    theory_line(bottom, x, conditional.kl(modes, x, n_latent), spectrum, n_latent)
    points(bottom, sweep, "kl", VERMILION, "KL", bound, marker="^")
    bottom.set(xlabel=x_label(sweep), ylabel="KL (nats)")
    mark_prediction(bottom, spectrum, label=None)
    mark_prediction(top, spectrum)
    legend(figure, (top, bottom), 2)
    return figure


def _elbo_over_sigma2(axes: Axes, sweep: pd.DataFrame, spectrum: Spectrum, n_latent: int) -> None:
    """Draw ELBO and log likelihood of a Gaussian decoder with theory. The ELBO depends on sigma2 and beta, not on their
    product alone: a curve for each beta."""
    modes, bound = spectrum.modes, linear_bound(spectrum, n_latent)
    betas = sorted(sweep["beta"].unique())
    for i, beta in enumerate(betas):
        x = dense(sweep[sweep["beta"] == beta], spectrum, n_latent)
        theory_line(axes, x, conditional.elbo(modes, x / beta, n_latent, beta), spectrum, n_latent)
        collapsed = collapsed_elbo(spectrum.trace, spectrum.dimension, x / beta)
        label = None if i else "collapsed (Eq. 24)"
        axes.plot(x, collapsed, color=ORANGE, linestyle="-.", label=label, zorder=1)
    likelihood = conditional.gaussian_log_likelihood(modes) if looks_gaussian(spectrum) else None
    if likelihood is not None:
        axes.axhline(likelihood, color=GREY, linestyle=":", label="data log likelihood")
    for i, beta in enumerate(betas):
        rows, named = sweep[sweep["beta"] == beta], "" if len(betas) == 1 else rf", $\beta = {beta:g}$"
        _log_likelihood(axes, rows, spectrum, bound, is_named=not i)
        points(axes, rows, "elbo", BETA_COLORS[i % len(BETA_COLORS)], f"ELBO{named}", bound)


def _log_likelihood(axes: Axes, sweep: pd.DataFrame, spectrum: Spectrum, bound: float, is_named: bool = True) -> None:
    """Draw the log likelihood; where it is of a part of the samples, with its standard error.

    The ELBO is of all samples. On equal samples it is never above the log likelihood, but on a part of them the log
    likelihood may be lower by its error.
    """
    label, errors = "log likelihood", None
    if spectrum.n_samples > LIKELIHOOD_ROWS and "log_likelihood_standard_error" in sweep:
        label, errors = f"log likelihood of {LIKELIHOOD_ROWS}\nsamples, standard error", "log_likelihood_standard_error"
    points(axes, sweep, "log_likelihood", GREEN, label if is_named else None, bound, marker="D", errors=errors)


def latent_variance(dimensions: pd.DataFrame, spectrum: Spectrum) -> Figure:
    """Draw mean latent variances, the most informative first, and theory, min(1, x / lambda_j) (Figs. 2b, 4b)."""
    from matplotlib import colormaps

    modes, n_latent = spectrum.modes, n_latents(dimensions)
    bound = linear_bound(spectrum, n_latent)
    ranked = dimensions.sort_values("kl", ascending=False, kind="stable")
    ranked = ranked.assign(rank=ranked.groupby(["sigma2", "beta", "seed"]).cumcount())
    x = dense(dimensions, spectrum, n_latent)
    curves = conditional.latent_variance(modes, x, n_latent)
    n_active = max(1, int((curves < 1).any(0).sum()))
    colors = list(PALETTE[:n_active])
    if n_active > len(PALETTE):
        colors = list(colormaps["viridis"](np.linspace(0, 0.92, n_active)))
    figure = figure_of(2.7)
    axes = figure.subplots()
    is_named = n_active <= len(PALETTE)
    if is_named:
        for j, color in enumerate(colors):
            axes.plot([], [], "o", color=color, label=f"latent {j + 1}")
    else:
        _bar_of_latents(figure, axes, colors)
        axes.plot([], [], "o", color=BLACK, label="measured")
    # From the last latent to the first: where all are collapsed the leading one lies on top.
    for j in reversed(range(n_latent)):
        color = colors[j] if j < n_active else GREY
        largest = max((mode.eigenvalues[j] for mode in modes if j < mode.eigenvalues.size), default=0.0)
        if j < n_active and largest <= x.max():
            axes.axvline(largest, color=color, linestyle=":", linewidth=0.7, zorder=0)
        axes.plot(x, curves[:, j], "--" if spectrum.is_bound else "-", color=color, zorder=1)
        label = "the others" if j == n_active else None
        points(axes, ranked[ranked["rank"] == j], "latent_variance", color, label, bound)
    theory, predicted = (AWARE, r"its $\lambda_j$") if spectrum.is_bound else ("pPCA", r"predicted $\lambda_j$")
    axes.plot([], [], "--" if spectrum.is_bound else "-", color=BLACK, label=theory)
    axes.plot([], [], ":", color=BLACK, linewidth=0.7, label=predicted)
    axes.set(xlabel=x_label(dimensions), ylabel=r"mean latent variance $\mathrm{E}_x\,\sigma_j^2$")
    axes.set_ylim(bottom=0)
    legend(figure, axes, 3 if is_named or n_active == n_latent else 2)
    return figure


def _bar_of_latents(figure: Figure, axes: Axes, colors: Sequence[ArrayLike]) -> None:
    """Draw a bar with the colour of each latent: more than a legend can name."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import BoundaryNorm, ListedColormap

    numbers = np.arange(1, len(colors) + 1)
    scale = ScalarMappable(BoundaryNorm(np.arange(len(colors) + 1) + 0.5, len(colors)), ListedColormap(colors))
    bar = figure.colorbar(scale, ax=axes, label="latent", aspect=30, pad=0.02)
    bar.set_ticks(numbers[:: 1 + len(colors) // 12])
    bar.ax.tick_params(which="both", length=0)


def kl(sweep: pd.DataFrame, dimensions: pd.DataFrame, fit: CriticalPoint, spectrum: Spectrum) -> Figure:
    """Draw KL with its piecewise fits, theory, and the predicted and fitted critical variance (Figs. 2c, 4c)."""
    modes, n_latent = spectrum.modes, n_latents(dimensions)
    figure = figure_of(3.2)
    axes = figure.subplots()
    x = dense(sweep, spectrum, n_latent)
    panels = [axes]
    near = seed_means(sweep, ["kl"])["kl"]
    low, high = (part * spectrum.critical_variance for part in NEAR_INSET)
    near = near[(near.index >= low) & (near.index <= high)]
    if len(near) >= INSET_POINTS and near.index.min() > x.min():
        panels.append(axes.inset_axes((0.5, 0.42, 0.47, 0.55)))
    for panel in panels:
        theory_line(panel, x, conditional.kl(modes, x, n_latent), spectrum, n_latent)
        fitted_lines(panel, fit, x)
        mark_prediction(panel, spectrum)
        points(panel, sweep, "kl", BLUE, "measured", linear_bound(spectrum, n_latent))
    for panel in panels[1:]:
        left, right, top = near.index.min(), near.index.max(), near["max"].max()
        panel.set(xlim=(left - 0.04 * (right - left), right + 0.04 * (right - left)), ylim=(-0.08 * top, 1.08 * top))
        panel.tick_params(labelsize=6)
        panel.locator_params(nbins=4)
        # Lines of the outer axes pass below the numbers.
        for label in (*panel.get_xticklabels(), *panel.get_yticklabels()):
            label.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.4})
    for panel in panels if fit.determined is not None else panels[:1]:
        mark_fit(panel, fit)
    axes.set(xlabel=x_label(sweep), ylabel="KL divergence (nats)")
    legend(figure, axes, 2)
    return figure


def kl_derivatives(sweep: pd.DataFrame, dimensions: pd.DataFrame, fit: CriticalPoint, spectrum: Spectrum) -> Figure:
    """Draw the first and second derivative of the fitted KL and of theory (Fig. 2c).

    The curves begin at NEAR lambda_1, because the steeper slopes far below would hide the jump. Points are difference
    quotients of seed means between neighbouring decoder variances. There are no second differences: on any grid that
    resolves the transition their noise is tens of times larger than the curves.
    """
    modes, n_latent, critical = spectrum.modes, n_latents(dimensions), spectrum.critical_variance
    figure = figure_of(3.8)
    panels = figure.subplots(2, 1, sharex=True)
    x = dense(sweep, spectrum, n_latent)
    left = NEAR * critical if x.max() > critical else 0.0
    x = x[x >= left]
    slopes = conditional.kl_slope(modes, x, n_latent), conditional.kl_curvature(modes, x, n_latent)
    for order, (axes, values) in enumerate(zip(panels, slopes, strict=True), start=1):
        theory_line(axes, x, values, spectrum, n_latent)
        derivative_band(axes, fit, order, left)
        fitted_lines(axes, fit, x, order)
        mark_prediction(axes, spectrum)
        mark_fit(axes, fit)
    means = seed_means(sweep, ["kl"])["kl"]["mean"]
    grid = means.index.to_numpy()
    middle, quotient = (grid[1:] + grid[:-1]) / 2, np.diff(means) / np.diff(grid)
    panels[0].plot(
        middle[middle >= left], quotient[middle >= left], "o", color=BLUE, label="difference quotients", zorder=3
    )
    over, units = r"(\sigma^2)" if single_beta(sweep) else r"(\beta\sigma^2)", ("nats / data$^2$", "nats / data$^4$")
    if over_beta(sweep):
        over, units = r"\beta", ("nats", "nats")
    panels[0].set_ylabel(rf"$\mathrm{{d}}\mathrm{{KL}}/\mathrm{{d}}{over}$" f"\n({units[0]})")
    panels[1].set_ylabel(rf"$\mathrm{{d}}^2\mathrm{{KL}}/\mathrm{{d}}{over}^2$" f"\n({units[1]})")
    panels[1].set_xlabel(x_label(sweep))
    legend(figure, panels[0], 2)
    return figure
