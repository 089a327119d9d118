"""Figures of the analysis: exponents, slowing down, cascade, beta equivalence, hysteresis, soft modes.

Their inputs are those of `registry.render_figure`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from phasevae.analysis.beta_equivalence import fixed_parameter_curves
from phasevae.analysis.hysteresis import SIGMAS, branch_means, measured_hysteresis
from phasevae.analysis.order import quantities
from phasevae.analysis.sweep_table import BETA, abscissa
from phasevae.figures.labels import abscissa_symbol, critical_symbol, plain_log_ticks, x_label
from phasevae.figures.marks import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PALETTE,
    VERMILION,
    dense,
    figure_of,
    legend,
    mark_prediction,
    n_latents,
    say_why_not,
    theory_line,
)
from phasevae.theory import conditional, stability

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from phasevae.analysis.pipeline import Analysis
    from phasevae.analysis.records import Estimate, Interval
    from phasevae.spectrum.spectrum import Spectrum


_SCALED = {
    "kl": ("KL (nats)", BLUE, "o", 1.0),
    "amplitude": (r"amplitude $\sqrt{\mathrm{E}|f - \bar f|^2}$", VERMILION, "s", 0.5),
    "gap": ("ELBO gap (nats)", GREEN, "D", 1.0),
}


def exponents(sweep: pd.DataFrame, fit: Analysis) -> Figure:
    """Draw KL, decoder amplitude and ELBO gap against t = 1 - x / c on logarithmic axes, with their exponents."""
    measured, c = quantities(sweep), fit.determined
    figure = figure_of(3.0)
    axes = figure.subplots()
    axes.set(
        xscale="log",
        yscale="log",
        xlabel=rf"$t = 1 - {abscissa_symbol(fit)} / {critical_symbol(fit)}$",
        ylabel=f"order parameters\n(nats; amplitude in {'its units' if fit.abscissa == BETA else 'units of data'})",
    )
    if c is None:
        say_why_not(axes, "fit", fit.why_undetermined)
        return figure
    for name, (quantity, color, marker, share) in _SCALED.items():
        points = measured["amplitude2" if name == "amplitude" else name]
        t = 1 - points.x / c
        use = (t > 0) & (points.kl > 0)
        exponent, label = getattr(fit.exponents, name), quantity
        if exponent is not None:
            label += ": " + _estimate("$g$", exponent)
            grid = np.geomspace(*(1 - np.array(fit.exponents.window)[::-1] / c), 50)
            own = 1 - c * (1 - grid) / exponent.critical_variance
            curve = exponent.prefactor * own ** (exponent.value / share) * (1 + exponent.correction * own)
            axes.plot(grid, np.maximum(curve, 1e-12) ** share, color=color, linewidth=0.9, zorder=2)
        axes.plot(t[use], points.kl[use] ** share, marker, color=color, label=label, zorder=3)
    if fit.exponents.reason:
        say_why_not(axes, "exponents", fit.exponents.reason)
    else:
        axes.plot([], [], color=BLACK, linewidth=0.9, label=r"fit $A t^g (1 + a t)$")
    plain_log_ticks(axes.xaxis)
    legend(figure, axes, 3 if fit.exponents.reason else 1)
    return figure


def slowing(fit: Analysis) -> Figure:
    """Draw the relaxation time of KL against the distance from the transition.

    The fitted power is drawn if the 95 % interval of its exponent leaves out 0: otherwise no power shows, and the title
    says so.
    """
    c, exponent = fit.critical_variance, fit.slowing.exponent
    shown = exponent if exponent and not exponent.ci95[0] <= 0 <= exponent.ci95[1] else None
    ratio = f"{abscissa_symbol(fit)} / {critical_symbol(fit)}"
    figure = figure_of(2.6)
    axes = figure.subplots()
    axes.set(xscale="log", yscale="log", xlabel=rf"distance from the transition $|\ln({ratio})|$")
    axes.set_ylabel("relaxation time of KL\n(learning rate $\\times$ steps)")
    if not fit.slowing.x:
        say_why_not(axes, "relaxation times", fit.slowing.reason)
        return figure
    x, tau = np.array(fit.slowing.x), np.array(fit.slowing.tau)
    distance = np.abs(np.log(x / c))
    for side, keep, color, marker in (("below", x < c, BLUE, "o"), ("above", x > c, VERMILION, "s")):
        if keep.any():
            axes.plot(distance[keep], tau[keep], marker, color=color, label=f"{side} the transition", zorder=3)
        prefactor = shown and getattr(shown, side)
        if prefactor is not None:
            grid = np.array([distance[keep].min(), distance[keep].max()])
            axes.plot(grid, prefactor * grid**-shown.value, color=color, linewidth=0.9, zorder=2)
    if shown:
        label = rf"fit $A\,|\ln({ratio})|^{{-\nu}}$: " + _estimate(r"$\nu$", shown)
        axes.plot([], [], color=BLACK, linewidth=0.9, label=label)
    elif exponent:
        axes.set_title(f"no power law: {_estimate('exponent', exponent)}", fontsize=7)
    else:
        say_why_not(axes, "exponent", fit.slowing.reason)
    plain_log_ticks(axes.xaxis)
    plain_log_ticks(axes.yaxis)
    legend(figure, axes, 1 if shown else 2)
    return figure


def cascade(dimensions: pd.DataFrame, fit: Analysis, spectrum: Spectrum) -> Figure:
    """Draw the number of active modes against the decoder variance, and the threshold of each mode.

    Of data with classes, these are the modes of all classes, and the number is that of the class with the most. Beside
    the first threshold is the critical point of the figure `kl`. Both are of the same transition, but one is fitted to
    the KL of a single mode and the other to the KL of all. A threshold that the points do not determine on both sides
    is left out.
    """
    from matplotlib.ticker import MaxNLocator

    n_latent = n_latents(dimensions)
    figure = figure_of(3.9)
    top, bottom = figure.subplots(2, 1, height_ratios=[1, 1.2])
    x = dense(dimensions, spectrum, n_latent)
    steps = conditional.active_dims(spectrum.modes, x, n_latent)
    theory_line(top, x, steps.astype(float), spectrum, n_latent)
    staircase = fit.cascade.staircase
    if staircase is None and not fit.conditions:
        say_why_not(top, "thresholds", fit.cascade.reason)
    elif staircase is not None:
        top.plot(staircase.x, staircase.active, "o", color=BLUE, label="active modes", zorder=3)
    top.set(xlabel=x_label(dimensions), ylabel="active dimensions")
    top.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 4, 5, 10], integer=True))
    low, high = conditional.thresholds(spectrum.modes, n_latent)[[-1, 0]]
    bottom.plot([low, high], np.zeros(2), color=BLACK, linewidth=0.8)
    modes = [*fit.cascade.modes, *(mode for each in fit.conditions for mode in each.thresholds.modes)]
    own = [(mode.predicted, mode.predicted, mode.threshold, mode.ci95) for mode in modes]
    _deviations(bottom, own, "o", BLUE, "from the KL of one mode")
    if not fit.predicted.is_upper_bound:
        total = (high + 0.03 * (high - low), high, fit.critical_variance, fit.ci95)
        _deviations(bottom, [total], "s", VERMILION, "from the total KL (figure kl)")
    units = "" if spectrum.likelihood else " (units of data$^2$)"
    bottom.set(xlabel=rf"predicted $\lambda_j${units}", ylabel="measured minus\npredicted threshold (%)")
    legend(figure, (top, bottom), 2)
    return figure


def beta_equivalence(sweep: pd.DataFrame, dimensions: pd.DataFrame, spectrum: Spectrum) -> Figure:
    """Draw KL against beta * sigma2, one colour per sweep at fixed beta or sigma2, with the theory of all."""
    n_latent = n_latents(dimensions)
    figure = figure_of(2.6)
    axes = figure.subplots()
    x = dense(sweep, spectrum, n_latent)
    theory_line(axes, x, conditional.kl(spectrum.modes, x, n_latent), spectrum, n_latent)
    over = {"beta": r"over $\sigma^2$ at $\beta$", "sigma2": r"over $\beta$ at $\sigma^2$"}
    for i, curve in enumerate(fixed_parameter_curves(sweep)):
        color, label = PALETTE[i % len(PALETTE)], f"{over[curve.fixed]} = {curve.value:g}"
        hollow = {"markerfacecolor": "none"} if i else {}
        axes.plot(curve.x, curve.kl, "os^Dv<>"[i % 7], color=color, label=label, zorder=3, **hollow)
    mark_prediction(axes, spectrum)
    axes.set(xlabel=r"$\beta\sigma^2$ (units of data$^2$)", ylabel="KL divergence (nats)")
    legend(figure, axes, 2)
    return figure


def hysteresis(hysteresis: pd.DataFrame, spectrum: Spectrum) -> Figure:
    """Draw the KL of models on an upward sweep and of fresh models, and the ELBO gap of the upward sweep.

    The gap has error bars of 3 standard errors and an axis that is linear within 1e-3 nats.
    """
    up = branch_means(hysteresis).get("up")
    binodal = measured_hysteresis(hysteresis, spectrum.critical_variance).binodal
    figure = figure_of(3.6)
    top, bottom = figure.subplots(2, 1, sharex=True)
    looks = {"up": (VERMILION, "o", "upwards from active"), "fresh": (BLUE, "s", "fresh")}
    for name, rows in hysteresis.groupby("branch"):
        color, marker, label = looks[name]
        top.plot(abscissa(rows), rows["kl"], marker, color=color, markerfacecolor="none", label=label, zorder=3)
    if up:
        top.plot(up.x, up.kl, color=VERMILION, linewidth=0.8)
        bars = SIGMAS * up.error
        bottom.errorbar(up.x, up.gap, bars, fmt="o-", color=VERMILION, linewidth=0.8, elinewidth=0.7, zorder=3)
    bottom.set_yscale("symlog", linthresh=1e-3)
    bottom.axhline(0, color=ORANGE, linestyle="-.", linewidth=0.8, label="collapsed (Eq. 24)")
    for axes in (top, bottom):
        mark_prediction(axes, spectrum)
        if binodal and binodal.value:
            label = f"binodal {binodal.value:.4g}"
            axes.axvline(binodal.value, color=GREY, linestyle="--", linewidth=0.8, label=label, zorder=1)
    top.set_ylabel("KL (nats)")
    bottom.set(xlabel=x_label(hysteresis), ylabel="ELBO $-$ collapsed\n(nats, 3 standard errors)")
    legend(figure, (top, bottom), 2)
    return figure


def soft_modes(spectrum: Spectrum) -> Figure:
    """Draw the lowest curvature of the ELBO at the collapsed state for the leading directions and both channels."""
    eigenvalues = spectrum.leading.eigenvalues
    figure = figure_of(2.6)
    axes = figure.subplots()
    x = np.linspace(0.4, 1.6, 200) * eigenvalues[0]
    modes = stability.soft_modes(eigenvalues, x)
    for j in reversed(range(min(4, eigenvalues.size))):
        axes.plot(x, modes["mean"][:, j], color=PALETTE[j], label=rf"mean, $\lambda_{j + 1}$")
        axes.plot(x, modes["width"][:, j], "--", color=PALETTE[j])
    axes.plot([], [], "--", color=BLACK, label="width channel")
    axes.axhline(0, color=GREY, linewidth=0.6)
    mark_prediction(axes, spectrum)
    axes.set(
        xlabel=r"decoder variance $\sigma^2$ (units of data$^2$)",
        ylabel="lowest curvature of $-$ELBO\nat the collapsed state (nats)",
    )
    legend(figure, axes, 3)
    return figure


def _deviations(
    axes: Axes,
    thresholds: Iterable[tuple[float | None, float | None, float | None, Interval | None]],
    marker: str,
    color: str,
    label: str,
) -> None:
    """Draw how far thresholds are from the predicted ones, in percent, with their 95 % intervals.

    Parameters
    ----------
    axes
        Where to draw.
    thresholds
        Of each the abscissa, the predicted and the fitted threshold and its interval. Those that are undetermined, also
        on one side alone, are left out.
    marker, color, label
        Look of the points, and their name in the legend.
    """
    known = [each for each in thresholds if each[1] and each[2] is not None and None not in each[3]]
    if not known:
        return
    x, predicted, fitted, intervals = (np.array(column, dtype=float) for column in zip(*known, strict=True))
    low, high = np.abs(intervals - fitted[:, None]).T * 100 / predicted
    place = 100 * fitted / predicted - 100
    axes.errorbar(x, place, (low, high), fmt=marker, color=color, elinewidth=0.7, label=label, zorder=3)


def _estimate(name: str, estimate: Estimate) -> str:
    low, high = ("open" if edge is None else f"{edge:.2f}" for edge in estimate.ci95)
    return f"{name} = {estimate.value:.2f} [{low}, {high}]".replace("-", "\N{MINUS SIGN}")
