"""Figures that need no sweep: the ELBO surface and the spectrum of the data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from phasevae.figures.marks import BLACK, BLUE, GREY, VERMILION, figure_of, legend
from phasevae.theory.linear_vae import linear_vae_elbo
from phasevae.theory.ppca import NO_VARIANCE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from phasevae.spectrum.spectrum import Spectrum


def landscape() -> Figure:
    """Draw the ELBO of a linear VAE with one latent on unit-variance data, over both amplitudes (Fig. 1)."""
    figure = figure_of(2.1)
    panels = figure.subplots(1, 2, sharey=True)
    grid = np.linspace(-1.3, 1.3, 261)
    u, v = np.meshgrid(grid, grid)
    for axes, sigma2 in zip(panels, (0.4, 1.4), strict=True):
        gap = linear_vae_elbo(u, v, sigma2) - linear_vae_elbo(0.0, 0.0, sigma2)
        levels = np.linspace(-1.2, 0.3, 16)
        filled = axes.contourf(u, v, gap, levels, cmap="cividis", extend="min")
        axes.contour(u, v, gap, levels, colors="white", linewidths=0.3, linestyles="solid")
        axes.plot(0, 0, "o", color=VERMILION, markersize=4, label="collapsed")
        if sigma2 < 1:
            amplitude = np.sqrt(1 - sigma2)
            peaks = np.array([amplitude, -amplitude])
            axes.plot(peaks, peaks, "*", color=BLACK, markersize=6, label="maximum")
        relation = "<" if sigma2 < 1 else ">"
        axes.set(title=rf"$\sigma^2 = {sigma2}\lambda_1 {relation} \sigma_c^2$", xlabel="decoder amplitude $u$")
        axes.set_aspect("equal")
    panels[0].set_ylabel("encoder amplitude $v$")
    bar = figure.colorbar(filled, ax=panels, shrink=0.85, ticks=[-1.2, -0.9, -0.6, -0.3, 0, 0.3])
    bar.set_label("ELBO $-$ collapsed (nats)")
    legend(figure, panels[0], 2)
    return figure


def spectrum(spectrum: Spectrum) -> Figure:
    """Draw the eigenvalues of the data (or score) covariance with standard errors, and mark the largest (Fig. 3).

    Of data with classes, those of each class are drawn as a line.
    """
    eigenvalues, errors = spectrum.eigenvalues, spectrum.standard_errors
    index = np.arange(1, eigenvalues.size + 1)
    positive = eigenvalues > NO_VARIANCE * eigenvalues[0]
    figure = figure_of(2.4)
    axes = figure.subplots()
    axes.errorbar(index[positive], eigenvalues[positive], errors[positive], fmt="o", color=BLUE, label="eigenvalues")
    for number, each in enumerate(spectrum.conditions):
        varies = each.spectrum.eigenvalues > NO_VARIANCE * eigenvalues[0]
        label = None if number else "of each class"
        axes.plot(index[varies], each.spectrum.eigenvalues[varies], color=GREY, linewidth=0.7, label=label, zorder=1)
    critical = spectrum.critical_variance
    what = "critical variance" if spectrum.likelihood is None else "critical KL weight"
    axes.axhline(critical, color=BLACK, linestyle=":", linewidth=0.8, label=rf"{what} $\lambda_1 = {critical:.4g}$")
    if eigenvalues[positive][-1] < eigenvalues[0] / 30:
        axes.set_yscale("log")
    else:
        axes.set_ylim(0, None)
    axes.xaxis.get_major_locator().set_params(integer=True)
    units = "of the scores" if spectrum.likelihood else "(units of data$^2$)"
    axes.set(xlabel="principal component $i$", ylabel=rf"eigenvalue $\lambda_i$ {units}")
    legend(figure, axes, 2)
    return figure
