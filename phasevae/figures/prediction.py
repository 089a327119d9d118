"""Figures of a prediction: the spectrum against the effective variance, and KL against its weight."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from phasevae.figures.marks import BLACK, BLUE, GREY, ORANGE, STYLE, VERMILION, WIDTH, figure_of
from phasevae.prediction.losses import PER_FEATURE
from phasevae.prediction.optimum import kl_and_error
from phasevae.spectrum.variance_proxy import COEXISTENCE_RATIO

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from phasevae.prediction.predict import Prediction


MOST_LATENTS = 8
"""Latents with a curve of their own."""

_POINTS = {True: 12, False: 200}
"""Weights on the KL curve, with and without a factor analysis at each."""


def draw_prediction(prediction: Prediction) -> list[Figure]:
    """Both figures."""
    import matplotlib

    with matplotlib.rc_context(STYLE):
        return [spectrum(prediction), kl(prediction)]


def spectrum(prediction: Prediction) -> Figure:
    """Eigenvalues with their standard errors; those that an active latent carries are filled."""
    found, k = prediction.setting.spectrum, prediction.active_dims
    figure = figure_of(0.75 * WIDTH)
    axes = figure.subplots()
    shown = found.eigenvalues[: max(64, 2 * prediction.setting.n_latent)]
    shown = shown[shown > 1e-9 * shown[0]]
    index = np.arange(1, shown.size + 1)
    errors = found.standard_errors[: shown.size]
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
        axes.axhline(prediction.effective_variance, color=VERMILION, label="effective variance")
    variance_proxy = found.variance_proxy
    if variance_proxy is not None and variance_proxy > COEXISTENCE_RATIO * found.critical_variance:
        axes.axhline(variance_proxy, color=ORANGE, linestyle=":", label="active state possible below")
    axes.set(xlabel="principal component", ylabel=r"eigenvalue $\lambda_i$", yscale="log")
    axes.legend()
    return figure


def kl(prediction: Prediction) -> Figure:
    """Total KL and that of the leading latents against the weight of KL."""
    setting = prediction.setting
    figure = figure_of(0.75 * WIDTH)
    axes = figure.subplots()
    critical, weight = prediction.critical_kl_weight, setting.kl_weight
    low, high = min(0.05 * critical, 0.5 * weight), max(2 * critical, 2 * weight)
    weights = np.geomspace(low, high, _POINTS[setting.convention.decoder == PER_FEATURE])
    curves = np.array([kl_and_error(replace(setting, kl_weight=float(w)))[1] for w in weights])
    curves[~np.isfinite(curves)] = np.nan
    axes.plot(weights, curves.sum(1), color=BLACK, label="all latents")
    for j in range(min(setting.n_latent, MOST_LATENTS)):
        axes.plot(weights, curves[:, j], color=BLUE, linewidth=0.7, label="each latent" if j == 0 else None)
    axes.axvline(critical, color=GREY, linestyle=":", label="all collapsed from here")
    axes.axvline(weight, color=VERMILION, label="your weight")
    axes.set(xlabel="weight of KL in the loss", ylabel="KL (nats per sample)", xscale="log")
    axes.set_ylim(bottom=0)
    axes.legend()
    return figure
