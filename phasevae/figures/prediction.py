"""Figures of a prediction: the eigenvalues with the effective variance, and KL as a function of its weight."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from phasevae.figures.marks import BLACK, BLUE, GREY, ORANGE, STYLE, VERMILION, WIDTH, figure_of, legend
from phasevae.prediction.losses import OWN, PER_FEATURE
from phasevae.prediction.optimum import kl_and_error
from phasevae.spectrum.variance_proxy import COEXISTENCE_RATIO

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from phasevae.prediction.predict import Prediction


MOST_LATENTS = 8
"""Number of latents with a curve of their own."""

_POINTS = {True: 12, False: 200}
"""Number of weights on the KL curve, with and without a factor analysis at each."""


def draw_prediction(prediction: Prediction) -> list[Figure]:
    """Draw KL as a function of its weight, then the spectrum."""
    import matplotlib

    with matplotlib.rc_context(STYLE):
        return [kl(prediction), spectrum(prediction)]


def spectrum(prediction: Prediction) -> Figure:
    """Draw the eigenvalues with their standard errors; those that an active latent carries are filled."""
    measured, k = prediction.setting.spectrum, prediction.active_dims
    figure = figure_of(0.75 * WIDTH)
    axes = figure.subplots()
    shown = measured.eigenvalues[: max(64, 2 * prediction.setting.n_latent)]
    shown = shown[shown > 1e-9 * shown[0]]
    index = np.arange(1, shown.size + 1)
    errors = measured.standard_errors[: shown.size]
    for part, face, label in ((index <= k, BLUE, "carried by a latent"), (index > k, "white", "not carried")):
        if part.any():
            axes.errorbar(
                index[part],
                shown[part],
                errors[part],
                fmt="o",
                color=BLUE,
                markerfacecolor=face,
                elinewidth=0.7,
                label=label,
            )
    if prediction.effective_variance > 0:
        # A latent lives where its eigenvalue exceeds this.
        level = prediction.effective_variance / prediction.setting.limits.threshold_factor
        axes.axhline(level, color=VERMILION, label="effective variance")
    variance_proxy = measured.variance_proxy
    if variance_proxy is not None and variance_proxy > COEXISTENCE_RATIO * measured.critical_variance:
        axes.axhline(variance_proxy, color=ORANGE, linestyle=":", label="active state possible below")
    axes.set(xlabel="principal component", ylabel=r"eigenvalue $\lambda_i$", yscale="log")
    legend(figure, axes, 2)
    return figure


def kl(prediction: Prediction) -> Figure:
    """Draw the total KL and that of the leading latents as functions of the weight of KL."""
    setting = prediction.setting
    figure = figure_of(0.75 * WIDTH)
    axes = figure.subplots()
    weight = setting.kl_weight
    finite = [threshold.kl_weight for threshold in prediction.thresholds if np.isfinite(threshold.kl_weight)]
    critical = max(finite, default=weight)
    low, high = min(0.05 * critical, 0.5 * weight), max(2 * critical, 2 * weight)
    weights = np.geomspace(low, high, _POINTS[setting.loss.decoder == PER_FEATURE])
    curves = np.array([kl_and_error(replace(setting, kl_weight=float(w)))[1] for w in weights])
    curves[~np.isfinite(curves)] = np.nan
    axes.plot(weights, curves.sum(1), color=BLACK, label="all latents")
    for j in range(min(setting.n_latent, MOST_LATENTS)):
        axes.plot(weights, curves[:, j], color=BLUE, linewidth=0.7, label="each latent" if j == 0 else None)
    if critical == prediction.critical_kl_weight:
        axes.axvline(critical, color=GREY, linestyle=":", label="all collapsed from here on")
    own = setting.loss.name == OWN
    axes.axvline(weight, color=VERMILION, label="your factor" if own else "your KL weight")
    axes.set(
        xlabel="factor of the KL term" if own else "weight of KL in the loss",
        ylabel="KL (nats per sample)",
        xscale="log",
    )
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")  # labels between the decades would overlap
    axes.set_ylim(bottom=0)
    legend(figure, axes, 2)
    return figure
